/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault_bench [RATE [SECONDS [READERS]]]: what two sealed log rows per message cost, posted by one
 * worker and committed by the engine.  RATE 0: as fast as the queue takes them.  Prints CPU
 * microseconds per message (poster: seal, copy, ticket, completion; vault: writer, index,
 * checkpoints), and how long a commit took to be told. `make tests/bench/vault_bench`; build
 * without sanitizers.  The folder is $TMPDIR or /tmp.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "iris/fiber.h"
#include "modules/sqlite/sqlite.h"
#include "modules/sqlite/sqlite_private.h"
#include "vault_private.h"
#include "worker_private.h"

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
			.time_ms = worker_wall_ms(),
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
			bench.busy > before || (bench.rate > 0 && bench.posted - posted < 64) ? 1
											      : 0;
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

static void
report(int64_t process_ns, int64_t poster_ns, int64_t wall_ns, const char *store)
{
	size_t count = bench.done < LATENCIES ? (size_t)bench.done : LATENCIES;
	double messages = (double)bench.done;
	struct rusage usage;
	struct stat wal = { .st_size = 0 }, db = { .st_size = 0 };
	char path[128];

	(void)getrusage(RUSAGE_SELF, &usage);
	(void)snprintf(path, sizeof(path), "%s-wal", store);
	(void)stat(path, &wal);
	(void)stat(store, &db);
	qsort(bench.latencies_us, count, sizeof(uint32_t), compare_latency);
	int64_t commits = metric_value(&sqlite_metrics[SQLITE_METRIC_COMMITS]);
	printf("%9.0f msg/s  CPU us/msg: total %.1f  poster %.1f  vault %.1f | commit told after "
	       "ms: p50 %.1f p99 %.1f "
	       "max %.1f | rows/commit %.0f  wal MB %.0f  db MB %.0f  written B/row %.0f | failed "
	       "%lld busy %lld "
	       "tail %lld\n",
	       messages * 1e9 / (double)wall_ns, (double)process_ns / 1e3 / messages,
	       (double)poster_ns / 1e3 / messages,
	       (double)(process_ns - poster_ns) / 1e3 / messages,
	       bench.latencies_us[count / 2] / 1e3,
	       bench.latencies_us[count - 1 - count / 100] / 1e3,
	       bench.latencies_us[count - 1] / 1e3, 2 * messages / (double)(commits ? commits : 1),
	       (double)wal.st_size / 1e6, (double)db.st_size / 1e6,
	       (double)usage.ru_oublock * 512 / (2 * messages), (long long)bench.failed,
	       (long long)bench.busy, (long long)metric_value(&vault_metrics[VAULT_METRIC_TAIL]));
}

static void
bench_run(const struct vault_options *options, const char *store)
{
	struct iris_error error = { .message = "" };

	if (!vault_init_with(options, "Bench", &error) || !vault_open_with(options, &error)) {
		fprintf(stderr, "%s (%s)\n", error.message, error.detail);
		exit(1);
	}
	bench.began_ns = now_ns(CLOCK_MONOTONIC);
	int64_t process = now_ns(CLOCK_PROCESS_CPUTIME_ID),
		poster = now_ns(CLOCK_THREAD_CPUTIME_ID);
	if (!fiber_start("bench", run_bench, NULL))
		abort();
	worker_run_main();
	report(now_ns(CLOCK_PROCESS_CPUTIME_ID) - process, now_ns(CLOCK_THREAD_CPUTIME_ID) - poster,
	       now_ns(CLOCK_MONOTONIC) - bench.began_ns, store);
	vault_close();
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
	const char *tmp = getenv("TMPDIR");
	char dir[64], store[96], key[96], path[128];
	static const char *const suffixes[] = { "", "-wal", "-shm", ".lock" };

	bench.rate = argument(argc, argv, 1, 0);
	bench.seconds = argument(argc, argv, 2, 5);
	bench.readers = argument(argc, argv, 3, 10000);
	bench.latencies_us = iris_calloc(LATENCIES, sizeof(uint32_t));
	(void)snprintf(dir, sizeof(dir), "%s/vault-bench-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	(void)snprintf(store, sizeof(store), "%s/iris.db", dir);
	(void)snprintf(key, sizeof(key), "%s/master.key", dir);
	const struct sqlite_options sqlite = {
		.path = store,
		.queue_rows = 20000,
		.queue_bytes = 64 << 20,
		.writer_cache = 64 << 20,
		.reader_cache = 16 << 20,
		.readers = 2,
		.linger_ms = 5,
	};
	const struct vault_options options = { .engine = &sqlite_engine,
					       .key_path = key,
					       .region = "bench" };

	worker_main_init();
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	metrics_register(sqlite_metrics, SQLITE_METRIC_COUNT);
	sqlite_configure(&sqlite);
	bench_run(&options, store);
	sqlite_configure(NULL);
	for (size_t i = 0; i < IRIS_COUNT(suffixes); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", store, suffixes[i]);
		(void)unlink(path);
	}
	(void)unlink(key);
	(void)rmdir(dir);
	free(bench.latencies_us);
	worker_main_free();
	return 0;
}
