/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0441 0.2: Message Archive Management Preferences.  Home worker of the account, on a fiber.
 * The archive keeps and applies them (modules/archive); what is exchanged against them waits for
 * who is away all the same, and is removed once it was delivered.
 *
 * It does not do: the advanced configuration of §2.2.
 */
#include "modules/archive/archive.h"
#include "xep/xep0313_mam.h"
#include "xep/xep0313_mam.h"

enum { OPT_LIST_MAX };

static struct iris_module_self prefs_self;

static const char *const prefs_defaults[] = {
	[ARCHIVE_ALWAYS] = "always",
	[ARCHIVE_NEVER] = "never",
	[ARCHIVE_ROSTER] = "roster",
};

static enum iris_verdict
prefs_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal = (struct iris_refusal){ .condition = condition, .text = text };
	return IRIS_REFUSE;
}

/* --- as XML --- */

struct prefs_lists {
	struct iris_element *always, *never;
};

static void
prefs_add_jid(struct iris_str jid, bool always, void *arg)
{
	struct prefs_lists *lists = arg;

	element_add_text(always ? lists->always : lists->never, "jid", NULL, jid);
}

static enum iris_verdict
prefs_reply(struct iris_request *request)
{
	struct iris_element *prefs = element_new(request->arena, "prefs", NS_MAM);
	struct prefs_lists lists = { .always = element_add(prefs, "always", NULL),
				     .never = element_add(prefs, "never", NULL) };

	element_set(prefs, "default",
		    str_from(prefs_defaults[archive_prefs_get(request->user, prefs_add_jid,
							      &lists)]));
	request->reply = prefs;
	return IRIS_DONE;
}

/* --- reading --- */

static bool
prefs_read_default(struct iris_str text, enum archive_default *fallback_r)
{
	for (size_t i = 0; i < IRIS_COUNT(prefs_defaults); i++) {
		if (!str_is(text, prefs_defaults[i]))
			continue;
		*fallback_r = (enum archive_default)i;
		return true;
	}
	return false;
}

/* `jids` has room for the most; a list that is missing is an empty one. */
static enum iris_condition
prefs_read_list(struct iris_request *request, const char *name, struct iris_str *jids,
		size_t *count_r)
{
	struct iris_element *list = element_child(request->payload, name, NS_MAM);
	size_t most = (size_t)option_int(&prefs_self, OPT_LIST_MAX);
	struct iris_jid jid;

	*count_r = 0;
	if (!list)
		return IRIS_NO_ERROR;
	for (struct iris_element *item = element_child(list, "jid", NS_MAM); item;
	     item = element_next(item, "jid", NS_MAM)) {
		if (*count_r == most)
			return IRIS_POLICY_VIOLATION;
		if (!jid_parse(request->arena, element_get_text(item), &jid))
			return IRIS_JID_MALFORMED;
		jids[(*count_r)++] = jid_full(&jid);
	}
	return IRIS_NO_ERROR;
}

static enum iris_verdict
prefs_get(struct iris_request *request)
{
	return prefs_reply(request);
}

static enum iris_verdict
prefs_set(struct iris_request *request)
{
	size_t most = (size_t)option_int(&prefs_self, OPT_LIST_MAX), always_count, never_count;
	struct iris_str *always = arena_alloc(request->arena, most * sizeof(*always));
	struct iris_str *never = arena_alloc(request->arena, most * sizeof(*never));
	enum archive_default fallback;
	enum iris_condition condition;
	enum iris_vault_result result;

	if (!prefs_read_default(element_get(request->payload, "default"), &fallback))
		return prefs_refuse(request, IRIS_BAD_REQUEST,
				    "The default is always, never or roster");
	condition = prefs_read_list(request, "always", always, &always_count);
	if (condition == IRIS_NO_ERROR)
		condition = prefs_read_list(request, "never", never, &never_count);
	if (condition != IRIS_NO_ERROR)
		return prefs_refuse(request, condition,
				    condition == IRIS_POLICY_VIOLATION ? "The list is too long" :
									 NULL);
	result = archive_prefs_set(request->user, fallback, always, always_count, never,
				   never_count);
	if (result == IRIS_VAULT_BUSY)
		return prefs_refuse(request, IRIS_RESOURCE_CONSTRAINT, NULL);
	if (result != IRIS_VAULT_OK)
		return prefs_refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL);
	return prefs_reply(request);
}

static const struct iris_iq prefs_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "prefs", NS_MAM, IRIS_SELF, prefs_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "prefs", NS_MAM, IRIS_SELF, prefs_set },
	{ .name = NULL },
};

static const struct iris_option prefs_options[] = {
	[OPT_LIST_MAX] = { .name = "list-max", .type = IRIS_OPT_INT, .fallback = "200", .min = 1,
			   .max = 10000, .reloadable = true,
			   .help = "How many addresses each of an account's two lists may have." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0441 = {
	IRIS_MODULE_HEAD,
	.name = "xep0441",
	.summary = "Message Archive Management Preferences",
	.xep = "XEP-0441 0.2.0",
	.needs = IRIS_NAMES("archive", "xep0313"),
	.self = &prefs_self,
	.options = prefs_options,
	.iq = prefs_iq,
};
