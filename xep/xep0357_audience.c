/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0357: what was said where an account belongs and has no session: see xep0357_push.h.  One
 * letter for each worker; there, who is in memory is told at once.  Of the others nearly nobody has
 * push services: a few hundred addresses are looked up in one trip to the vault, who has none is
 * remembered, and only who has is loaded.  Home worker of the accounts.
 *
 * Bounded: accounts that wait to be looked up (WAITING_MAX for each worker; of each the newest
 * message only), and the memory of those without services (WITHOUT_SLOTS).
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/user.h"
#include "xep/xep0357_push.h"
#include "xep/xep0357_services.h"

#define WAITING_MAX 20000
#define WITHOUT_SLOTS 65536 /* a power of two */
#define LOOKUPS 16          /* addresses of one question: the parameters of push_query_who */
#define QUESTIONS 8         /* of one trip */
#define ROUND (LOOKUPS * QUESTIONS)

struct push_audience {
	atomic_uint refs;
	size_t count;
	uint32_t begin[WORKER_LIMIT + 1]; /* those of worker i: from begin[i] up to begin[i + 1] */
	struct iris_jid addresses[];      /* their text lies behind them */
};

struct audience_letter {
	struct iris_mail mail;
	struct push_audience *audience;
	struct iris_stanza *message;
};

/* One who is not in memory, and may have services. */
struct absent {
	struct iris_hash_node node; /* by bare JID */
	TAILQ_ENTRY(absent) link;
	struct iris_stanza *message;
	struct iris_jid jid;
	char text[];
};

struct absent_home { /* of one worker */
	struct iris_hash waiting;
	TAILQ_HEAD(absent_list, absent) list; /* those of `waiting` that no round has taken yet */
	bool running;
	/* Hashes of addresses without services, each in the one slot where it may be. */
	uint64_t *without;
	uint64_t enabled; /* how often one was enabled: what was read before may be wrong */
};

struct absent_round {
	struct absent *absent[ROUND];
	int64_t keys[ROUND];
	size_t count;
};

static struct absent_home homes[WORKER_LIMIT];

static struct absent_home *
home_here(void)
{
	struct absent_home *home = &homes[worker_index()];

	if (!home->without) {
		TAILQ_INIT(&home->list);
		home->without = iris_calloc(WITHOUT_SLOTS, sizeof(*home->without));
	}
	return home;
}

/* --- who is known to have none --- */

static uint64_t *
without_slot(struct absent_home *home, struct iris_str bare, uint64_t *hash_r)
{
	*hash_r = hash_bytes(bare.base, bare.len);
	return &home->without[*hash_r & (WITHOUT_SLOTS - 1)];
}

static bool
without_knows(struct absent_home *home, struct iris_str bare)
{
	uint64_t hash, *slot = without_slot(home, bare, &hash);

	return *slot == hash;
}

static void
without_remember(struct absent_home *home, struct iris_str bare)
{
	uint64_t hash, *slot = without_slot(home, bare, &hash);

	*slot = hash;
}

void
push_audience_enabled(struct iris_str bare)
{
	struct absent_home *home = home_here();
	uint64_t hash, *slot = without_slot(home, bare, &hash);

	home->enabled++;
	if (*slot == hash)
		*slot = 0;
}

/* --- one who is not in memory --- */

static void
absent_free(struct absent_home *home, struct absent *absent)
{
	hash_remove(&home->waiting, &absent->node);
	stanza_unref(&absent->message);
	free(absent);
}

static void
absent_take_answers(const struct absent_round *round, const struct iris_question *questions,
		    size_t count, bool *found)
{
	for (size_t i = 0; i < count; i++)
		for (size_t row = 0; row < questions[i].rows.count; row++)
			for (size_t j = i * LOOKUPS; j < (i + 1) * LOOKUPS; j++)
				if (round->keys[j] == row_value(&questions[i].rows, row, 0)->number)
					found[j] = true;
}

/* Which of a round have services. False: the vault did not say. */
static bool
absent_look_up(struct absent_round *round, bool *found)
{
	struct iris_question questions[QUESTIONS];
	struct iris_arena *arena = arena_new();
	struct iris_value *values = arena_alloc(arena, ROUND * sizeof(*values));
	size_t count = (round->count + LOOKUPS - 1) / LOOKUPS;
	bool ok;

	for (size_t i = 0; i < ROUND; i++) {
		round->keys[i] = i < round->count ?
					 vault_peer_id(jid_bare(&round->absent[i]->jid)) :
					 -1; /* no hash is negative */
		values[i] = value_int(round->keys[i]);
	}
	for (size_t i = 0; i < count; i++)
		questions[i] = (struct iris_question){ .query = &push_query_who,
						       .params = values + i * LOOKUPS };
	ok = vault_ask(questions, count, 0, arena) == IRIS_VAULT_OK;
	if (ok)
		absent_take_answers(round, questions, count, found);
	arena_unref(&arena);
	return ok;
}

/* It may have been loaded, and may have enabled one, while the vault was asked. */
static void
absent_tell(struct absent_home *home, struct absent *absent, bool has, uint64_t enabled)
{
	struct iris_user *user = NULL;

	if (has || user_find(jid_bare(&absent->jid)))
		user = user_get(&absent->jid);
	else if (home->enabled == enabled)
		without_remember(home, jid_bare(&absent->jid));
	if (user)
		push_message_absent(user, absent->message);
	user_release(&user);
}

static void
absent_round(struct absent_home *home)
{
	struct absent_round *round = iris_calloc(1, sizeof(*round));
	uint64_t enabled = home->enabled;
	bool found[ROUND] = { false }, ok;
	struct absent *absent;

	while (round->count < ROUND && (absent = TAILQ_FIRST(&home->list)) != NULL) {
		TAILQ_REMOVE(&home->list, absent, link);
		round->absent[round->count++] = absent;
	}
	ok = !worker_is_stopping() && absent_look_up(round, found);
	for (size_t i = 0; i < round->count; i++) {
		if (ok && !worker_is_stopping())
			absent_tell(home, round->absent[i], found[i], enabled);
		absent_free(home, round->absent[i]);
	}
	free(round);
}

static void
absent_run(void *arg)
{
	struct absent_home *home = arg;

	while (!TAILQ_EMPTY(&home->list))
		absent_round(home);
	home->running = false;
}

static void
absent_wait(struct absent_home *home, const struct iris_jid *jid, struct iris_stanza *message)
{
	struct iris_str bare = jid_bare(jid);
	struct iris_hash_node *node = hash_find(&home->waiting, bare);
	struct absent *absent;

	if (node) {
		absent = IRIS_CONTAINER(node, struct absent, node);
		stanza_unref(&absent->message);
		absent->message = stanza_ref(message);
		return;
	}
	if (home->waiting.count >= WAITING_MAX) {
		metric_add(&push_metrics[PUSH_UNTOLD], 1);
		return;
	}
	absent = iris_calloc(1, sizeof(*absent) + bare.len);
	memcpy(absent->text, bare.base, bare.len);
	absent->jid = jid_from_prepared((struct iris_str){ absent->text, bare.len });
	absent->message = stanza_ref(message);
	hash_insert(&home->waiting, &absent->node, jid_bare(&absent->jid));
	TAILQ_INSERT_TAIL(&home->list, absent, link);
}

/* --- letters --- */

static void
letter_read(struct push_audience *audience, struct iris_stanza *message)
{
	struct absent_home *home = home_here();
	unsigned worker = (unsigned)worker_index();

	for (size_t i = audience->begin[worker]; i < audience->begin[worker + 1]; i++) {
		const struct iris_jid *jid = &audience->addresses[i];
		struct iris_user *user = user_find(jid_bare(jid));

		if (user)
			push_message_absent(user, message);
		else if (!without_knows(home, jid_bare(jid)))
			absent_wait(home, jid, message);
	}
	if (home->running || TAILQ_EMPTY(&home->list))
		return;
	home->running = true;
	/* No fiber to spare: they wait for the next letter. */
	if (!fiber_start_spare("xep0357: absent members", absent_run, home))
		home->running = false;
}

static void
letter_arrives(struct iris_mail *mail)
{
	struct audience_letter *letter = IRIS_CONTAINER(mail, struct audience_letter, mail);

	letter_read(letter->audience, letter->message);
	push_audience_unref(&letter->audience);
	stanza_unref(&letter->message);
	free(letter);
}

void
push_audience_tell(struct push_audience *audience, struct iris_stanza *message)
{
	for (unsigned i = 0; i < worker_count(); i++) {
		struct audience_letter *letter;

		if (audience->begin[i] == audience->begin[i + 1])
			continue;
		letter = iris_calloc(1, sizeof(*letter));
		letter->mail.fn = letter_arrives;
		letter->audience = push_audience_ref(audience);
		letter->message = stanza_ref(message);
		worker_post(worker_at((int)i), &letter->mail);
	}
}

/* --- audiences --- */

static unsigned
home_index(const struct iris_jid *jid)
{
	return (unsigned)worker_index_of(home_of(jid_bare(jid)));
}

/* Sorted by home: how many each has, where each begins, and there they go. */
struct push_audience *
push_audience_new(const struct iris_jid *addresses, size_t count)
{
	uint32_t next[WORKER_LIMIT + 1] = { 0 };
	struct push_audience *audience;
	size_t len = 0;
	char *text;

	for (size_t i = 0; i < count; i++)
		len += jid_bare(&addresses[i]).len;
	audience = iris_calloc(1, sizeof(*audience) + count * sizeof(struct iris_jid) + len);
	atomic_init(&audience->refs, 1);
	audience->count = count;
	text = (char *)&audience->addresses[count];
	for (size_t i = 0; i < count; i++)
		audience->begin[home_index(&addresses[i]) + 1]++;
	for (size_t i = 0; i < WORKER_LIMIT; i++)
		audience->begin[i + 1] += audience->begin[i];
	memcpy(next, audience->begin, sizeof(next));
	for (size_t i = 0; i < count; i++) {
		struct iris_str bare = jid_bare(&addresses[i]);

		memcpy(text, bare.base, bare.len);
		audience->addresses[next[home_index(&addresses[i])]++] =
			jid_from_prepared((struct iris_str){ text, bare.len });
		text += bare.len;
	}
	return audience;
}

struct push_audience *
push_audience_ref(struct push_audience *audience)
{
	atomic_fetch_add_explicit(&audience->refs, 1, memory_order_relaxed);
	return audience;
}

void
push_audience_unref(struct push_audience **audience_p)
{
	struct push_audience *audience = *audience_p;

	*audience_p = NULL;
	if (audience &&
	    atomic_fetch_sub_explicit(&audience->refs, 1, memory_order_acq_rel) == 1)
		free(audience);
}

/* Workers have stopped: those that still waited for a fiber go, too. */
void
push_audience_stop(void)
{
	for (size_t i = 0; i < WORKER_LIMIT; i++) {
		struct absent_home *home = &homes[i];

		HASH_FOREACH(node, &home->waiting)
			absent_free(home, IRIS_CONTAINER(node, struct absent, node));
		hash_free(&home->waiting);
		free(home->without);
		*home = (struct absent_home){ .running = false };
	}
}
