/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0054 1.3: vcard-temp.  One sealed row per account.  A profile is for its network (P5.5):
 * others get what an address that does not exist would give.
 */
#include "iris/module.h"

#define NS_VCARD "vcard-temp"

enum { OPT_SIZE };

static struct iris_module_self vcard_self;

static struct iris_query vcard_load = {
	.name = "vcard.load", .table = "vcard", .key = "account",
	.sql = "SELECT value FROM vcard WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "value", IRIS_SEALED } },
};

static struct iris_query vcard_store = {
	.name = "vcard.store", .table = "vcard", .key = "account", .write = true,
	.sql = "INSERT INTO vcard (account, value) VALUES ($1, $2) "
	       "ON CONFLICT (account) DO UPDATE SET value = excluded.value",
	.params = { { "account", IRIS_INT }, { "value", IRIS_SEALED } },
};

static struct iris_query vcard_erase = {
	.name = "vcard.erase", .table = "vcard", .write = true,
	.sql = "DELETE FROM vcard WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

static enum iris_verdict
vcard_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

/* §3.1: an account without a vCard gives an empty element to itself, item-not-found to others. */
static enum iris_verdict
vcard_get(struct iris_request *request)
{
	struct iris_account *account = &request->user->account;
	struct iris_rows rows;

	if (vault_read(&vcard_load, account->owner, VALUES(value_int(account->id)), request->arena,
		       &rows) != IRIS_VAULT_OK)
		return vcard_refuse(request, IRIS_INTERNAL_SERVER_ERROR);
	if (rows.count > 0)
		request->reply = element_parse(request->arena, row_value(&rows, 0, 0)->bytes);
	if (!request->reply && !request->is_self)
		return vcard_refuse(request, IRIS_ITEM_NOT_FOUND);
	if (!request->reply)
		request->reply = element_new(request->arena, "vCard", NS_VCARD);
	return IRIS_DONE;
}

static enum iris_verdict
vcard_set(struct iris_request *request)
{
	struct iris_account *account = &request->user->account;
	struct iris_strbuf text = STRBUF_INIT(request->arena);

	element_write(&text, request->payload, IRIS_STR_NONE);
	if (text.len > (size_t)option_int(&vcard_self, OPT_SIZE))
		return vcard_refuse(request, IRIS_NOT_ACCEPTABLE);
	if (vault_write(&vcard_store, account->owner,
			VALUES(value_int(account->id), value_str(strbuf_str(&text))),
			NULL) != IRIS_VAULT_OK)
		return vcard_refuse(request, IRIS_RESOURCE_CONSTRAINT);
	return IRIS_DONE;
}

static enum iris_verdict
vcard_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&vcard_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static const struct iris_feature vcard_features[] = {
	{ IRIS_DISCO_HOST, NS_VCARD },
	{ IRIS_DISCO_ACCOUNT, NS_VCARD },
	{ .var = NULL },
};

static const struct iris_iq vcard_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "vCard", NS_VCARD, IRIS_NETWORK, vcard_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "vCard", NS_VCARD, IRIS_SELF, vcard_set },
	{ .name = NULL },
};

static const struct iris_hook_handler vcard_hooks[] = {
	HOOK(account_removed, IRIS_NEUTRAL, vcard_account_removed),
	HOOKS_END,
};

static const struct iris_option vcard_options[] = {
	[OPT_SIZE] = { "size-max", IRIS_OPT_SIZE, "128 KiB", .min = 1024, .max = 1048576,
		       .reloadable = true,
		       .help = "The largest vCard, its photo included, that an account may keep." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0054 = {
	IRIS_MODULE_HEAD,
	.name = "xep0054",
	.summary = "vcard-temp",
	.xep = "XEP-0054 1.3.0",
	.self = &vcard_self,
	.options = vcard_options,
	.queries = (struct iris_query *const[]){ &vcard_load, &vcard_store, &vcard_erase, NULL },
	.features = vcard_features,
	.iq = vcard_iq,
	.hooks = vcard_hooks,
};
