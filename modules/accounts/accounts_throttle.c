/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throttling where its state lives: an account's at the home of its address, a source's at
 * the home of the source address, so that all attempts are counted in one place whichever worker
 * they came to.  On a fiber; the delays are slept here.  Unknown accounts count like others.
 */
#include "accounts_private.h"

#define ACCOUNTS_MAX 16384  /* entries of one worker: about 1.5 MiB when full */
#define ADDRESSES_MAX 16384

enum kind { BY_ACCOUNT, BY_ADDRESS, KINDS };

/* By worker; each is touched on its own worker only. */
static struct throttle *tables[WORKER_LIMIT][KINDS];

struct throttle_call {
	enum kind kind;
	struct iris_str key;
	struct throttle_policy policy;
	int64_t delay_ms; /* the answer */
	bool forgive_all;
};

static struct throttle *
own_table(enum kind kind)
{
	struct throttle **table = &tables[worker_index()][kind];

	if (!*table)
		*table = throttle_new(kind == BY_ACCOUNT ? ACCOUNTS_MAX : ADDRESSES_MAX);
	return *table;
}

static void
begin_at_home(void *arg)
{
	struct throttle_call *call = arg;

	call->delay_ms = throttle_begin(own_table(call->kind), call->key, &call->policy,
					worker_now_ms());
}

static void
forgive_at_home(void *arg)
{
	struct throttle_call *call = arg;

	throttle_forgive(own_table(call->kind), call->key, call->forgive_all);
}

static struct throttle_policy
policy_of(enum kind kind)
{
	unsigned tries = kind == BY_ACCOUNT ? OPTION_ACCOUNT_TRIES : OPTION_ADDRESS_TRIES;

	return (struct throttle_policy){
		.tries = (unsigned)option_int(&accounts_self, tries),
		/* An address may be a whole office: it is locked when it is too much, not slowed
		   down before. */
		.delay_ms = kind == BY_ACCOUNT ? option_int(&accounts_self, OPTION_DELAY) : 0,
		.lock_ms = option_int(&accounts_self, OPTION_LOCK),
		.memory_ms = option_int(&accounts_self, OPTION_MEMORY),
	};
}

static int64_t
begin(enum kind kind, struct iris_str key)
{
	struct throttle_call call = { .kind = kind, .key = key, .policy = policy_of(kind) };

	if (call.policy.tries == 0)
		return 0;
	home_call(key, "accounts: attempt", begin_at_home, &call);
	return call.delay_ms;
}

static void
forgive(enum kind kind, struct iris_str key, bool all)
{
	struct throttle_call call = { .kind = kind, .key = key, .forgive_all = all };

	if (policy_of(kind).tries > 0)
		home_call(key, "accounts: attempt succeeded", forgive_at_home, &call);
}

/*
 * SECURITY: the operator's account is not locked by wrong passwords, or anybody could lock the
 * operators out. Its password is 240 random bits; sources are counted all the same.
 */
static bool
is_counted(const struct iris_jid *jid)
{
	return !jid_is_none(jid) && !str_is(jid_node(jid), OPERATOR_NODE);
}

enum iris_auth_result
accounts_attempt(const struct iris_jid *jid, struct iris_str address)
{
	struct iris_arena *arena = arena_new();
	int64_t delay = begin(BY_ADDRESS, throttle_address_key(arena, address));

	arena_unref(&arena);
	if (delay != THROTTLE_LOCKED && is_counted(jid))
		delay = begin(BY_ACCOUNT, jid_bare(jid));
	if (delay == THROTTLE_LOCKED)
		return IRIS_AUTH_THROTTLED;
	if (delay > 0 && !fiber_sleep((unsigned)delay))
		return IRIS_AUTH_UNAVAILABLE;
	return IRIS_AUTH_OK;
}

/*
 * A success clears the account, but takes back one attempt only of the address.
 * SECURITY: else signing in to an account of one's own would clear the guesses at those of others.
 */
void
accounts_attempt_result(const struct iris_jid *jid, struct iris_str address, bool success)
{
	struct iris_arena *arena;

	if (!success)
		return; /* counted when it began */
	arena = arena_new();
	forgive(BY_ADDRESS, throttle_address_key(arena, address), false);
	arena_unref(&arena);
	if (is_counted(jid))
		forgive(BY_ACCOUNT, jid_bare(jid), true);
}

void
accounts_throttle_free(void)
{
	for (size_t i = 0; i < WORKER_LIMIT; i++)
		for (size_t kind = 0; kind < KINDS; kind++)
			throttle_free(&tables[i][kind]);
}
