/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault on PostgreSQL: the conformance suite, the log's property test, the crash test and all
 * declared queries, as they are; and what happens when the database is frozen, killed or taken over
 * under load. Without Debian's package of the server, says so and does nothing.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "vault_fixture.h"

#ifdef HAVE_POSTGRESQL
#include "modules/postgresql/postgresql_private.h" /* metrics */
#include "postgresql_cluster.h"

static struct cluster cluster;

/* --- the programs that run on every engine --- */

static void
run_program(const char *name)
{
	char path[256], self[200];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status = -1;

	assert_true(len > 0);
	self[len] = '\0';
	*strrchr(self, '/') = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", self, name);
	pid_t pid = fork();
	if (pid == 0) {
		(void)dup2(STDERR_FILENO, STDOUT_FILENO); /* its own TAP is not ours */
		(void)execl(path, path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void
test_conformance(void **state)
{
	run_program("vault_test");
}

static void
test_log(void **state)
{
	run_program("vault_log_test");
	run_program("transit_test");
}

static void
test_ids(void **state)
{
	run_program("vault_ids_test");
}

static void
test_keys(void **state)
{
	run_program("vault_keys_test");
}

static void
test_nothing_sealed_is_legible(void **state)
{
	run_program("vault_raw_test");
}

static void
test_declared_queries(void **state)
{
	run_program("vault_queries_test");
}

static void
test_sigkill_of_the_server(void **state)
{
	run_program("vault_crash_test");
}

/* --- a server in trouble, under load --- */

#define QUEUE_ROWS 2000

static struct vault_fixture fixture;

static struct iris_query insert = {
	.name = "trouble.insert",
	.table = "test_rows",
	.key = "id",
	.write = true,
	.sql = "INSERT INTO test_rows (id, who, n, body) VALUES ($1, 'trouble', $2, $3)",
	.params = { { "id", IRIS_INT }, { "n", IRIS_INT }, { "body", IRIS_SEALED } },
};
static struct iris_query move = {
	/* as often as it is carried out: once each */
	.name = "trouble.move",
	.table = "test_rows",
	.write = true,
	.sql = "UPDATE test_rows SET n = n * 3 + $2 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "n", IRIS_INT } },
};
static struct iris_query check = {
	.name = "trouble.check",
	.sql = "SELECT count(*), coalesce(sum(n), 0) FROM test_rows WHERE id >= $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "count", IRIS_INT }, { "sum", IRIS_INT } },
};

struct load {
	int64_t posted, done, last; /* messages; and the one that was done last */
	bool failed, disordered, over;
	size_t busy;
};

struct load_message {
	struct load *load;
	int64_t number;
	bool refused;
};

static void
load_done(void *arg, bool failed)
{
	struct load_message *message = arg;
	struct load *load = message->load;

	if (!message->refused) {
		load->failed |= failed;
		load->disordered |= message->number != load->last + 1;
		load->last = message->number;
		load->done++;
	}
	free(message);
}

/* A row, and a change of it that must be made once: n becomes 1 * 3 + 1. False: no room. */
static bool
load_post(struct load *load)
{
	struct load_message *message = iris_malloc(sizeof(*message));
	struct iris_ticket *ticket = ticket_new(load_done, message);
	struct iris_batch *batch = batch_new(1);

	*message = (struct load_message){ load, load->posted + 1, false };
	batch_add(batch, &insert,
		  VALUES(value_int(message->number), value_int(1), value_str(IRIS_STR("body"))));
	batch_add(batch, &move, VALUES(value_int(message->number), value_int(1)));
	bool taken = batch_post(&batch, ticket) == IRIS_VAULT_OK;
	message->refused = !taken;
	load->posted += taken;
	load->busy += !taken;
	ticket_unref(&ticket);
	return taken;
}

static void
load_run(void *arg)
{
	struct load *load = arg;

	while (!load->over) {
		for (int i = 0; i < 50 && load_post(load); i++)
			continue;
		/* Memory is bounded: what waits, and what is on its way back. */
		CHECK(load->posted - load->done <= QUEUE_ROWS);
		if (!fiber_sleep(2))
			break;
	}
}

static void
load_start(struct load *load)
{
	*load = (struct load){ .posted = 0 };
	if (!fiber_start("load", load_run, load))
		abort();
}

static int64_t
read_check(int64_t from, int64_t *sum_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	int64_t found = -1;

	if (vault_read(&check, 0, VALUES(value_int(from)), arena, &rows) == IRIS_VAULT_OK) {
		found = row_value(&rows, 0, 0)->number;
		*sum_r = row_value(&rows, 0, 1)->number;
	}
	arena_unref(&arena);
	return found;
}

/* All of it is there, each once, told in order. */
static void
load_end(struct load *load)
{
	int64_t sum = 0;

	load->over = true;
	while (load->done < load->posted)
		if (!fiber_sleep(5))
			break;
	CHECK(read_check(0, &sum) == load->posted);
	CHECK(sum == 4 * load->posted);
	CHECK(!load->failed && !load->disordered);
	while (fiber_count() > 1)
		if (!fiber_sleep(1))
			break;
	fprintf(stderr, "%lld messages, %zu times turned away\n", (long long)load->posted,
		load->busy);
}

static void
wait_for_progress(struct load *load, int64_t messages)
{
	int64_t target = load->done + messages;

	while (load->done < target)
		if (!fiber_sleep(1))
			break;
}

/* To the server and all of its processes. */
static void
cluster_signal(int signal_)
{
	char line[512];
	glob_t found;

	(void)kill(cluster.pid, signal_);
	(void)glob("/proc/[0-9]*/stat", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "r");
		char *end = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
		int parent = end ? (int)strtol(end + 4, NULL, 10) : 0; /* ") S 123" */
		if (parent == (int)cluster.pid)
			(void)kill((pid_t)strtol(line, NULL, 10), signal_);
		if (file)
			(void)fclose(file);
	}
	globfree(&found);
}

static int
setup(void **state)
{
	struct iris_error error;
	char connect[256];

	fixture_make(&fixture);
	fixture.options.limits.rows = QUEUE_ROWS;
	/* Of two servers one is never there. */
	(void)snprintf(connect, sizeof(connect), "host=/nowhere,%s user=postgres dbname=%s",
		       cluster.dir, fixture.store);
	const struct postgresql_options options = {
		.connect = connect,
		.readers = 2,
		.linger_ms = 2,
		.connect_timeout_ms = 1000,
		.read_timeout_ms = 1000,
		.stall_timeout_ms = 1500,
	};
	postgresql_configure(&options);
	fixture_open(&fixture);
	return statement_register(&insert, &error) && statement_register(&move, &error) &&
			       statement_register(&check, &error) ?
		       0 :
		       -1;
}

static int
teardown(void **state)
{
	fixture_close();
	fixture_remove(&fixture);
	return 0;
}

/* --- frozen --- */

static void
run_frozen(void *arg)
{
	unsigned ms = *(unsigned *)arg;
	struct load load;
	char why[256] = "";
	int64_t sum;

	load_start(&load);
	wait_for_progress(&load, 500);
	cluster_signal(SIGSTOP);
	int64_t done = load.done;
	CHECK(read_check(0, &sum) == -1); /* fails in time */
	CHECK(fiber_sleep(ms));
	CHECK(load.done - done < QUEUE_ROWS);
	CHECK(load.busy > 0);
	done = load.done;
	CHECK(!vault_is_ready(why, sizeof(why)) && strstr(why, "cannot be written"));
	cluster_signal(SIGCONT);
	wait_for_progress(&load, QUEUE_ROWS);
	CHECK(vault_is_ready(why, sizeof(why)));
	load_end(&load);
}

static void
test_frozen_for_a_while(void **state)
{
	unsigned ms = 300; /* the connection lives on */

	fixture_run(run_frozen, &ms);
	fixture_assert();
}

static void
test_frozen_for_long(void **state)
{
	unsigned ms = 3000; /* it is given up, and so are attempts to make another */

	fixture_run(run_frozen, &ms);
	fixture_assert();
}

/* --- killed --- */

static void
run_killed(void *arg)
{
	struct load load;
	unsigned seed = (unsigned)time(NULL);

	fprintf(stderr, "seed %u\n", seed);
	load_start(&load);
	for (int round = 0; round < 5; round++) {
		wait_for_progress(&load, 200 + rand_r(&seed) % 1000);
		cluster_signal(SIGKILL);
		(void)waitpid(cluster.pid, NULL, 0);
		cluster_start(&cluster); /* this thread stands still until the server is back */
	}
	wait_for_progress(&load, 1000);
	load_end(&load);
}

static void
test_killed(void **state)
{
	fixture_run(run_killed, NULL);
	fixture_assert();
}

/* Connections break at any moment: between a commit and its telling, too. */
static void
run_cut(void *arg)
{
	PGconn *pg = postgresql_connect("postgres");
	unsigned seed = (unsigned)time(NULL);
	struct load load;

	load_start(&load);
	for (int round = 0; round < 60; round++) {
		wait_for_progress(&load, 1 + rand_r(&seed) % 100);
		postgresql_ask(pg,
			       "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
			       "WHERE application_name LIKE 'iris writer%'",
			       NULL, 0);
	}
	load_end(&load);
	PQfinish(pg);
}

static void
test_cut(void **state)
{
	fixture_run(run_cut, NULL);
	fixture_assert();
}

/* --- a commit that is not told --- */

static void
count_done(void *arg, bool failed)
{
	*(int *)arg = failed ? -1 : 1;
}

/* All connections of ours to the server but one. */
static void
cut_sockets(int but)
{
	struct sockaddr_un peer;

	for (int fd = 3; fd < 256; fd++) {
		socklen_t len = sizeof(peer);
		if (fd != but && getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
		    peer.sun_family == AF_UNIX &&
		    strncmp(peer.sun_path, cluster.dir, strlen(cluster.dir)) == 0)
			CHECK(shutdown(fd, SHUT_RDWR) == 0);
	}
}

static void
wait_for_answer(PGconn *pg, const char *sql, const char *wanted)
{
	char value[32] = "";

	while (strcmp(value, wanted) != 0)
		postgresql_ask(pg, sql, value, sizeof(value));
}

static void
run_untold(void *arg)
{
	PGconn *pg = postgresql_connect(fixture.store);
	int64_t recovered = metric_value(&pg_metrics[PG_METRIC_RECOVERED]), sum;
	int done = 0;
	struct iris_ticket *ticket = ticket_new(count_done, &done);

	CHECK(vault_write(&insert, 1, VALUES(value_int(1), value_int(1), value_str(IRIS_STR("x"))),
			  NULL) == IRIS_VAULT_OK);
	postgresql_ask(pg, "BEGIN; SELECT n FROM test_rows WHERE id = 1 FOR UPDATE", NULL, 0);
	CHECK(vault_post(&move, 1, VALUES(value_int(1), value_int(1)), ticket) == IRIS_VAULT_OK);
	ticket_unref(&ticket);
	CHECK(fiber_sleep(20)); /* it is sent, … */
	wait_for_answer(
		pg,
		"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'iris writer%' "
		"AND wait_event_type = 'Lock'",
		"1");
	cut_sockets(PQsocket(pg));
	postgresql_ask(pg, "COMMIT", NULL, 0);
	wait_for_answer(pg, "SELECT n FROM test_rows WHERE id = 1",
			"4"); /* … committed, and cannot be told */
	PQfinish(pg);
	while (done == 0)
		if (!fiber_sleep(1))
			break;
	CHECK(done == 1);
	CHECK(read_check(1, &sum) == 1 && sum == 4);
	CHECK(metric_value(&pg_metrics[PG_METRIC_RECOVERED]) == recovered + 1);
}

static void
test_untold_commit(void **state)
{
	fixture_run(run_untold, NULL);
	fixture_assert();
}

/* --- the log's parts --- */

#define JANUARY_MS INT64_C(1577836800000) /* 2020 */
#define FEBRUARY_MS INT64_C(1580515200000)
#define MARCH_MS INT64_C(1583020800000)
#define APRIL_MS INT64_C(1585699200000)
#define ATTACHED                                                              \
	"SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid " \
	"WHERE c.relkind = 'r' AND c.relname LIKE "

static void
assert_answer(PGconn *pg, const char *sql, const char *wanted)
{
	char value[32] = "";

	postgresql_ask(pg, sql, value, sizeof(value));
	assert_string_equal(value, wanted);
}

static void
test_parts_are_made_whatever_is_there(void **state)
{
	PGconn *pg = postgresql_connect(fixture.store);
	struct iris_error error = { .message = "" };
	char sql[160];

	for (int round = 0; round < 2; round++) {
		assert_true(postgresql_engine.make_parts(log_id_first(JANUARY_MS),
							 log_id_first(MARCH_MS), &error));
		assert_answer(pg, ATTACHED "'log%2020%'", "9");
		/* The borders are those of the months in UTC. */
		(void)snprintf(sql, sizeof(sql),
			       "INSERT INTO log VALUES (%lld, 1, 1, 1, 0, ''), (%lld, 1, 1, 1, 0, "
			       "'')",
			       (long long)log_id_first(FEBRUARY_MS) + round,
			       (long long)log_id_first(MARCH_MS) - 1 - round);
		postgresql_ask(pg, sql, NULL, 0);
		/* As a drop leaves it that was cut short: the next call takes it in again. */
		postgresql_ask(pg, "ALTER TABLE log DETACH PARTITION log_2020_02", NULL, 0);
	}
	assert_answer(pg, "SELECT count(*) FROM log_2020_02", "4");
	PQfinish(pg);
}

static void
test_parts_are_dropped_when_nobody_reads(void **state)
{
	PGconn *reader = postgresql_connect(fixture.store),
	       *pg = postgresql_connect(fixture.store);
	struct iris_error error = { .message = "" };

	assert_true(postgresql_engine.make_parts(log_id_first(JANUARY_MS), log_id_first(MARCH_MS),
						 &error));
	postgresql_ask(reader, "BEGIN; SELECT count(*) FROM log", NULL, 0);
	assert_false(postgresql_engine.drop_parts(log_id_first(MARCH_MS), &error));
	assert_non_null(strstr(error.detail, "lock timeout"));
	assert_answer(pg, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending", "1");
	postgresql_ask(reader, "COMMIT", NULL, 0);
	assert_true(postgresql_engine.drop_parts(log_id_first(MARCH_MS), &error));
	assert_answer(pg, "SELECT count(*) FROM pg_class WHERE relname ~ '^log.*_2020_0[12]$'",
		      "0");
	/* The whole month must be too old. */
	assert_true(postgresql_engine.drop_parts(log_id_first(APRIL_MS) - 1, &error));
	assert_answer(pg, ATTACHED "'log%2020_03'", "3");
	assert_true(postgresql_engine.drop_parts(log_id_first(APRIL_MS), &error));
	assert_answer(pg, ATTACHED "'log%2020%'", "0");
	PQfinish(reader);
	PQfinish(pg);
}

/* --- somebody else --- */

static void
run_taken_over(void *arg)
{
	PGconn *pg = postgresql_connect(fixture.store);
	char why[256] = "";
	struct load load;

	load_start(&load);
	wait_for_progress(&load, 100);
	postgresql_ask(pg, "UPDATE vault_writers SET instance = -instance", NULL, 0);
	while (vault_is_ready(why, sizeof(why)))
		if (!fiber_sleep(5))
			break;
	CHECK(strstr(why, "another server"));
	int64_t done = load.done;
	CHECK(fiber_sleep(300) && load.done == done); /* nothing is written beside the other */
	postgresql_ask(pg, "UPDATE vault_writers SET instance = -instance", NULL, 0);
	PQfinish(pg);
	load_end(&load);
}

static void
test_taken_over(void **state)
{
	fixture_run(run_taken_over, NULL);
	fixture_assert();
}

static void
test_alone(void **state)
{
	struct iris_error error = { .message = "" };

	fixture_close();
	PGconn *pg = postgresql_connect(fixture.store);
	postgresql_ask(pg, "SET application_name = 'the other one'", NULL, 0);
	postgresql_ask(pg, "SELECT pg_advisory_lock_shared(" PG_LOCK_KEY ")", NULL, 0);
	int64_t began_us = pg_now_us();
	assert_false(vault_open_with(&fixture.options, &error));
	assert_non_null(strstr(error.message, "another process has it open"));
	assert_non_null(strstr(error.detail, "this machine as the other one"));
	/* It is at rest: it will not go by itself, and nobody is kept waiting for it. */
	assert_true(pg_now_us() - began_us < 3000000);
	PQfinish(pg);
	fixture_open(&fixture);
}
#endif

int
main(void)
{
#ifdef HAVE_POSTGRESQL
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conformance),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_nothing_sealed_is_legible),
		cmocka_unit_test(test_declared_queries),
		cmocka_unit_test(test_sigkill_of_the_server),
#define TROUBLE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TROUBLE(test_frozen_for_a_while),
		TROUBLE(test_frozen_for_long),
		TROUBLE(test_killed),
		TROUBLE(test_cut),
		TROUBLE(test_untold_commit),
		TROUBLE(test_parts_are_made_whatever_is_there),
		TROUBLE(test_parts_are_dropped_when_nobody_reads),
		TROUBLE(test_taken_over),
		TROUBLE(test_alone),
	};

	cluster_find(&cluster);
	if (cluster.programs[0]) {
		cluster_make(&cluster);
		(void)setenv("IRIS_TEST_ENGINE", "postgresql", 1);
		(void)setenv("IRIS_TEST_POSTGRESQL", cluster.connect, 1);
		worker_main_init();
		metrics_register(pg_metrics, PG_METRIC_COUNT);
		int failed = cmocka_run_group_tests_name("vault_postgresql", tests, NULL, NULL);
		worker_main_free();
		cluster_remove(&cluster);
		return failed;
	}
#endif
	printf("1..1\nok 1 - there is no PostgreSQL here, nothing was tested\n");
	return 0;
}
