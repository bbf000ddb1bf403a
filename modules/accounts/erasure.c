/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts that go (P3.2): with all of their rows, also when the server dies in between or the
 * vault has no room for a while.  On the fiber of who asked; at the start on one of the main
 * thread, for what was cut short.  Which rows there are, the plug-ins know (hook account_removed).
 */
#include "accounts_private.h"
#include "iris/fiber.h"
#include "iris/hook.h"
#include "iris/log.h"
#include "iris/user.h"

#define ERASE_ATTEMPTS 50
#define ERASE_PAUSE_MS 100

struct erasure {
	struct iris_account_removed removed;
	bool refused;
};

static void
rows_at_home(void *arg)
{
	struct erasure *erasure = arg;

	erasure->refused = hook_run_account_removed(&erasure->removed) == IRIS_REFUSE;
}

/* Again while somebody could not post; all of them take being asked twice. */
static bool
erase_rows(const struct iris_jid *jid, const struct iris_account *account)
{
	struct erasure erasure = { .removed = { .jid = *jid, .account = *account } };

	for (unsigned attempt = 0; attempt < ERASE_ATTEMPTS; attempt++) {
		home_call(jid_bare(jid), "accounts: erase", rows_at_home, &erasure);
		if (!erasure.refused)
			return true;
		if (!fiber_sleep(ERASE_PAUSE_MS))
			break;
	}
	return false;
}

/*
 * The account's own row goes after the others, so that its name is free when they are gone. What
 * arrived before it did, and after the others, is removed then.
 */
static enum iris_condition
erase(const struct iris_jid *jid, const struct iris_account *account)
{
	enum iris_condition condition = IRIS_RESOURCE_CONSTRAINT;

	if (erase_rows(jid, account))
		condition = accounts_delete(jid, account);
	if (condition != IRIS_NO_ERROR)
		return condition;
	/* A new account of the name must not start with the old roster. */
	accounts_close_sessions(jid);
	if (!erase_rows(jid, account))
		return IRIS_RESOURCE_CONSTRAINT;
	return accounts_erasure_end(jid, account);
}

/* Locked first, so that nobody signs in while its rows go. */
enum iris_condition
accounts_remove(const struct iris_jid *jid)
{
	struct iris_account account;
	enum iris_condition condition = accounts_erasure_begin(jid, &account);

	if (condition != IRIS_NO_ERROR)
		return condition;
	accounts_secure(jid);
	accounts_close_sessions(jid);
	return erase(jid, &account);
}

/* --- what a crash cut short --- */

static void
resume_one(struct iris_arena *arena, struct iris_str text, const struct iris_account *account)
{
	struct iris_jid jid;
	enum iris_condition condition = IRIS_JID_MALFORMED;

	if (jid_parse(arena, text, &jid))
		condition = erase(&jid, account);
	if (condition == IRIS_NO_ERROR)
		LOG(IRIS_LOG_NOTICE, "accounts", "erasure-finished", LOG_STR("jid", text));
	else
		LOG(IRIS_LOG_WARNING, "accounts", "erasure-unfinished", LOG_STR("jid", text),
		    LOG_CSTR("reason", condition_name(condition)),
		    LOG_CSTR("hint", "it is tried again at the next start"));
}

static void
resume_run(void *arg)
{
	struct iris_account account = { .id = 0 };
	struct iris_str jid;

	do {
		struct iris_arena *arena = arena_new();

		if (!accounts_erasure_next(arena, account.id, &jid, &account))
			account.id = 0;
		if (account.id != 0)
			resume_one(arena, jid, &account);
		arena_unref(&arena);
	} while (account.id != 0 && !worker_is_stopping());
}

bool
accounts_erasures_resume(struct iris_error *error)
{
	return fiber_start("accounts: erasures", resume_run, NULL) ||
	       error_set(error, "too many fibers at the start");
}
