/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault_bench [RATE [SECONDS [READERS]]]: what two sealed log rows per message cost, posted by one
 * worker and committed by the engine (IRIS_TEST_ENGINE).  RATE 0: as fast as the queue takes them.
 * Prints CPU microseconds per message (poster: seal, copy, ticket, completion; vault: the engine's
 * threads, the index; server: all processes of the database, when it has some), and how long a
 * commit took to be told. `make tests/bench/vault_bench`; build without sanitizers.  The folder is
 * $TMPDIR or /tmp; a database server is a private one.
 */
#include <time.h>

#include "modules/sqlite/sqlite_private.h"
#include "tests/unit/vault_fixture.h"
#ifdef HAVE_POSTGRESQL
#include "modules/postgresql/postgresql_private.h"
#include "tests/unit/postgresql_cluster.h"
#endif

#define BODY_BYTES 400
#define LATENCIES (1 << 22)

static struct {
	int64_t rate, seconds, readers;
	int64_t posted, done, failed, busy;
	int64_t began_ns;
	uint32_t *latencies_us; /* of the messages, as they are done */
} bench;

struct message {
	int64_t posted_ns;
};

static int64_t
now_ns(clockid_t clock)
{
	struct timespec now;
	(void)clock_gettime(clock, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint32_t
draw(void)
{
	static uint64_t state = 1;
	state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(state >> 33);
}

static void
message_done(void *arg, bool failed)
{
	struct message *message = arg;

	if (bench.done < LATENCIES)
		bench.latencies_us[bench.done] =
			(uint32_t)((now_ns(CLOCK_MONOTONIC) - message->posted_ns) / 1000);
	bench.done++;
	bench.failed += failed;
	free(message);
}

static bool
message_post(void)
{
	static const char body[BODY_BYTES] = "<message><body>But soft</body></message>";
	struct message *message = iris_malloc(sizeof(*message));
	struct iris_ticket *ticket = ticket_new(message_done, message);
	int64_t from = 1 + draw() % bench.readers, to = 1 + draw() % bench.readers;
	enum iris_vault_result result = IRIS_VAULT_OK;

	message->posted_ns = now_ns(CLOCK_MONOTONIC);
	for (int side = 0; side < 2 && result == IRIS_VAULT_OK; side++) {
		const struct iris_log_entry entry = {
			.id = vault_next_id(IRIS_SEQ_LOG),
			.owner = 1,
			.reader = side ? to : from,
			.peer = 1 + draw() % 20,
			.body = { body, sizeof(body) },
		};
		result = log_append(&entry, ticket);
	}
	ticket_unref(&ticket);
	bench.posted++;
	return result == IRIS_VAULT_OK;
}

static void
post_what_is_due(void)
{
	int64_t due = INT64_MAX, burst = 0;

	if (bench.rate > 0)
		due = (now_ns(CLOCK_MONOTONIC) - bench.began_ns) * bench.rate / 1000000000;
	while (bench.posted < due && burst++ < 64)
		if (!message_post()) {
			bench.busy++;
			return;
		}
}

static void
run_bench(void *arg)
{
	int64_t end = bench.began_ns + bench.seconds * 1000000000;

	while (now_ns(CLOCK_MONOTONIC) < end) {
		int64_t before = bench.busy, posted = bench.posted;
		post_what_is_due();
		unsigned pause =
			bench.busy > before || (bench.rate > 0 && bench.posted - posted < 64) ? 1 :
												0;
		if (!fiber_sleep(pause))
			break;
	}
	while (bench.done < bench.posted)
		if (!fiber_sleep(1))
			break;
	worker_main_quit();
}

static int
compare_latency(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	return (left > right) - (left < right);
}

/* --- the database's own processes --- */

#ifdef HAVE_POSTGRESQL
static struct cluster cluster;

static void
server_start(void)
{
	const char *engine = getenv("IRIS_TEST_ENGINE");

	metrics_register(pg_metrics, PG_METRIC_COUNT);
	if (!engine || strcmp(engine, "postgresql") != 0)
		return;
	cluster_find(&cluster);
	cluster_make(&cluster);
	(void)setenv("IRIS_TEST_POSTGRESQL", cluster.connect, 1);
}

static void
server_stop(void)
{
	if (cluster.pid)
		cluster_remove(&cluster);
}

static int64_t
server_cpu_us(void)
{
	return cluster.pid ? cluster_cpu_us(&cluster) : 0;
}

static int64_t
commit_count(void)
{
	return metric_value(&sqlite_metrics[SQLITE_METRIC_COMMITS]) +
	       metric_value(&pg_metrics[PG_METRIC_COMMITS]);
}
#else
static void
server_start(void)
{
}

static void
server_stop(void)
{
}

static int64_t
server_cpu_us(void)
{
	return 0;
}

static int64_t
commit_count(void)
{
	return metric_value(&sqlite_metrics[SQLITE_METRIC_COMMITS]);
}
#endif

/* --- one run --- */

struct clocks {
	int64_t process_ns, poster_ns, wall_ns, server_us;
};

static struct clocks
clocks_read(void)
{
	return (struct clocks){ now_ns(CLOCK_PROCESS_CPUTIME_ID), now_ns(CLOCK_THREAD_CPUTIME_ID),
				now_ns(CLOCK_MONOTONIC), server_cpu_us() };
}

static void
report(const struct clocks *before, const struct clocks *after)
{
	size_t count = bench.done < LATENCIES ? (size_t)bench.done : LATENCIES;
	double messages = (double)bench.done;
	int64_t process = after->process_ns - before->process_ns;
	int64_t poster = after->poster_ns - before->poster_ns;
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	qsort(bench.latencies_us, count, sizeof(uint32_t), compare_latency);
	printf("%9.0f msg/s  CPU us/msg: process %.1f (poster %.1f vault %.1f) server %.1f | ",
	       messages * 1e9 / (double)(after->wall_ns - before->wall_ns),
	       (double)process / 1e3 / messages, (double)poster / 1e3 / messages,
	       (double)(process - poster) / 1e3 / messages,
	       (double)(after->server_us - before->server_us) / messages);
	printf("commit told after ms: p50 %.1f p99 %.1f max %.1f | rows/commit %.0f  written by "
	       "the process "
	       "B/row %.0f | failed %lld busy %lld tail %lld\n",
	       bench.latencies_us[count / 2] / 1e3,
	       bench.latencies_us[count - 1 - count / 100] / 1e3,
	       bench.latencies_us[count - 1] / 1e3,
	       2 * messages / (double)(commit_count() + !commit_count()),
	       (double)usage.ru_oublock * 512 / (2 * messages), (long long)bench.failed,
	       (long long)bench.busy, (long long)metric_value(&vault_metrics[VAULT_METRIC_TAIL]));
}

static void
bench_run(struct vault_fixture *fixture)
{
	fixture_open(fixture);
	struct clocks before = clocks_read();
	bench.began_ns = before.wall_ns;
	if (!fiber_start("bench", run_bench, NULL))
		abort();
	worker_run_main();
	struct clocks after = clocks_read();
	report(&before, &after);
	fixture_close();
}

static int64_t
argument(int argc, char **argv, int i, int64_t fallback)
{
	int64_t value = fallback;

	if (i < argc && !str_to_int(str_from(argv[i]), 0, INT64_C(1) << 40, &value)) {
		fprintf(stderr, "usage: %s [RATE [SECONDS [READERS]]]\n", argv[0]);
		exit(2);
	}
	return value;
}

int
main(int argc, char **argv)
{
	struct vault_fixture fixture;

	bench.rate = argument(argc, argv, 1, 0);
	bench.seconds = argument(argc, argv, 2, 5);
	bench.readers = argument(argc, argv, 3, 10000);
	bench.latencies_us = iris_calloc(LATENCIES, sizeof(uint32_t));
	worker_main_init();
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	metrics_register(sqlite_metrics, SQLITE_METRIC_COUNT);
	server_start();
	fixture_make(&fixture);
	fixture.linger_ms = 5;
	fixture_engine()->configure(&fixture);
	bench_run(&fixture);
	fixture_remove(&fixture);
	server_stop();
	free(bench.latencies_us);
	worker_main_free();
	return 0;
}
