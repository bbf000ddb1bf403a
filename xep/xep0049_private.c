/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0049 1.2: Private XML Storage.  One sealed row per account and element; bounded in
 * size and number.
 */
#include "xep/xep0049_private.h"

#define NS_PRIVATE "jabber:iq:private"

enum { OPT_SIZE, OPT_COUNT };

static struct iris_module_self private_self;

static struct iris_query private_load = {
	.name = "private.load", .table = "private_xml", .key = "account name",
	.sql = "SELECT value FROM private_xml WHERE account = $1 AND name = $2",
	.params = { { "account", IRIS_INT }, { "name", IRIS_TEXT } },
	.columns = { { "value", IRIS_SEALED } },
};

static struct iris_query private_count = {
	.name = "private.count", .table = "private_xml",
	.sql = "SELECT COUNT(*) FROM private_xml WHERE account = $1 AND name <> $2",
	.params = { { "account", IRIS_INT }, { "name", IRIS_TEXT } },
	.columns = { { "count", IRIS_INT } },
};

static struct iris_query private_store = {
	.name = "private.store", .table = "private_xml", .key = "account name", .write = true,
	.sql = "INSERT INTO private_xml (account, name, value) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account, name) DO UPDATE SET value = excluded.value",
	.params = { { "account", IRIS_INT }, { "name", IRIS_TEXT }, { "value", IRIS_SEALED } },
};

static struct iris_query private_erase = {
	.name = "private.erase", .table = "private_xml", .write = true,
	.sql = "DELETE FROM private_xml WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

static enum iris_verdict
private_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/*
 * The row's name: "{namespace}element". None when the request is not exactly one namespaced
 * element.
 */
static struct iris_str
private_name(struct iris_request *request, struct iris_element **element_r)
{
	struct iris_element *element = element_child(request->payload, NULL, NULL);

	*element_r = element;
	if (!element || element_next(element, NULL, NULL) || str_is_empty(element->ns) ||
	    str_is(element->ns, NS_PRIVATE))
		return IRIS_STR_NONE;
	return arena_printf(request->arena, "{%.*s}%.*s", IRIS_STR_FMT(element->ns),
			    IRIS_STR_FMT(element->name));
}

/* --- what others keep --- */

static struct private_view *private_views;

void
private_view_add(struct private_view *view)
{
	view->next = private_views;
	private_views = view;
}

void
private_view_remove(struct private_view *view)
{
	struct private_view **at = &private_views;

	while (*at && *at != view)
		at = &(*at)->next;
	if (*at)
		*at = view->next;
}

static const struct private_view *
private_view_find(struct iris_str name)
{
	const struct private_view *view = private_views;

	while (view && !str_is(name, view->name))
		view = view->next;
	return view;
}

static enum iris_verdict
private_view_get(struct iris_request *request, const struct private_view *view,
		 const struct iris_element *asked)
{
	struct iris_element *element = NULL;

	if (!view->get(request, &element))
		return private_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
	request->reply = element_new(request->arena, "query", NS_PRIVATE);
	element_append(request->reply,
		       element_copy(request->arena, element ? element : asked));
	return IRIS_DONE;
}

/* --- requests --- */

static enum iris_verdict
private_get(struct iris_request *request)
{
	struct iris_account *account = &request->user->account;
	struct iris_element *element, *stored = NULL;
	struct iris_str name = private_name(request, &element);
	struct iris_rows rows;

	if (str_is_none(name))
		return private_refuse(request, IRIS_BAD_REQUEST,
				      "exactly one element with a namespace of its own");
	if (private_view_find(name))
		return private_view_get(request, private_view_find(name), element);
	if (vault_read(&private_load, account->owner,
		       VALUES(value_int(account->id), value_str(name)), request->arena,
		       &rows) != IRIS_VAULT_OK)
		return private_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
	request->reply = element_new(request->arena, "query", NS_PRIVATE);
	if (rows.count > 0)
		stored = element_parse(request->arena, row_value(&rows, 0, 0)->bytes);
	element_append(request->reply, stored ? stored : element_copy(request->arena, element));
	return IRIS_DONE;
}

static enum iris_verdict
private_set(struct iris_request *request)
{
	struct iris_account *account = &request->user->account;
	struct iris_strbuf text = STRBUF_INIT(request->arena);
	struct iris_element *element;
	struct iris_str name = private_name(request, &element);
	const struct private_view *view;
	enum iris_condition condition;
	struct iris_rows rows;

	if (str_is_none(name))
		return private_refuse(request, IRIS_BAD_REQUEST,
				      "exactly one element with a namespace of its own");
	element_write(&text, element, IRIS_STR_NONE);
	if (text.len > (size_t)option_int(&private_self, OPT_SIZE))
		return private_refuse(request, IRIS_NOT_ACCEPTABLE, "too large");
	view = private_view_find(name);
	if (view) {
		condition = view->set(request, element);
		return condition == IRIS_NO_ERROR ? IRIS_DONE :
						    private_refuse(request, condition, NULL);
	}
	if (vault_read(&private_count, 0, VALUES(value_int(account->id), value_str(name)),
		       request->arena, &rows) != IRIS_VAULT_OK)
		return private_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
	if (row_value(&rows, 0, 0)->number >= option_int(&private_self, OPT_COUNT))
		return private_refuse(request, IRIS_RESOURCE_CONSTRAINT,
				      "too many private elements");
	if (vault_write(
		    &private_store, account->owner,
		    VALUES(value_int(account->id), value_str(name), value_str(strbuf_str(&text))),
		    NULL) != IRIS_VAULT_OK)
		return private_refuse(request, IRIS_RESOURCE_CONSTRAINT, NULL);
	return IRIS_DONE;
}

static enum iris_verdict
private_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&private_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static const struct iris_feature private_features[] = {
	{ IRIS_DISCO_HOST, NS_PRIVATE },
	{ IRIS_DISCO_ACCOUNT, NS_PRIVATE },
	{ .var = NULL },
};

static const struct iris_iq private_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "query", NS_PRIVATE, IRIS_SELF, private_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "query", NS_PRIVATE, IRIS_SELF, private_set },
	{ .name = NULL },
};

static const struct iris_hook_handler private_hooks[] = {
	HOOK(account_removed, IRIS_NEUTRAL, private_account_removed),
	HOOKS_END,
};

static const struct iris_option private_options[] = {
	[OPT_SIZE] = { "size-max", IRIS_OPT_SIZE, "64 KiB", .min = 1024, .max = 1048576,
		       .reloadable = true,
		       .help = "The largest element that an account may keep." },
	[OPT_COUNT] = { "count-max", IRIS_OPT_INT, "64", .min = 1, .max = 10000, .reloadable = true,
			.help = "How many elements an account may keep." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0049 = {
	IRIS_MODULE_HEAD,
	.name = "xep0049",
	.summary = "Private XML Storage",
	.xep = "XEP-0049 1.2",
	.self = &private_self,
	.options = private_options,
	.queries = (struct iris_query *const[]){ &private_load, &private_count, &private_store,
						 &private_erase, NULL },
	.features = private_features,
	.iq = private_iq,
	.hooks = private_hooks,
	.not_unloadable = true,
};
