/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was told to be committed survives SIGKILL: a child posts and reports through a pipe what is
 * done; it is killed at a random moment; the vault is opened again and everything reported is
 * there. Log entries, batches and the index are all at work.  Rounds are few here; IRIS_TEST_ROUNDS
 * asks for more.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "vault_fixture.h"

#define WINDOW 400 /* messages that may be under way */
#define READER 7

static struct vault_fixture fixture;

static struct iris_query insert = {
	.name = "crash.insert", .table = "test_rows", .key = "id", .write = true,
	.sql = "INSERT INTO test_rows (id, who, n, body) VALUES ($1, 'crash', $2, $3)",
	.params = { { "id", IRIS_INT }, { "n", IRIS_INT }, { "body", IRIS_SEALED } },
};
static struct iris_query count = {
	.name = "crash.count",
	.sql = "SELECT count(*), coalesce(sum(n), 0) FROM test_rows WHERE id >= $1 AND id <= $2",
	.params = { { "from", IRIS_INT }, { "upto", IRIS_INT } },
	.columns = { { "count", IRIS_INT }, { "sum", IRIS_INT } },
};

static void
open_all(void)
{
	struct iris_error error;

	fixture_open(&fixture);
	if (!statement_register(&insert, &error) || !statement_register(&count, &error))
		abort();
}

/* --- the child --- */

struct report {
	int64_t number,
		log_id; /* both rows of the batch and the log entry of this message are committed */
};

static struct {
	int pipe;
	int64_t next, outstanding;
} child;

struct child_message {
	struct report report;
};

static void
child_done(void *arg, bool failed)
{
	struct child_message *message = arg;

	child.outstanding--;
	if (failed ||
	    write(child.pipe, &message->report, sizeof(message->report)) != sizeof(message->report))
		_exit(3);
	free(message);
}

/* Two rows in one transaction (2k and 2k+1), and a log entry, under one ticket. */
static void
child_post(void)
{
	struct child_message *message = iris_malloc(sizeof(*message));
	struct iris_ticket *ticket = ticket_new(child_done, message);
	struct iris_batch *batch = batch_new(1);
	int64_t number = child.next++;
	const struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
					      .owner = 1,
					      .reader = READER,
					      .peer = 1 + number % 3,
					      .body = IRIS_STR("body") };

	message->report = (struct report){ number, entry.id };
	for (int i = 0; i < 2; i++)
		batch_add(
			batch, &insert,
			VALUES(value_int(2 * number + i), value_int(i), value_str(IRIS_STR("x"))));
	if (batch_post(&batch, ticket) != IRIS_VAULT_OK ||
	    log_append(&entry, ticket) != IRIS_VAULT_OK)
		_exit(4);
	child.outstanding++;
	ticket_unref(&ticket);
}

static void
child_run(void *arg)
{
	for (;;) {
		while (child.outstanding < WINDOW)
			child_post();
		if (!fiber_sleep(1))
			return;
	}
}

static void *
child_fill(void *arg)
{
	for (;;)
		vault_log_index_now();
	return NULL;
}

static void
child_main(int pipe, int64_t next)
{
	pthread_t thread;

	worker_main_init();
	open_all();
	child.pipe = pipe;
	child.next = next;
	if (pthread_create(&thread, NULL, child_fill, NULL) != 0 ||
	    !fiber_start("child", child_run, NULL))
		_exit(5);
	worker_run_main();
	_exit(6);
}

/* --- the parent --- */

/* What it reported until it died; -1 when it died by itself. */
static int64_t
child_live(int64_t next, unsigned ms, int64_t *log_ids, size_t *log_count)
{
	int ends[2], status;
	struct report report;
	int64_t last = next - 1;

	if (pipe(ends) != 0)
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		child_main(ends[1], next);
	}
	close(ends[1]);
	/* The clock starts with the first commit that it reports. */
	bool killed = false;
	const struct timespec life = { ms / 1000, ms % 1000 * 1000000L };
	while (read(ends[0], &report, sizeof(report)) == (ssize_t)sizeof(report)) {
		CHECK(report.number == last + 1); /* tickets of one worker are done in order */
		last = report.number;
		log_ids[(*log_count)++] = report.log_id;
		if (!killed) {
			killed = true;
			(void)nanosleep(&life, NULL);
			(void)kill(pid, SIGKILL);
		}
	}
	close(ends[0]);
	(void)waitpid(pid, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return last;
}

#define LOG_IDS_MAX 2000000

struct expectation {
	int64_t last; /* message */
	const int64_t *log_ids;
	size_t log_count;
	int64_t next_r;
};

static void
check_rows(struct expectation *expected, struct iris_arena *arena)
{
	struct iris_rows rows;

	CHECK(vault_read(&count, 0, VALUES(value_int(0), value_int(2 * expected->last + 1)), arena,
			 &rows) == IRIS_VAULT_OK);
	CHECK(row_value(&rows, 0, 0)->number == 2 * (expected->last + 1));
	/* Beyond what was reported there may be more, but no half transactions. */
	CHECK(vault_read(&count, 0, VALUES(value_int(0), value_int(INT64_MAX)), arena, &rows) ==
	      IRIS_VAULT_OK);
	CHECK(row_value(&rows, 0, 0)->number == 2 * row_value(&rows, 0, 1)->number);
	expected->next_r = row_value(&rows, 0, 0)->number / 2;
}

static void
check_log(const struct expectation *expected)
{
	struct iris_log_query query = { .reader = READER, .limit = 1000 };
	size_t found = 0;
	struct iris_log_page page;

	do {
		struct iris_arena *arena = arena_new();
		CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK);
		for (size_t i = 0; i < page.count; i++) {
			if (found < expected->log_count &&
			    page.entries[i].id == expected->log_ids[found])
				found++;
			query.after_id = page.entries[i].id;
		}
		arena_unref(&arena);
	} while (page.more);
	CHECK(found == expected->log_count);
}

static void
run_check(void *arg)
{
	struct iris_arena *arena = arena_new();

	check_rows(arg, arena);
	check_log(arg);
	arena_unref(&arena);
}

static void
check_again(struct expectation *expected)
{
	worker_main_init();
	open_all();
	fixture_run(run_check, expected);
	fixture_close();
	worker_main_free();
}

static void
test_sigkill(void **state)
{
	const char *asked = getenv("IRIS_TEST_ROUNDS");
	long rounds = asked ? strtol(asked, NULL, 10) : 6;
	static int64_t log_ids[LOG_IDS_MAX];
	struct expectation expected = { .last = -1, .log_ids = log_ids };
	unsigned seed = (unsigned)time(NULL);

	for (long i = 0; i < rounds && check_failures == 0; i++) {
		expected.last = child_live(expected.next_r, 20 + (unsigned)rand_r(&seed) % 200,
					   log_ids, &expected.log_count);
		check_again(&expected);
		assert_true(expected.log_count < LOG_IDS_MAX / 2);
	}
	fprintf(stderr, "%zu messages were acknowledged, %lld are there\n", expected.log_count,
		(long long)expected.next_r);
	assert_true(expected.log_count > 0);
	fixture_assert();
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sigkill) };

	fixture_make(&fixture);
	int failed = cmocka_run_group_tests_name("vault_crash", tests, NULL, NULL);
	fixture_remove(&fixture);
	return failed;
}
