/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_bench CONFIG DOMAIN USERS MESSAGES DAYS: fills the archives of user1 … userUSERS of a
 * region whose server is stopped with MESSAGES messages between them, spread over the last DAYS,
 * both copies, sealed and indexed, through the vault; so that what a large archive costs can be
 * measured.  Each user talks to 20 others.  Prints what it took. `make tests/bench/archive_bench`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "iris/auth.h"
#include "modules/archive/archive.h"
#include "module_private.h"
#include "vault_private.h"
#include "worker_private.h"

#define PEERS 20
#define MS_PER_DAY INT64_C(86400000)

struct bench_user {
	int64_t id, peer;
	iris_owner owner;
	char jid[64];
};

static struct {
	const char *domain;
	int64_t user_count, messages, days;
	struct bench_user *users;
	bool ok;
} bench;

static uint32_t
draw(void)
{
	static uint64_t state = 1;
	state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(state >> 33);
}

static bool
users_find(void)
{
	bench.users = iris_calloc((size_t)bench.user_count, sizeof(*bench.users));
	for (int64_t i = 0; i < bench.user_count; i++) {
		struct bench_user *user = &bench.users[i];
		struct iris_account account;

		(void)snprintf(user->jid, sizeof(user->jid), "user%lld@%s", (long long)(i + 1),
			       bench.domain);
		const struct iris_jid jid = jid_from_prepared(str_from(user->jid));
		if (!accounts()->find(&jid, &account) || account.id == 0)
			return fprintf(stderr, "there is no %s\n", user->jid), false;
		user->id = account.id;
		user->owner = account.owner;
		user->peer = vault_peer_id(str_from(user->jid));
	}
	return true;
}

static bool
append(int64_t id, const struct bench_user *reader, const struct bench_user *peer, unsigned flags,
       struct iris_str body)
{
	const struct iris_log_entry entry = { .id = id, .owner = reader->owner,
					      .reader = reader->id, .peer = peer->peer,
					      .flags = flags, .body = body };
	enum iris_vault_result result;

	while ((result = log_append(&entry, NULL)) == IRIS_VAULT_BUSY)
		if (!fiber_sleep(1))
			return false;
	return result == IRIS_VAULT_OK;
}

static bool
message_add(int64_t number, int64_t time_ms)
{
	size_t from = draw() % (size_t)bench.user_count;
	size_t to = (from + 1 + draw() % PEERS) % (size_t)bench.user_count;
	const struct bench_user *sender = &bench.users[from], *reader = &bench.users[to];
	int64_t id = log_id_first(time_ms) + 2 * number % (1 << LOG_ID_COUNT_BITS);
	char text[400];
	int len = snprintf(text, sizeof(text),
			   "<message from='%s/one' to='%s' type='chat' id='b%lld'><body>Message "
			   "%lld of a long conversation, with a text of the usual length: what "
			   "light through yonder window breaks</body></message>",
			   sender->jid, reader->jid, (long long)number, (long long)number);
	struct iris_str body = { text, (size_t)len };

	return append(id, sender, reader, ARCHIVE_HISTORY | ARCHIVE_SENT, body) &&
	       append(id + 1, reader, sender, ARCHIVE_HISTORY, body);
}

static void
run_bench(void *arg)
{
	int64_t now = worker_wall_ms(), span = bench.days * MS_PER_DAY;

	bench.ok = users_find();
	for (int64_t i = 0; i < bench.messages && bench.ok; i++) {
		double part = (double)i / (double)bench.messages;

		bench.ok = message_add(i, now - span + (int64_t)((double)span * part));
		if (i % 64 == 63)
			bench.ok = bench.ok && fiber_sleep(0);
	}
	worker_main_quit();
}

/* The server itself makes parts for the months around now only. */
static bool
make_parts(struct iris_error *error)
{
	extern const struct iris_module iris_module_vault;
	enum { OPT_ENGINE }; /* the first of its options */
	const struct iris_settings *settings = atomic_load(&iris_module_vault.self->settings);
	const struct iris_vault_engine *engine = module_engine(settings_str(settings, OPT_ENGINE));
	int64_t now = (int64_t)time(NULL) * 1000;

	if (!engine || !engine->open(false, error))
		return false;
	bool ok = !engine->make_parts ||
		  engine->make_parts(log_id_first(now - bench.days * MS_PER_DAY),
				     log_id_first(now), error);
	engine->close();
	return ok;
}

static bool
bench_fill(struct iris_error *error)
{
	if (!make_parts(error) || !workers_start(1, error) || !modules_start(error) ||
	    !fiber_start("archive bench", run_bench, NULL))
		return false;
	worker_run_main();
	if (bench.ok)
		vault_log_index_now();
	return bench.ok;
}

static bool
configure(const char *path)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config = config_load(path, &report);
	bool right = config && modules_select(modules_linked, &config, &report);

	if (!right)
		report_write(&report, stderr);
	report_clear(&report);
	config_free(&config);
	return right;
}

int
main(int argc, char **argv)
{
	struct iris_error error = { .message = "" };

	if (argc != 6) {
		fprintf(stderr, "usage: archive_bench CONFIG DOMAIN USERS MESSAGES DAYS\n");
		return 2;
	}
	bench.domain = argv[2];
	bench.user_count = strtoll(argv[3], NULL, 10);
	bench.messages = strtoll(argv[4], NULL, 10);
	bench.days = strtoll(argv[5], NULL, 10);
	worker_main_init();
	log_set_level(IRIS_LOG_WARNING);
	if (!configure(argv[1]) || !modules_publish(&error))
		return 1;
	bool ok = bench_fill(&error);
	workers_stop();
	modules_stop();
	free(bench.users);
	worker_main_free();
	if (!ok) {
		fprintf(stderr, "archive_bench: %s (%s)\n", error.message, error.detail);
		return 1;
	}
	printf("%lld messages, %.0f s of CPU\n", (long long)bench.messages,
	       (double)clock() / CLOCKS_PER_SEC);
	return 0;
}
