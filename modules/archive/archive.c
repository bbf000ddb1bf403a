/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account keeps of its conversations: see README.md.  Home worker of the account; posts,
 * never waits.  It does not answer queries and does not deliver: other plug-ins do.
 */
#include "modules/archive/archive.h"
#include "xep/payloads.h"

enum { OPT_KEEP };
enum { KEEP_ALL, KEEP_OFFLINE };
static const char *const archive_keep_choices[] = { "all", "offline", NULL };

static struct iris_module_self archive_self;

static struct iris_metric archive_metrics[] = {
	{ .name = "iris_archive_entries_total", .help = "Messages written to accounts' archives" },
	{ .name = "iris_archive_refused_total", .help = "Messages refused because they could not be written" },
	{ .name = NULL },
};

/* --- what is kept --- */

/* Markers, receipts, reactions, retractions, encrypted payloads … but not what is only of the moment. */
static bool
archive_has_content(const struct iris_element *message)
{
	ELEMENT_FOREACH(child, message) {
		if (str_is(child->ns, NS_CLIENT) ? str_is(child->name, "body") || str_is(child->name, "subject") :
		    !payload_is_chat_state(child) && !payload_is_hint(child) && !payload_is_receipt(child))
			return true;
	}
	return message_has_hint(message, "store");
}

bool
archive_is_storable(const struct iris_stanza *stanza)
{
	if (stanza->kind != IRIS_MESSAGE || (stanza->type != IRIS_CHAT && stanza->type != IRIS_NORMAL))
		return false;
	if (message_has_hint(stanza->root, "no-store") || message_has_hint(stanza->root, "no-permanent-store"))
		return false;
	return archive_has_content(stanza->root);
}

bool
archive_is_for_offline(const struct iris_stanza *stanza)
{
	return (stanza->type == IRIS_CHAT || stanza->type == IRIS_NORMAL) &&
	       !message_has_hint(stanza->root, "no-store") && archive_has_content(stanza->root);
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
		.id = vault_next_id(IRIS_SEQ_LOG), .owner = user->account.owner, .reader = user->account.id,
		.peer = vault_peer_id(jid_bare(peer)), .time_ms = stanza->received_ms, .flags = flags,
	};
	enum iris_vault_result result;

	delivery_write(&text, delivery);
	entry.body = strbuf_str(&text);
	result = log_append(&entry, ticket);
	arena_unref(&arena);
	if (result == IRIS_VAULT_OK)
		*id_r = entry.id;
	metric_add(&archive_metrics[result == IRIS_VAULT_OK ? 0 : 1], 1);
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
	if (stanza)
		stanza->received_ms = entry->time_ms;
	return stanza;
}

static enum iris_verdict
archive_refuse(struct iris_request *request, enum iris_vault_result result)
{
	request->refusal.condition = result == IRIS_VAULT_BUSY ? IRIS_RESOURCE_CONSTRAINT : IRIS_INTERNAL_SERVER_ERROR;
	return IRIS_REFUSE;
}

static enum iris_verdict
archive_message_out(struct iris_request *request)
{
	struct iris_delivery delivery = { .stanza = request->stanza };
	enum iris_vault_result result;
	int64_t id;

	if (option_int(&archive_self, OPT_KEEP) != KEEP_ALL || !request->session ||
	    !archive_is_storable(request->stanza))
		return IRIS_PASS;
	if (jid_bare_equal(&request->stanza->to, &request->session->jid))
		return IRIS_PASS; /* to oneself: one entry, when it is received */
	result = archive_append(request->session->user, &delivery, ARCHIVE_SENT, request->ticket, &id);
	return result == IRIS_VAULT_OK ? IRIS_PASS : archive_refuse(request, result);
}

static enum iris_verdict
archive_message_in(struct iris_incoming *incoming)
{
	const struct iris_stanza *stanza = incoming->delivery.stanza;
	enum iris_vault_result result;
	unsigned flags;

	if (option_int(&archive_self, OPT_KEEP) != KEEP_ALL || !archive_is_storable(stanza))
		return IRIS_PASS;
	flags = archive_is_for_offline(stanza) ? ARCHIVE_OFFLINE : 0;
	result = archive_append(incoming->user, &incoming->delivery, flags, incoming->ticket,
				&incoming->delivery.log_id);
	return result == IRIS_VAULT_OK ? IRIS_PASS : archive_refuse(incoming->request, result);
}

static const struct iris_hook_handler archive_hooks[] = {
	HOOK(message_out, IRIS_NEUTRAL, archive_message_out),
	HOOK(message_in, IRIS_NEUTRAL, archive_message_in),
	HOOKS_END,
};

static const struct iris_option archive_options[] = {
	[OPT_KEEP] = { "keep", IRIS_OPT_CHOICE, "all", .choices = archive_keep_choices, .reloadable = true,
		.help = "Which messages are kept: all of them, or only those that nobody is there to take." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_archive = {
	IRIS_MODULE_HEAD,
	.name = "archive",
	.summary = "What accounts keep of their conversations",
	.self = &archive_self,
	.options = archive_options,
	.hooks = archive_hooks,
	.metrics = archive_metrics,
};
