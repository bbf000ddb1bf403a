/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account keeps of its conversations: see README.md.  Home worker of the account; posts,
 * never waits but where a user is loaded or removed.  It does not answer queries and does not
 * deliver: other plug-ins do.
 */
#include <stdio.h>
#include <stdlib.h>

#include "modules/archive/archive_private.h"
#include "xep/payloads.h"

enum { OPT_KEEP, OPT_KEEP_FOR, OPT_SWEEP_EVERY, OPT_RESEND_WINDOW };
enum { KEEP_ALL, KEEP_OFFLINE };
static const char *const archive_keep_choices[] = { "all", "offline", NULL };

static struct iris_module_self archive_self;
static int64_t archive_started_ms;

static struct iris_metric archive_metrics[] = {
	{ .name = "iris_archive_entries_total", .help = "Messages written to accounts' archives" },
	{ .name = "iris_archive_refused_total",
	  .help = "Messages refused because they could not be written" },
	{ .name = "iris_archive_resent_total",
	  .help = "Messages that a client sent once more, and that were kept already" },
	{ .name = "iris_archive_expired_total",
	  .help = "Messages removed for their age, one by one" },
	{ .name = NULL },
};
enum { METRIC_ENTRIES, METRIC_REFUSED, METRIC_RESENT, METRIC_EXPIRED };

/* --- what the files of this folder ask --- */

int64_t
archive_keep_for_ms(void)
{
	return option_int(&archive_self, OPT_KEEP_FOR);
}

int64_t
archive_sweep_every_ms(void)
{
	return option_int(&archive_self, OPT_SWEEP_EVERY);
}

int64_t
archive_resend_ms(void)
{
	return option_int(&archive_self, OPT_RESEND_WINDOW);
}

void
archive_count_expired(size_t count)
{
	metric_add(&archive_metrics[METRIC_EXPIRED], (int64_t)count);
}

struct archive_user *
archive_of(struct iris_user *user)
{
	void **slot = user_slot(user, &archive_self);

	if (!*slot)
		*slot = iris_calloc(1, sizeof(struct archive_user));
	return *slot;
}

/* --- what is kept --- */

/*
 * P2.5: what is read in another region (a bubble's history, what somebody publishes) has no copy
 * here. SECURITY: whatever else that region has put into the message.
 */
static bool
archive_is_read_afar(const struct iris_stanza *stanza)
{
	return stanza->from_afar && (message_is_result(stanza->root) ||
				     element_child(stanza->root, "event", NS_PUBSUB_EVENT));
}

static bool
archive_is_of_conversation(const struct iris_stanza *stanza)
{
	return stanza->kind == IRIS_MESSAGE &&
	       (stanza->type == IRIS_CHAT || stanza->type == IRIS_NORMAL) &&
	       !archive_is_read_afar(stanza);
}

bool
archive_is_storable(const struct iris_stanza *stanza)
{
	return archive_is_of_conversation(stanza) && !stanza->transit &&
	       !message_has_hint(stanza->root, "no-store") &&
	       !message_has_hint(stanza->root, "no-permanent-store") &&
	       message_has_content(stanza->root);
}

bool
archive_is_for_offline(const struct iris_stanza *stanza)
{
	return archive_may_wait(stanza) && !stanza->transit;
}

bool
archive_may_wait(const struct iris_stanza *stanza)
{
	return archive_is_of_conversation(stanza) && !message_has_hint(stanza->root, "no-store") &&
	       message_has_content(stanza->root);
}

/* Does it belong to this account's history: the server's choice, the sender's, the account's? */
static bool
archive_is_history(struct iris_user *user, const struct iris_stanza *stanza,
		   const struct iris_jid *peer)
{
	return option_int(&archive_self, OPT_KEEP) == KEEP_ALL && archive_is_storable(stanza) &&
	       archive_prefs_allow(user, &archive_of(user)->prefs, peer);
}

/* --- entries --- */

enum iris_vault_result
archive_append(const struct iris_user *user, const struct iris_delivery *delivery, unsigned flags,
	       struct iris_ticket *ticket, int64_t *id_r)
{
	const struct iris_stanza *stanza = delivery->stanza;
	const struct iris_jid *peer = flags & ARCHIVE_SENT ? &stanza->to : &stanza->from;
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_log_entry entry = {
		.id = vault_next_id(IRIS_SEQ_LOG),
		.owner = user->account.owner,
		.reader = user->account.id,
		.peer = vault_peer_id(jid_bare(peer)),
		.flags = flags,
	};
	enum iris_vault_result result;

	delivery_write(&text, delivery);
	entry.body = strbuf_str(&text);
	result = log_append(&entry, ticket);
	arena_unref(&arena);
	if (result == IRIS_VAULT_OK)
		*id_r = entry.id;
	metric_add(&archive_metrics[result == IRIS_VAULT_OK ? METRIC_ENTRIES : METRIC_REFUSED], 1);
	return result;
}

struct iris_stanza *
archive_entry_stanza(const struct iris_log_entry *entry)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_element *root;
	struct iris_stanza *stanza;
	const char *condition;

	/* The body is as on a stream, whose default namespace it relies on. */
	strbuf_add(&text, IRIS_STR("<x xmlns='" NS_CLIENT "'>"));
	strbuf_add(&text, entry->body);
	strbuf_add(&text, IRIS_STR("</x>"));
	root = element_parse(arena, strbuf_str(&text));
	root = root ? element_child(root, "message", NS_CLIENT) : NULL;
	if (!root) {
		arena_unref(&arena);
		return NULL;
	}
	element_remove(root);
	stanza = stanza_from_element(arena, root, &condition);
	if (stanza) {
		stanza->received_ms = log_id_time_ms(entry->id);
		stanza->transit = false; /* whoever asks for it: it was kept */
	}
	return stanza;
}

enum iris_vault_result
archive_replace(const struct iris_log_entry *entry, struct iris_stanza *stanza,
		struct iris_ticket *ticket)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_log_entry other = *entry;
	enum iris_vault_result result;

	stanza_freeze(stanza);
	delivery_write(&text, &(const struct iris_delivery){ .stanza = stanza });
	other.body = strbuf_str(&text);
	result = log_rewrite(&other, ticket);
	arena_unref(&arena);
	return result;
}

/* --- changes --- */

#define CHANGE_KEY 32

static struct iris_str
change_key(const struct iris_user *user, char key[CHANGE_KEY])
{
	int len = snprintf(key, CHANGE_KEY, "archive %lld", (long long)user->account.id);

	return (struct iris_str){ key, (size_t)len };
}

void
archive_change_begin(const struct iris_user *user)
{
	char key[CHANGE_KEY];

	fiber_lock(change_key(user, key));
}

void
archive_change_end(const struct iris_user *user)
{
	char key[CHANGE_KEY];

	fiber_unlock(change_key(user, key));
}

void
archive_settle(const struct iris_user *user)
{
	archive_change_begin(user);
	archive_change_end(user);
}

/* --- messages --- */

static enum iris_verdict
archive_refuse(struct iris_request *request, enum iris_vault_result result)
{
	request->refusal.condition = result == IRIS_VAULT_BUSY ? IRIS_RESOURCE_CONSTRAINT :
								 IRIS_INTERNAL_SERVER_ERROR;
	return IRIS_REFUSE;
}

/* The entry that has this message already; 0: it is to be made. */
static int64_t
archive_find_resent(struct iris_user *user, const struct iris_stanza *stanza, bool sent,
		    struct iris_ticket *ticket)
{
	int64_t id = resend_find(&archive_of(user)->window, stanza, sent);

	if (id) {
		resend_confirm(user, id, ticket);
		metric_add(&archive_metrics[METRIC_RESENT], 1);
	}
	return id;
}

static enum iris_verdict
archive_message_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_delivery delivery = { .stanza = stanza };
	enum iris_vault_result result;
	struct iris_user *user;
	int64_t id;

	if (!request->session || jid_bare_equal(&stanza->to, &request->session->jid))
		return IRIS_PASS; /* to oneself: one entry, when it is received */
	user = request->session->user;
	if (!archive_is_history(user, stanza, &stanza->to))
		return IRIS_PASS;
	if (archive_find_resent(user, stanza, true, request->ticket)) {
		request->is_resent = true; /* the recipient's home decides for itself */
		return IRIS_PASS;
	}
	result = archive_append(user, &delivery, ARCHIVE_SENT | ARCHIVE_HISTORY, request->ticket,
				&id);
	if (result != IRIS_VAULT_OK)
		return archive_refuse(request, result);
	resend_remember(&archive_of(user)->window, stanza, true, id);
	return IRIS_PASS;
}

static enum iris_verdict
archive_message_in(struct iris_incoming *incoming)
{
	const struct iris_stanza *stanza = incoming->delivery.stanza;
	struct iris_user *user = incoming->user;
	unsigned flags = ARCHIVE_HISTORY;
	enum iris_vault_result result;

	if (!archive_is_history(user, stanza, &stanza->from))
		return IRIS_PASS;
	if (archive_find_resent(user, stanza, false, incoming->ticket))
		return IRIS_DONE; /* it went, or will go, to the same sessions */
	if (archive_is_for_offline(stanza))
		flags |= ARCHIVE_OFFLINE;
	result = archive_append(user, &incoming->delivery, flags, incoming->ticket,
				&incoming->delivery.log_id);
	if (result != IRIS_VAULT_OK)
		return archive_refuse(incoming->request, result);
	resend_remember(&archive_of(user)->window, stanza, false, incoming->delivery.log_id);
	return IRIS_PASS;
}

/* --- the user comes and goes --- */

static enum iris_verdict
archive_user_load(struct iris_user *user)
{
	int64_t since = worker_wall_ms() - archive_resend_ms();

	if (archive_started_ms > since) /* what was seen before the start is in the log only */
		resend_recall(user, &archive_of(user)->window, since);
	return IRIS_PASS;
}

static enum iris_verdict
archive_user_unload(struct iris_user *user)
{
	void **slot = user_slot(user, &archive_self);
	struct archive_user *archive = *slot;

	if (!archive)
		return IRIS_PASS;
	archive_prefs_free(&archive->prefs);
	resend_free(&archive->window);
	free(archive);
	*slot = NULL;
	return IRIS_PASS;
}

static enum iris_verdict
archive_account_removed(struct iris_account_removed *removed)
{
	const struct iris_account *account = &removed->account;

	return vault_post(&archive_prefs_erase_query, account->owner,
			  VALUES(value_int(account->id)), NULL) == IRIS_VAULT_OK &&
			       retention_erase_account(account) ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static void
archive_reload(void)
{
	log_keep_for(archive_keep_for_ms());
}

static bool
archive_start(struct iris_error *error)
{
	archive_started_ms = worker_wall_ms();
	archive_reload();
	retention_start();
	return true;
}

static const struct iris_hook_handler archive_hooks[] = {
	HOOK(message_out, IRIS_NEUTRAL, archive_message_out),
	HOOK(message_in, IRIS_NEUTRAL, archive_message_in),
	HOOK(user_load, IRIS_NEUTRAL, archive_user_load),
	HOOK(user_unload, IRIS_NEUTRAL, archive_user_unload),
	HOOK(account_removed, IRIS_NEUTRAL, archive_account_removed),
	HOOKS_END,
};

static const struct iris_option archive_options[] = {
	[OPT_KEEP] = { .name = "keep", .type = IRIS_OPT_CHOICE, .fallback = "all",
		       .choices = archive_keep_choices, .reloadable = true,
		       .help = "Which messages are kept: all of them, or only those that nobody is "
			       "there to take." },
	[OPT_KEEP_FOR] = { .name = "keep-for", .type = IRIS_OPT_DURATION, .fallback = "0",
			   .max = INT64_C(1000) * 86400 * 36500, .reloadable = true,
			   .help = "The age from which messages are not given out any more, also "
				   "those that still wait for who is away, and are removed: one by "
				   "one, or, in PostgreSQL, with all of their month. 0 keeps them "
				   "for good." },
	[OPT_SWEEP_EVERY] = { .name = "sweep-every", .type = IRIS_OPT_DURATION,
			      .fallback = "1 minute", .min = 100, .max = 86400000,
			      .reloadable = true,
			      .help = "How often messages of that age are looked for." },
	[OPT_RESEND_WINDOW] = { .name = "resend-window", .type = IRIS_OPT_DURATION,
				.fallback = "10 minutes", .max = 86400000, .reloadable = true,
				.help = "How long the same origin-id from the same sender is the "
					"same message, sent once more. 0 keeps every one." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_archive = {
	IRIS_MODULE_HEAD,
	.name = "archive",
	.summary = "What accounts keep of their conversations",
	.self = &archive_self,
	.options = archive_options,
	.user_rows = (const struct iris_user_rows[]){ { &archive_prefs_load_query,
							archive_prefs_take },
						      { NULL } },
	.queries = (struct iris_query *const[]){ &archive_prefs_load_query,
						 &archive_prefs_store_query,
						 &archive_prefs_erase_query, NULL },
	.hooks = archive_hooks,
	.metrics = archive_metrics,
	.not_unloadable = true,
	.start = archive_start,
	.reload = archive_reload,
	.stop = retention_stop,
};
