/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: the chains of handlers, made from the loaded modules, and their run.  Any worker runs
 * them; the chains are immutable, the main thread swaps them whole.
 *
 * A handler may wait, and meanwhile the chains may be swapped and the old ones freed.  So a run
 * holds no pointer into a chain across a call: it remembers the place (band, module, entry), which
 * does not change while a module is loaded, and finds it again when the chains are others.
 */
#include <stdlib.h>

#include "iris/log.h"
#include "module_private.h"

/* The place of a handler in its chain; compared as one number. */
#define PLACE(band, order, entry) \
	((uint64_t)(band) << 48 | (uint64_t)(order) << 16 | (uint64_t)(entry))
#define PLACE_BAND(place) ((enum iris_band)((place) >> 48))

struct hook_entry {
	uint64_t place;
	const struct iris_module *module;
	/* Of another type in truth: only the caller of its hook, which knows that, may call it. */
	enum iris_verdict (*fn)(void *arg);
};

struct hook_chain {
	const struct hook_entry *entries;
	size_t count;
};

struct hook_chains {
	struct hook_chain chains[IRIS_HOOK_COUNT];
	uint64_t generation; /* never the same for two that were published */
	struct hook_entry entries[];
};

/* What is the same for all runs of one hook. */
struct hook_kind {
	enum iris_hook_id id;
	const char *name;
	enum iris_verdict (*call)(enum iris_verdict (*fn)(void *arg), void *arg);
	struct iris_jid (*subject)(const void *arg); /* whom it is about, for the trace */
};

struct hook_trace {
	struct iris_str bare;
	char text[];
};

static _Atomic(struct hook_chains *) published;
static _Atomic(struct hook_trace *) trace;

/* --- whom a hook is about --- */

static struct iris_jid
subject_stream(const void *arg)
{
	const struct iris_jid *jid = stream_jid(arg);
	return jid ? *jid : IRIS_JID_NONE;
}

static struct iris_jid
subject_stream_features(const void *arg)
{
	return subject_stream(((const struct iris_stream_features *)arg)->stream);
}

static struct iris_jid
subject_stream_ticket(const void *arg)
{
	return subject_stream(((const struct iris_stream_ticket *)arg)->stream);
}

static struct iris_jid
subject_inline(const void *arg)
{
	return subject_stream(((const struct iris_inline *)arg)->stream);
}

static struct iris_jid
subject_request(const void *arg)
{
	const struct iris_request *request = arg;
	return request->stanza ? request->stanza->from : IRIS_JID_NONE;
}

static struct iris_jid
subject_discovery(const void *arg)
{
	return subject_request(((const struct iris_discovery *)arg)->request);
}

static struct iris_jid
subject_user(const void *arg)
{
	const struct iris_user *user = arg;
	return user ? user->jid : IRIS_JID_NONE;
}

static struct iris_jid
subject_incoming(const void *arg)
{
	return subject_user(((const struct iris_incoming *)arg)->user);
}

static struct iris_jid
subject_visibility(const void *arg)
{
	return subject_user(((const struct iris_visibility *)arg)->user);
}

static struct iris_jid
subject_retracted(const void *arg)
{
	return subject_user(((const struct iris_retracted *)arg)->user);
}

static struct iris_jid
subject_session(const void *arg)
{
	const struct iris_session *session = arg;
	return session ? session->jid : IRIS_JID_NONE;
}

static struct iris_jid
subject_session_delivery(const void *arg)
{
	return subject_session(((const struct iris_session_delivery *)arg)->session);
}

static struct iris_jid
subject_account_removed(const void *arg)
{
	return ((const struct iris_account_removed *)arg)->jid;
}

/* clang-format off */
#define SUBJECT(type) _Generic((type *)NULL,                        \
	struct iris_request *: subject_request,                     \
	struct iris_incoming *: subject_incoming,                   \
	struct iris_session_delivery *: subject_session_delivery,   \
	struct iris_session *: subject_session,                     \
	struct iris_stream *: subject_stream,                       \
	struct iris_stream_features *: subject_stream_features,     \
	struct iris_stream_ticket *: subject_stream_ticket,         \
	struct iris_inline *: subject_inline,                       \
	struct iris_user *: subject_user,                           \
	struct iris_account_removed *: subject_account_removed,     \
	struct iris_visibility *: subject_visibility,               \
	struct iris_retracted *: subject_retracted,                 \
	struct iris_discovery *: subject_discovery)
/* clang-format on */

/* --- the run --- */

static const struct hook_chain *
chain_of(const struct hook_chains *chains, enum iris_hook_id id)
{
	static const struct hook_chain empty;
	return chains ? &chains->chains[id] : &empty;
}

/* The first entry behind a place. */
static size_t
chain_after(const struct hook_chain *chain, uint64_t place)
{
	size_t i = 0;
	while (i < chain->count && chain->entries[i].place <= place)
		i++;
	return i;
}

static const char *
verdict_name(enum iris_verdict verdict)
{
	return verdict == IRIS_PASS ? "pass" : verdict == IRIS_DONE ? "done" : "refuse";
}

static bool
is_traced(const struct hook_kind *kind, const void *arg)
{
	const struct hook_trace *wanted = atomic_load_explicit(&trace, memory_order_acquire);

	if (wanted == NULL)
		return false;
	const struct iris_jid jid = kind->subject(arg);
	return !jid_is_none(&jid) && str_equal(jid_bare(&jid), wanted->bare);
}

static enum iris_verdict
run_entry(const struct hook_kind *kind, struct hook_entry entry, void *arg,
	  _Atomic uint32_t *inside, bool traced)
{
	enum iris_verdict verdict;

	module_enter_from(inside, entry.module);
	verdict = kind->call(entry.fn, arg);
	/* The name must be read while the module is held. */
	if (traced)
		LOG(IRIS_LOG_DEBUG, "hook", kind->name, LOG_CSTR("module", entry.module->name),
		    LOG_INT("band", PLACE_BAND(entry.place)),
		    LOG_CSTR("verdict", verdict_name(verdict)));
	module_leave_from(inside, entry.module);
	return verdict;
}

static enum iris_verdict
run(const struct hook_kind *kind, void *arg)
{
	const struct hook_chains *chains = atomic_load_explicit(&published, memory_order_acquire);
	const struct hook_chain *chain = chain_of(chains, kind->id);
	const bool traced = chain->count > 0 && is_traced(kind, arg);
	_Atomic uint32_t *const inside = module_inside();
	enum iris_verdict result = IRIS_PASS;
	size_t i = 0;

	while (i < chain->count) {
		const struct hook_entry entry = chain->entries[i];
		const uint64_t generation = chains->generation;

		if (PLACE_BAND(entry.place) != IRIS_OBSERVE && result != IRIS_PASS) {
			i++; /* decided: only those who observe still hear of it */
			continue;
		}
		const enum iris_verdict verdict = run_entry(kind, entry, arg, inside, traced);
		if (PLACE_BAND(entry.place) != IRIS_OBSERVE)
			result = verdict;
		chains = atomic_load_explicit(&published, memory_order_acquire);
		chain = chain_of(chains, kind->id);
		i = chains && chains->generation == generation ? i + 1
							       : chain_after(chain, entry.place);
	}
	return result;
}

#define X(name, type)                                                                           \
	static enum iris_verdict call_##name(enum iris_verdict (*fn)(void *), void *arg)        \
	{                                                                                       \
		return ((iris_hook_fn_##name)fn)(arg);                                          \
	}                                                                                       \
	enum iris_verdict hook_run_##name(type *arg)                                            \
	{                                                                                       \
		static const struct hook_kind kind = { IRIS_HOOK_ID_##name, #name, call_##name, \
						       SUBJECT(type) };                         \
		return run(&kind, arg);                                                         \
	}
IRIS_HOOKS(X)
#undef X

bool
hook_is_used(enum iris_hook_id id)
{
	return chain_of(atomic_load_explicit(&published, memory_order_acquire), id)->count > 0;
}

void
hook_trace_set(struct iris_str bare)
{
	struct hook_trace *wanted = NULL;

	if (!str_is_empty(bare)) {
		wanted = iris_calloc(1, sizeof(*wanted) + bare.len + 1);
		memcpy(wanted->text, bare.base, bare.len);
		wanted->bare = (struct iris_str){ wanted->text, bare.len };
	}
	wanted = atomic_exchange(&trace, wanted);
	module_grace();
	free(wanted);
}

/* --- the chains --- */

static int
compare_places(const void *a, const void *b)
{
	const uint64_t x = ((const struct hook_entry *)a)->place,
		       y = ((const struct hook_entry *)b)->place;
	return x < y ? -1 : x > y;
}

static size_t
count_handlers(const struct module_set *set, int id)
{
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_hook_handler *h = set->modules[i]->hooks; h && h->fn; h++)
			if (id < 0 || h->id == (enum iris_hook_id)id)
				count++;
	return count;
}

static void *
hook_build(const struct module_set *set, struct iris_error *error)
{
	static uint64_t generations;
	struct hook_chains *chains = iris_calloc(
		1, sizeof(*chains) + count_handlers(set, -1) * sizeof(struct hook_entry));
	struct hook_entry *entry = chains->entries;

	chains->generation = ++generations;
	for (int id = 0; id < IRIS_HOOK_COUNT; id++) {
		struct hook_entry *first = entry;

		for (size_t i = 0; i < set->count; i++) {
			const struct iris_module *module = set->modules[i];
			for (const struct iris_hook_handler *h = module->hooks; h && h->fn; h++)
				if (h->id == (enum iris_hook_id)id)
					*entry++ = (struct hook_entry){
						.module = module,
						.fn = h->fn,
						.place = PLACE(h->band, set->orders[i],
							       h - module->hooks),
					};
		}
		chains->chains[id] = (struct hook_chain){ first, (size_t)(entry - first) };
		qsort(first, (size_t)(entry - first), sizeof(*first), compare_places);
	}
	return chains;
}

static void *
hook_swap(void *table)
{
	return atomic_exchange(&published, table);
}

const struct module_table hook_table = { "hooks", hook_build, hook_swap, free };
