/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0363 1.2: HTTP File Upload, the part over XMPP: discovery, and slots for accounts of this
 * server (§3–§5).  Each host is the service itself, and has another address for it, which is what
 * its items tell (xep0363_service.c).  What happens to the files, and both HTTP requests, are
 * modules/files.
 */
#include "xep/xep0004_forms.h"
#include "xep/xep0363_upload.h"

#define UPLOAD_NAME "HTTP File Upload"
#define NS_PURPOSE "urn:xmpp:http:upload:purpose:0"

struct iris_module_self upload_self;

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
	struct iris_str url = option_str(&upload_self, UPLOAD_OPT_URL);
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

enum iris_verdict
upload_answer(struct iris_request *request, const struct iris_account *account)
{
	struct iris_element *wanted = request->payload;
	struct file_wish wish = {
		.account = account,
		.name = element_get(wanted, "filename"),
		.type = element_get(wanted, "content-type"),
	};
	struct iris_str path;

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

static void
upload_describe(struct iris_element *query)
{
	struct iris_element *identity = element_add(query, "identity", NULL), *form;

	element_set(identity, "category", IRIS_STR("store"));
	element_set(identity, "type", IRIS_STR("file"));
	element_set(identity, "name", IRIS_STR(UPLOAD_NAME));
	for (unsigned i = 0; i < FILE_PURPOSES; i++)
		if (files_size_max((enum file_purpose)i) > 0)
			element_set(element_add(query, "feature", NULL), "var",
				    arena_printf(query->arena, NS_PURPOSE "#%s",
						 purpose_names[i]));
	form = form_add(query, "result", NS_UPLOAD);
	form_add_field(form, NULL, "max-file-size",
		       arena_printf(form->arena, "%lld",
				    (long long)files_size_max(FILE_MESSAGE)));
}

static enum iris_verdict
upload_disco_info(struct iris_discovery *discovery)
{
	const struct iris_service *service = discovery->request->service;

	if (!str_is_none(discovery->node))
		return IRIS_PASS;
	if (discovery->of == IRIS_DISCO_SERVICE && service->kind == &upload_service_kind)
		element_set(element_add(discovery->query, "feature", NULL), "var",
			    IRIS_STR(NS_UPLOAD));
	else if (discovery->of != IRIS_DISCO_HOST)
		return IRIS_PASS;
	upload_describe(discovery->query);
	return IRIS_PASS;
}

/* Whose quota would it be? */
static enum iris_verdict
upload_slot(struct iris_request *request)
{
	if (!request->session)
		return upload_refuse(request, IRIS_FORBIDDEN, NULL);
	return upload_answer(request, &request->session->user->account);
}

static bool
upload_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_str url = settings_str(settings, UPLOAD_OPT_URL);

	if (url.len > 8 && memcmp(url.base, "https://", 8) == 0 && url.base[url.len - 1] != '/')
		return service_check_label(settings_str(settings, UPLOAD_OPT_LABEL), error);
	error_set(error, "xep0363.url must begin with https:// and not end with /");
	return error_hint(error, "as in https://{host}:5281");
}

static bool
upload_start(struct iris_error *error)
{
	return service_open_all(&upload_service_kind, option_str(&upload_self, UPLOAD_OPT_LABEL),
				NULL, error);
}

static void
upload_reload(void)
{
	struct iris_error error;

	if (!upload_start(&error))
		log_error(IRIS_LOG_ERROR, "xep0363", "domain-taken", &error);
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
	HOOKS_END,
};

static const struct iris_option upload_options[] = {
	[UPLOAD_OPT_URL] = { .name = "url", .type = IRIS_OPT_STRING, .fallback = "https://{host}",
		      .min = 9, .max = 500, .reloadable = true,
		      .help = "Where clients reach the web listener; {host} is the domain of the "
			      "account." },
	[UPLOAD_OPT_LABEL] = { .name = "label", .type = IRIS_OPT_STRING, .fallback = "upload",
			       .min = 1, .max = 63,
			       .help = "What the address of each host's service begins with, as in "
				       "upload.example.org." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0363 = {
	IRIS_MODULE_HEAD,
	.name = "xep0363",
	.summary = "HTTP File Upload",
	.xep = "XEP-0363 1.2.0",
	.needs = IRIS_NAMES("accounts", "files", "hosts", "router", "xep0004", "xep0030"),
	.self = &upload_self,
	.options = upload_options,
	.features = upload_features,
	.iq = upload_iq,
	.hooks = upload_hooks,
	.off_by_default = true,
	.not_unloadable = true,
	.check = upload_check,
	.start = upload_start,
	.reload = upload_reload,
};
