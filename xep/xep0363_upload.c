/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0363 1.2: HTTP File Upload, the part over XMPP: discovery, and slots for accounts of this
 * server (§3–§5).  The host itself is the service, and says so in its own items, where clients
 * look.  What happens to the files, and both HTTP requests, are modules/files.
 */
#include "modules/files/files.h"
#include "xep/xep0004_forms.h"

#define NS_UPLOAD "urn:xmpp:http:upload:0"
#define NS_PURPOSE "urn:xmpp:http:upload:purpose:0"

enum { OPT_URL };

static struct iris_module_self upload_self;

static const char *const purpose_names[FILE_PURPOSES] = {
	[FILE_MESSAGE] = "message",
	[FILE_PROFILE] = "profile",
	[FILE_EPHEMERAL] = "ephemeral",
	[FILE_PERMANENT] = "permanent",
};

/* --- the request --- */

static enum iris_verdict
upload_refuse(struct iris_request *request, enum iris_condition condition, const char *text)
{
	request->refusal.condition = condition;
	request->refusal.text = text;
	return IRIS_REFUSE;
}

/* §5; one that is not known is a wish that we cannot fulfil. */
static bool
upload_purpose(const struct iris_element *request, struct file_wish *wish)
{
	struct iris_element *purpose = element_child(request, NULL, NS_PURPOSE);

	wish->purpose = FILE_MESSAGE;
	if (!purpose)
		return true;
	for (unsigned i = 0; i < FILE_PURPOSES; i++) {
		if (!str_is(purpose->name, purpose_names[i]))
			continue;
		wish->purpose = (enum file_purpose)i;
		return i != FILE_EPHEMERAL ||
		       (datetime_parse(element_get(purpose, "expire-before"), &wish->expires_ms) &&
			wish->expires_ms > worker_wall_ms());
	}
	return false;
}

static enum iris_verdict
upload_too_large(struct iris_request *request, enum file_purpose purpose)
{
	struct iris_element *app = element_new(request->arena, "file-too-large", NS_UPLOAD);
	int64_t most = files_size_max(purpose);

	element_add_text(app, "max-file-size", NULL,
			 arena_printf(request->arena, "%lld", (long long)most));
	request->refusal.app = app;
	return upload_refuse(request, IRIS_NOT_ACCEPTABLE,
			     arena_printf(request->arena,
					  "File too large. The most is %lld bytes.",
					  (long long)most)
				     .base);
}

/* --- the answer --- */

/* `url`, with {host} replaced. */
static struct iris_str
upload_base(struct iris_request *request)
{
	struct iris_str url = option_str(&upload_self, OPT_URL);
	const char *at = memmem(url.base, url.len, "{host}", 6);

	if (!at)
		return arena_copy_str(request->arena, url);
	return arena_printf(request->arena, "%.*s%.*s%.*s", (int)(at - url.base), url.base,
			    IRIS_STR_FMT(request->host->name),
			    (int)(url.base + url.len - at - 6), at + 6);
}

static void
upload_add_url(struct iris_element *slot, const char *name, struct iris_str base,
	       struct iris_str path)
{
	element_set(element_add(slot, name, NULL), "url",
		    arena_printf(slot->arena, "%.*s%.*s", IRIS_STR_FMT(base), IRIS_STR_FMT(path)));
}

static enum iris_verdict
upload_grant(struct iris_request *request, struct iris_str path)
{
	struct iris_str base = upload_base(request);

	request->reply = element_new(request->arena, "slot", NS_UPLOAD);
	upload_add_url(request->reply, "put", base, path);
	upload_add_url(request->reply, "get", base, path);
	return IRIS_DONE;
}

static enum iris_verdict
upload_slot(struct iris_request *request)
{
	struct iris_element *wanted = request->payload;
	struct file_wish wish = {
		.name = element_get(wanted, "filename"),
		.type = element_get(wanted, "content-type"),
	};
	struct iris_str path;

	/* Whose quota would it be? */
	if (!request->session)
		return upload_refuse(request, IRIS_FORBIDDEN, NULL);
	wish.account = &request->session->user->account;
	if (str_is_empty(wish.name) ||
	    !str_to_int(element_get(wanted, "size"), 1, INT64_MAX, &wish.size))
		return upload_refuse(request, IRIS_BAD_REQUEST, "A file has a name and a size.");
	if (!upload_purpose(wanted, &wish))
		return upload_refuse(request, IRIS_NOT_ACCEPTABLE, "There is no such purpose.");
	switch (files_slot_make(request->arena, &wish, &path)) {
	case FILE_GRANTED:
		return upload_grant(request, path);
	case FILE_TOO_LARGE:
		return upload_too_large(request, wish.purpose);
	case FILE_OVER_QUOTA:
		return upload_refuse(request, IRIS_RESOURCE_CONSTRAINT,
				     "The quota is used up: delete files, or wait until they go.");
	case FILE_DENIED:
		return upload_refuse(request, IRIS_NOT_ACCEPTABLE,
				     "Files of this purpose are not taken.");
	default:
		return upload_refuse(request, IRIS_RESOURCE_CONSTRAINT, NULL);
	}
}

/* --- discovery (§3) --- */

static enum iris_verdict
upload_disco_info(struct iris_discovery *discovery)
{
	struct iris_element *identity, *form;

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	identity = element_add(discovery->query, "identity", NULL);
	element_set(identity, "category", IRIS_STR("store"));
	element_set(identity, "type", IRIS_STR("file"));
	for (unsigned i = 0; i < FILE_PURPOSES; i++)
		if (files_size_max((enum file_purpose)i) > 0)
			element_set(element_add(discovery->query, "feature", NULL), "var",
				    arena_printf(discovery->query->arena, NS_PURPOSE "#%s",
						 purpose_names[i]));
	form = form_add(discovery->query, "result", NS_UPLOAD);
	form_add_field(form, NULL, "max-file-size",
		       arena_printf(form->arena, "%lld",
				    (long long)files_size_max(FILE_MESSAGE)));
	return IRIS_PASS;
}

static enum iris_verdict
upload_disco_items(struct iris_discovery *discovery)
{
	struct iris_element *item;

	if (discovery->of != IRIS_DISCO_HOST || !str_is_none(discovery->node))
		return IRIS_PASS;
	item = element_add(discovery->query, "item", NULL);
	element_set(item, "jid", discovery->request->host->name);
	element_set(item, "name", IRIS_STR("HTTP File Upload"));
	return IRIS_PASS;
}

static bool
upload_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_str url = settings_str(settings, OPT_URL);

	if (url.len > 8 && memcmp(url.base, "https://", 8) == 0 && url.base[url.len - 1] != '/')
		return true;
	error_set(error, "xep0363.url must begin with https:// and not end with /");
	return error_hint(error, "as in https://{host}:5281");
}

static const struct iris_feature upload_features[] = {
	{ IRIS_DISCO_HOST, NS_UPLOAD },
	{ .var = NULL },
};

static const struct iris_iq upload_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "request", NS_UPLOAD, IRIS_ANYONE, upload_slot },
	{ .name = NULL },
};

static const struct iris_hook_handler upload_hooks[] = {
	HOOK(disco_info, IRIS_NEUTRAL, upload_disco_info),
	HOOK(disco_items, IRIS_NEUTRAL, upload_disco_items),
	HOOKS_END,
};

static const struct iris_option upload_options[] = {
	[OPT_URL] = { .name = "url", .type = IRIS_OPT_STRING, .fallback = "https://{host}",
		      .min = 9, .max = 500, .reloadable = true,
		      .help = "Where clients reach the web listener; {host} is the domain of the "
			      "account." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0363 = {
	IRIS_MODULE_HEAD,
	.name = "xep0363",
	.summary = "HTTP File Upload",
	.xep = "XEP-0363 1.2.0",
	.needs = IRIS_NAMES("files", "xep0004", "xep0030"),
	.self = &upload_self,
	.options = upload_options,
	.features = upload_features,
	.iq = upload_iq,
	.hooks = upload_hooks,
	.off_by_default = true,
	.check = upload_check,
};
