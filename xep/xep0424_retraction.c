/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0424 0.4: Message Retraction, as an archiving server has it (§5, P6.7).  Home worker of the
 * sender, then of the recipient, each for the archive of its account, on a fiber of its own.
 *
 * The retraction goes its way as any message, and is kept.  What it names becomes a tombstone: the
 * entry keeps id, time and addresses, its content is not in the store any more; so do its
 * corrections (XEP-0308), which are entries of their own.  The sender's ticket is held until then:
 * who is told that the retraction was handled can rely on it.
 *
 * Ids of messages are sealed with them, so there is no index of them: the conversation is read
 * backwards, which finds the last message at once, up to a limit.  A retraction that is not to be
 * kept changes nothing.  It does not do: moderation (XEP-0425), rooms.
 */
#include <stdlib.h>

#include "iris/fiber.h"
#include "modules/archive/archive.h"
#include "xep/payloads.h"

#define RETRACT_PAGE 50

enum { OPT_SEARCH_MAX };

struct retraction {
	struct iris_user *user;     /* whose archive; held */
	struct iris_stanza *stanza; /* the retraction */
	struct iris_ticket *ticket;
	struct iris_str id;         /* what is retracted */
	struct iris_str needle;     /* the same as it stands in entries */
	bool sent;
	bool found;
};

static struct iris_module_self retract_self;

static struct iris_metric retract_metrics[] = {
	{ .name = "iris_retract_tombstones_total",
	  .help = "Messages in archives that became tombstones" },
	{ .name = "iris_retract_unfound_total",
	  .help = "Retractions whose message was not found in an archive" },
	{ .name = NULL },
};
enum { METRIC_TOMBSTONES, METRIC_UNFOUND };

/* --- which entries --- */

/* The message itself, by the id of its sender or its origin-id. */
static bool
retract_names(const struct retraction *retraction, const struct iris_stanza *stanza)
{
	return str_equal(stanza->id, retraction->id) ||
	       str_equal(message_origin_id(stanza->root), retraction->id);
}

/* A correction of it: XEP-0308 §4 has all of them name the first message. */
static bool
retract_is_correction(const struct retraction *retraction, const struct iris_stanza *stanza)
{
	struct iris_element *replace = element_child(stanza->root, "replace", NS_CORRECT);

	return replace && str_equal(element_get(replace, "id"), retraction->id);
}

/* §6. SECURITY: only who sent a message may take it back; a retraction cannot be taken back. */
static bool
retract_may(const struct retraction *retraction, const struct iris_stanza *stanza)
{
	return jid_bare_equal(&stanza->from, &retraction->stanza->from) &&
	       !message_is_tombstone(stanza->root) &&
	       !element_child(stanza->root, "retract", NS_RETRACT);
}

/* --- what they become --- */

static struct iris_stanza *
retract_tombstone(const struct retraction *retraction, const struct iris_stanza *original)
{
	struct iris_stanza *tombstone = stanza_new(IRIS_MESSAGE, original->type);
	struct iris_element *retracted;

	stanza_set_from(tombstone, &original->from);
	stanza_set_to(tombstone, &original->to);
	if (!str_is_none(original->id))
		stanza_set_id(tombstone, original->id);
	retracted = element_add(tombstone->root, "retracted", NS_RETRACT);
	element_set(retracted, "id", retraction->stanza->id);
	element_set(retracted, "stamp",
		    datetime_format(tombstone->arena, retraction->stanza->received_ms));
	return tombstone;
}

static void
retract_entry(struct retraction *retraction, const struct iris_log_entry *entry)
{
	struct iris_stanza *original, *tombstone;

	/* Nearly all others are passed over without being parsed. */
	if (!memmem(entry->body.base, entry->body.len, retraction->needle.base,
		    retraction->needle.len))
		return;
	original = archive_entry_stanza(entry);
	if (!original)
		return;
	bool is_it = retract_names(retraction, original);
	if (retract_may(retraction, original) &&
	    (is_it || retract_is_correction(retraction, original))) {
		tombstone = retract_tombstone(retraction, original);
		/*
		 * Not posted: the ticket has failed, and the sender is not told that it was
		 * handled.
		 */
		if (archive_replace(entry, tombstone, retraction->ticket) == IRIS_VAULT_OK) {
			metric_add(&retract_metrics[METRIC_TOMBSTONES], 1);
			hook_run_message_retracted(&(struct iris_retracted){
				.user = retraction->user,
				.original = original,
				.sender = retraction->sent ? &retraction->user->account : NULL,
				.ticket = retraction->ticket,
			});
		}
		retraction->found |= is_it;
		stanza_unref(&tombstone);
	}
	stanza_unref(&original);
}

/* --- reading backwards --- */

static void
retract_search(struct retraction *retraction)
{
	const struct iris_stanza *stanza = retraction->stanza;
	const struct iris_account *account = &retraction->user->account;
	int64_t left = option_int(&retract_self, OPT_SEARCH_MAX);
	struct iris_log_query query = {
		.reader = account->id,
		.peer = vault_peer_id(jid_bare(retraction->sent ? &stanza->to : &stanza->from)),
		.flags_all = ARCHIVE_HISTORY,
		.limit = RETRACT_PAGE,
		.backwards = true,
	};
	struct iris_log_page page = { .more = true };

	for (; left > 0 && page.more && !retraction->found; left -= RETRACT_PAGE) {
		struct iris_arena *arena = arena_new();

		/* Who stops does not wait for long searches: the sender is not told it was done. */
		if (worker_is_stopping() ||
		    log_read(&query, account->owner, arena, &page) != IRIS_VAULT_OK) {
			ticket_fail(retraction->ticket);
			page = (struct iris_log_page){ .count = 0 };
		}
		for (size_t i = page.count; i-- > 0 && !retraction->found;)
			retract_entry(retraction, &page.entries[i]);
		if (page.count > 0)
			query.before_id = page.entries[0].id;
		arena_unref(&arena);
	}
}

static void
retract_run(void *arg)
{
	struct retraction *retraction = arg;

	archive_change_begin(retraction->user);
	retract_search(retraction);
	archive_change_end(retraction->user);
	if (!retraction->found)
		metric_add(&retract_metrics[METRIC_UNFOUND], 1);
	ticket_unref(&retraction->ticket);
	stanza_unref(&retraction->stanza);
	user_release(&retraction->user);
	free(retraction);
}

/* --- messages --- */

static struct iris_str
retract_target(const struct iris_stanza *stanza)
{
	struct iris_element *retract = element_child(stanza->root, "retract", NS_RETRACT);

	/* §5: clients find the retraction by the id that stands in the tombstone. */
	if (!retract || str_is_empty(stanza->id) || !archive_is_storable(stanza))
		return IRIS_STR_NONE;
	return element_get(retract, "id");
}

static bool
retract_begin(struct iris_user *user, struct iris_stanza *stanza, bool sent,
	      struct iris_ticket *ticket)
{
	struct iris_str id = retract_target(stanza);
	struct iris_arena *arena;
	struct iris_strbuf escaped;
	struct retraction *retraction;

	if (str_is_empty(id))
		return true;
	arena = arena_new();
	escaped = (struct iris_strbuf)STRBUF_INIT(arena);
	xml_escape(&escaped, id);
	struct iris_str needle = strbuf_str(&escaped);
	retraction = iris_calloc(1, sizeof(*retraction) + needle.len);
	*retraction = (struct retraction){ .user = user, .stanza = stanza_ref(stanza),
					   .ticket = ticket_ref(ticket), .id = id, .sent = sent };
	retraction->needle.base = memcpy(retraction + 1, needle.base, needle.len);
	retraction->needle.len = needle.len;
	arena_unref(&arena);
	user_hold(user);
	if (fiber_start_spare("xep0424: retract", retract_run, retraction))
		return true;
	ticket_unref(&retraction->ticket);
	stanza_unref(&retraction->stanza);
	user_release(&retraction->user);
	free(retraction);
	return false;
}

static enum iris_verdict
retract_busy(struct iris_request *request)
{
	request->refusal.condition = IRIS_RESOURCE_CONSTRAINT;
	return IRIS_REFUSE;
}

static enum iris_verdict
retract_message_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;

	if (!request->session || jid_bare_equal(&stanza->to, &request->session->jid))
		return IRIS_PASS; /* to oneself: when it is received */
	return retract_begin(request->session->user, stanza, true, request->ticket) ?
		       IRIS_PASS :
		       retract_busy(request);
}

static enum iris_verdict
retract_message_in(struct iris_incoming *incoming)
{
	return retract_begin(incoming->user, incoming->delivery.stanza, false, incoming->ticket) ?
		       IRIS_PASS :
		       retract_busy(incoming->request);
}

static const struct iris_feature retract_features[] = {
	{ IRIS_DISCO_ACCOUNT, NS_RETRACT },
	{ IRIS_DISCO_ACCOUNT, NS_RETRACT "#tombstone" },
	{ .var = NULL },
};

static const struct iris_hook_handler retract_hooks[] = {
	HOOK(message_out, IRIS_LATE, retract_message_out),
	HOOK(message_in, IRIS_LATE, retract_message_in),
	HOOKS_END,
};

static const struct iris_option retract_options[] = {
	[OPT_SEARCH_MAX] = { .name = "search-max", .type = IRIS_OPT_INT, .fallback = "1000",
			     .min = RETRACT_PAGE, .max = 100000, .reloadable = true,
			     .help = "How many messages of a conversation are looked through, "
				     "newest first, for the one that is retracted." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0424 = {
	IRIS_MODULE_HEAD,
	.name = "xep0424",
	.summary = "Message Retraction",
	.xep = "XEP-0424 0.4.2",
	.needs = IRIS_NAMES("archive"),
	.self = &retract_self,
	.options = retract_options,
	.features = retract_features,
	.hooks = retract_hooks,
	.metrics = retract_metrics,
	.not_unloadable = true,
};
