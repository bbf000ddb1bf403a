/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0050 1.3: Ad-Hoc Commands of a host: the table of commands (iris/command.h) as forms.
 * Handled on the asker's home worker, where the commands under way are kept, bounded, for a while.
 *
 * A request that brings its submitted form with it is run at once: that is how irisctl asks.
 * What the asker's role may not do does not exist for it.
 */
#include <stdlib.h>

#include "iris/auth.h"
#include "xep/xep0004_forms.h"

#define NS_COMMANDS "http://jabber.org/protocol/commands"

enum { OPT_LIFETIME, OPT_COUNT };

/* A command whose form was sent and has not come back. In order of age. */
struct adhoc {
	TAILQ_ENTRY(adhoc) link;
	struct iris_hash_node node; /* by session id */
	char *id, *owner, *name;    /* owner: the asker's full JID; name: the command's node */
	int64_t expires_ms;
};

static struct iris_module_self adhoc_self;
TAILQ_HEAD(adhoc_queue, adhoc);
static struct adhoc_home {
	struct iris_hash by_id;
	struct adhoc_queue queue;
} adhoc_homes[WORKER_LIMIT];

/*
 * As it is now. Waits.
 * SECURITY: what was read when the asker signed in may be older than the configuration, and
 * whoever is no administrator any more would stay one as long as it is connected.
 */
static enum iris_role
adhoc_role(const struct iris_request *request)
{
	struct iris_account account;

	if (!request->session || !accounts()->find(&request->session->user->jid, &account) ||
	    account.id == 0 || account.locked)
		return IRIS_ROLE_NONE;
	return account.role;
}

/* irisctl knows nouns and verbs. */
static struct iris_str
adhoc_node(struct iris_arena *arena, const struct iris_command *command, enum iris_role role)
{
	if (command->node && role != IRIS_ROLE_OPERATOR)
		return str_from(command->node);
	return arena_printf(arena, "%s/%s", command->noun, command->verb);
}

/* A command by the node that a XEP gave it */
struct adhoc_search {
	struct iris_str node;
	const struct iris_command *found;
};

static bool
adhoc_match_node(const struct iris_command *command, void *arg)
{
	struct adhoc_search *search = arg;

	if (command->node && str_is(search->node, command->node))
		search->found = command;
	return !search->found;
}

static const struct iris_command *
adhoc_find(const struct iris_request *request, struct iris_str node)
{
	const char *slash = node.len ? memchr(node.base, '/', node.len) : NULL;
	size_t noun = slash ? (size_t)(slash - node.base) : 0;
	enum iris_role role = adhoc_role(request);
	struct adhoc_search search = { .node = node };

	if (slash)
		return command_find(role, (struct iris_str){ node.base, noun },
				    (struct iris_str){ slash + 1, node.len - noun - 1 });
	command_each(role, adhoc_match_node, &search);
	return search.found;
}

/* --- commands under way --- */

static void
adhoc_drop(struct adhoc_home *home, struct adhoc *adhoc)
{
	TAILQ_REMOVE(&home->queue, adhoc, link);
	hash_remove(&home->by_id, &adhoc->node);
	free(adhoc->id);
	free(adhoc->owner);
	free(adhoc->name);
	free(adhoc);
}

/* SECURITY: whoever opens commands and leaves them pushes out the oldest, not the memory. */
static void
adhoc_expire(struct adhoc_home *home)
{
	struct adhoc *oldest;

	while ((oldest = TAILQ_FIRST(&home->queue)) != NULL &&
	       (oldest->expires_ms <= worker_now_ms() ||
		home->by_id.count >= (size_t)option_int(&adhoc_self, OPT_COUNT)))
		adhoc_drop(home, oldest);
}

static struct iris_str
adhoc_open(struct iris_request *request, struct iris_str node)
{
	struct adhoc_home *home = &adhoc_homes[worker_index()];
	struct adhoc *adhoc = iris_calloc(1, sizeof(*adhoc));

	if (!home->queue.tqh_last)
		TAILQ_INIT(&home->queue);
	adhoc_expire(home);
	adhoc->id = str_dup(random_id(request->arena, 144));
	adhoc->owner = str_dup(jid_full(&request->stanza->from));
	adhoc->name = str_dup(node);
	adhoc->expires_ms = worker_now_ms() + option_int(&adhoc_self, OPT_LIFETIME);
	hash_insert(&home->by_id, &adhoc->node, str_from(adhoc->id));
	TAILQ_INSERT_TAIL(&home->queue, adhoc, link);
	return str_from(adhoc->id);
}

/* Takes the command under way out; false: there is none of that id, node and asker. */
static bool
adhoc_close(struct iris_request *request, struct iris_str node, struct iris_str id)
{
	struct adhoc_home *home = &adhoc_homes[worker_index()];
	struct iris_hash_node *found = hash_find(&home->by_id, id);
	struct adhoc *adhoc = found ? IRIS_CONTAINER(found, struct adhoc, node) : NULL;
	bool valid;

	if (!adhoc || !str_is(jid_full(&request->stanza->from), adhoc->owner) ||
	    !str_is(node, adhoc->name))
		return false;
	valid = adhoc->expires_ms > worker_now_ms();
	adhoc_drop(home, adhoc);
	return valid;
}

/* --- forms --- */

static const char *
adhoc_field_type(enum iris_field_kind kind)
{
	switch (kind) {
	case IRIS_FIELD_SECRET: return "text-private";
	case IRIS_FIELD_BOOL: return "boolean";
	case IRIS_FIELD_JID: return "jid-single";
	case IRIS_FIELD_CHOICE: return "list-single";
	case IRIS_FIELD_TEXTS: return "text-multi";
	case IRIS_FIELD_TEXT:
	case IRIS_FIELD_INT: break;
	}
	return "text-single";
}

static void
adhoc_add_fields(struct iris_element *form, const struct iris_command *command)
{
	const struct iris_command_field *field = command->fields;

	for (; field && field->name; field++) {
		struct iris_element *element =
			form_add_field(form, adhoc_field_type(field->kind), field->name,
				       str_from(field->fallback));

		form_field_set_label(element, str_from(field->label));
		if (field->required)
			form_field_set_required(element);
		for (const char *const *choice = field->choices; choice && *choice; choice++)
			form_field_add_option(element, str_from(*choice));
	}
}

static struct iris_element *
adhoc_reply(struct iris_request *request, struct iris_str node, struct iris_str id,
	    const char *status)
{
	request->reply = element_new(request->arena, "command", NS_COMMANDS);
	element_set(request->reply, "node", node);
	element_set(request->reply, "sessionid", id);
	element_set(request->reply, "status", str_from(status));
	return request->reply;
}

/* §2.4: the form is sent; it comes back with the id. */
static enum iris_verdict
adhoc_ask(struct iris_request *request, const struct iris_command *command, struct iris_str node)
{
	struct iris_element *reply =
		adhoc_reply(request, node, adhoc_open(request, node), "executing");
	struct iris_element *actions = element_add(reply, "actions", NULL), *form;

	element_set(actions, "execute", IRIS_STR("complete"));
	element_add(actions, "complete", NULL);
	form = form_add(reply, "form", NULL);
	form_set_title(form, str_from(command->summary),
		       command->dangerous ? IRIS_STR("This cannot be undone.") : IRIS_STR_NONE);
	adhoc_add_fields(form, command);
	return IRIS_DONE;
}

static struct iris_str *
adhoc_values(struct iris_request *request, const struct iris_command *command,
	     const struct iris_element *form)
{
	size_t count = 0;
	struct iris_str *values;

	while (command->fields && command->fields[count].name)
		count++;
	values = arena_alloc(request->arena, (count + 1) * sizeof(*values));
	for (size_t i = 0; form && i < count; i++) {
		const struct iris_command_field *field = &command->fields[i];

		values[i] = field->kind == IRIS_FIELD_TEXTS ? form_values(form, field->name) :
							      form_value(form, field->name);
	}
	return values;
}

static void
adhoc_add_result(struct iris_element *reply, const struct iris_command_call *call)
{
	struct iris_element *form, *note;
	size_t width = 0;

	if (!str_is_empty(call->note)) {
		note = element_add_text(reply, "note", NULL, call->note);
		element_set(note, "type", IRIS_STR("info"));
	}
	if (!call->columns)
		return;
	if (call->command->form_type && call->role != IRIS_ROLE_OPERATOR && call->row_count == 1) {
		form = form_add(reply, "result", call->command->form_type);
		for (; call->columns[width]; width++)
			if (!str_is_none(call->cells[width]))
				form_add_field(form, "text-single", call->columns[width],
					       call->cells[width]);
		return;
	}
	while (call->columns[width])
		width++;
	form = form_add(reply, "result", NULL);
	form_add_reported(form, call->columns);
	for (size_t row = 0; row < call->row_count; row++)
		form_add_item(form, call->columns, call->cells + row * width);
}

static enum iris_verdict
adhoc_run(struct iris_request *request, const struct iris_command *command, struct iris_str node,
	  struct iris_str id)
{
	struct iris_command_call call = {
		.arena = request->arena,
		.from = request->stanza->from,
		.role = adhoc_role(request),
		.command = command,
	};
	struct iris_stream *stream = request->session ? request->session->stream : NULL;

	if (stream)
		call.address = arena_copy_str(request->arena, stream_peer_address(stream));
	call.values = adhoc_values(request, command, form_find(request->payload, "submit"));
	command_run(&call);
	if (call.refusal.condition != IRIS_NO_ERROR) {
		request->refusal = call.refusal;
		return IRIS_REFUSE;
	}
	if (str_is_empty(id))
		id = random_id(request->arena, 72);
	adhoc_add_result(adhoc_reply(request, node, id, "completed"), &call);
	return IRIS_DONE;
}

/* §4.2: which error, and what it is about. */
static enum iris_verdict
adhoc_refuse(struct iris_request *request, enum iris_condition condition, const char *app)
{
	request->refusal.condition = condition;
	if (app)
		request->refusal.app = element_new(request->arena, app, NS_COMMANDS);
	return IRIS_REFUSE;
}

static enum iris_verdict
adhoc_execute(struct iris_request *request, const struct iris_command *command,
	      struct iris_str node)
{
	bool needs_form = command->dangerous || (command->fields && command->fields->name);

	if (needs_form && !form_find(request->payload, "submit"))
		return adhoc_ask(request, command, node);
	return adhoc_run(request, command, node, IRIS_STR_NONE);
}

static enum iris_verdict
adhoc_command(struct iris_request *request)
{
	struct iris_str node = element_get(request->payload, "node");
	struct iris_str action = element_get(request->payload, "action");
	struct iris_str id = element_get(request->payload, "sessionid");
	const struct iris_command *command = adhoc_find(request, node);

	if (!command)
		return adhoc_refuse(request, IRIS_ITEM_NOT_FOUND, NULL);
	if (str_is_empty(id) && (str_is_empty(action) || str_is(action, "execute")))
		return adhoc_execute(request, command, node);
	if (str_is(action, "prev") || str_is(action, "next"))
		return adhoc_refuse(request, IRIS_BAD_REQUEST, "bad-action");
	if (!str_is_empty(action) && !str_is(action, "execute") && !str_is(action, "complete") &&
	    !str_is(action, "cancel"))
		return adhoc_refuse(request, IRIS_BAD_REQUEST, "malformed-action");
	if (!adhoc_close(request, node, id))
		return adhoc_refuse(request, IRIS_BAD_REQUEST, "bad-sessionid");
	if (str_is(action, "cancel")) {
		adhoc_reply(request, node, id, "canceled");
		return IRIS_DONE;
	}
	if (!form_find(request->payload, "submit"))
		return adhoc_refuse(request, IRIS_BAD_REQUEST, "bad-payload");
	return adhoc_run(request, command, node, id);
}

/* --- discovery: §2.2, §2.3 --- */

struct adhoc_listing {
	struct iris_element *query;
	struct iris_str host;
	enum iris_role role;
};

static bool
adhoc_list_command(const struct iris_command *command, void *arg)
{
	struct adhoc_listing *listing = arg;
	struct iris_element *item = element_add(listing->query, "item", NULL);

	element_set(item, "jid", listing->host);
	element_set(item, "node", adhoc_node(item->arena, command, listing->role));
	element_set(item, "name", str_from(command->summary));
	return true;
}

static enum iris_verdict
adhoc_disco_items(struct iris_discovery *discovery)
{
	struct adhoc_listing listing = { .query = discovery->query };

	if (discovery->of != IRIS_DISCO_HOST || !str_is(discovery->node, NS_COMMANDS))
		return IRIS_PASS;
	discovery->known_node = true;
	listing.host = discovery->request->host->name;
	listing.role = adhoc_role(discovery->request);
	command_each(listing.role, adhoc_list_command, &listing);
	return IRIS_PASS;
}

static void
adhoc_describe(struct iris_element *query, const char *type, struct iris_str name)
{
	struct iris_element *identity = element_add(query, "identity", NULL);

	element_set(identity, "category", IRIS_STR("automation"));
	element_set(identity, "type", str_from(type));
	element_set(identity, "name", name);
	element_set(element_add(query, "feature", NULL), "var", IRIS_STR(NS_COMMANDS));
	element_set(element_add(query, "feature", NULL), "var", IRIS_STR(NS_DATA));
}

static enum iris_verdict
adhoc_disco_info(struct iris_discovery *discovery)
{
	const struct iris_command *command;

	if (discovery->of != IRIS_DISCO_HOST || str_is_none(discovery->node))
		return IRIS_PASS;
	command = adhoc_find(discovery->request, discovery->node);
	if (!command && !str_is(discovery->node, NS_COMMANDS))
		return IRIS_PASS;
	discovery->known_node = true;
	adhoc_describe(discovery->query, command ? "command-node" : "command-list",
		       command ? str_from(command->summary) : IRIS_STR("Commands"));
	return IRIS_PASS;
}

/* At stop the workers are quiet: nobody is asking any more. */
static void
adhoc_stop(void)
{
	for (unsigned i = 0; i < WORKER_LIMIT; i++) {
		struct adhoc_home *home = &adhoc_homes[i];

		while (home->queue.tqh_last && !TAILQ_EMPTY(&home->queue))
			adhoc_drop(home, TAILQ_FIRST(&home->queue));
		hash_free(&home->by_id);
	}
}

static const struct iris_feature adhoc_features[] = { { IRIS_DISCO_HOST, NS_COMMANDS },
						      { .var = NULL } };

static const struct iris_iq adhoc_iq[] = {
	{ IRIS_TO_HOST, IRIS_SET, "command", NS_COMMANDS, IRIS_ANYONE, adhoc_command },
	{ .name = NULL },
};

static const struct iris_hook_handler adhoc_hooks[] = {
	HOOK(disco_items, IRIS_NEUTRAL, adhoc_disco_items),
	HOOK(disco_info, IRIS_NEUTRAL, adhoc_disco_info),
	HOOKS_END,
};

static const struct iris_option adhoc_options[] = {
	[OPT_LIFETIME] = { "lifetime", IRIS_OPT_DURATION, "15 minutes", .min = 1000,
			   .max = 86400000, .reloadable = true,
			   .help = "How long a command waits for its form to come back." },
	[OPT_COUNT] = { "count-max", IRIS_OPT_INT, "1000", .min = 10, .max = 100000,
			.reloadable = true,
			.help = "How many commands may wait for their forms, on each worker." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0050 = {
	IRIS_MODULE_HEAD,
	.name = "xep0050",
	.summary = "Ad-Hoc Commands",
	.xep = "XEP-0050 1.3.0",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &adhoc_self,
	.options = adhoc_options,
	.features = adhoc_features,
	.iq = adhoc_iq,
	.hooks = adhoc_hooks,
	.not_unloadable = true,
	.stop = adhoc_stop,
};
