/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0156 1.4: Discovering Alternative XMPP Connection Methods, by host-meta (RFC 6415) in XML and
 * in JSON.  On the fiber of a request.  It names what is loaded, at the place where it was asked.
 */
#include "iris/module.h"

#define REL "urn:xmpp:alt-connections:"

static struct iris_module_self host_meta_self;

enum { OPT_BASE_URL };

struct host_meta_link {
	const char *module, *rel, *scheme, *path;
};

static const struct host_meta_link host_meta_links[] = {
	{ "websocket", REL "websocket", "wss", "/xmpp-websocket" },
	{ "bosh", REL "xbosh", "https", "/http-bind" },
};

/* "chat.example.com:5443", from the option or from who asks; none: it cannot be told. */
static struct iris_str
host_meta_place(struct iris_web_request *request)
{
	struct iris_str base = option_str(&host_meta_self, OPT_BASE_URL);
	size_t scheme = sizeof("https://") - 1;

	if (str_is_empty(base))
		return web_host(request) ? web_authority(request) : IRIS_STR_NONE;
	while (base.base[base.len - 1] == '/')
		base.len--;
	return (struct iris_str){ base.base + scheme, base.len - scheme };
}

static struct iris_str
host_meta_write(struct iris_web_request *request, struct iris_str place, const char *format,
		const char *between)
{
	struct iris_strbuf buf = STRBUF_INIT(web_arena(request));

	for (size_t i = 0; i < IRIS_COUNT(host_meta_links); i++) {
		const struct host_meta_link *link = &host_meta_links[i];
		struct iris_str href = arena_printf(web_arena(request), "%s://%.*s%s", link->scheme,
						    IRIS_STR_FMT(place), link->path);

		if (!module_is_loaded(link->module))
			continue;
		if (buf.len > 0)
			strbuf_add(&buf, str_from(between));
		for (const char *at = format; *at; at++) {
			if (*at == '@')
				strbuf_add(&buf, str_from(link->rel));
			else if (*at == '%')
				strbuf_add(&buf, href);
			else
				strbuf_add_char(&buf, *at);
		}
	}
	return strbuf_str(&buf);
}

static void
host_meta_answer(struct iris_web_request *request, const char *type, struct iris_str text)
{
	web_set_header(request, "Cache-Control", IRIS_STR("max-age=3600"));
	web_answer(request, 200, type, text);
}

static void
host_meta_refuse(struct iris_web_request *request)
{
	web_answer(request, 404, "text/plain; charset=utf-8",
		   IRIS_STR("ask by the name of a domain\n"));
}

static void
host_meta_handle_xml(struct iris_web_request *request)
{
	struct iris_str place = host_meta_place(request);
	struct iris_str links;

	if (str_is_none(place)) {
		host_meta_refuse(request);
		return;
	}
	links = host_meta_write(request, place, "  <Link rel=\"@\" href=\"%\"/>\n", "");
	host_meta_answer(
		request, "application/xrd+xml",
		arena_printf(
			web_arena(request),
			"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
			"<XRD xmlns=\"http://docs.oasis-open.org/ns/xri/xrd-1.0\">\n%.*s</XRD>\n",
			IRIS_STR_FMT(links)));
}

static void
host_meta_handle_json(struct iris_web_request *request)
{
	struct iris_str place = host_meta_place(request);
	struct iris_str links;

	if (str_is_none(place)) {
		host_meta_refuse(request);
		return;
	}
	links = host_meta_write(request, place, "{\"rel\": \"@\", \"href\": \"%\"}", ",\n  ");
	host_meta_answer(request, "application/json",
			 arena_printf(web_arena(request), "{\"links\": [\n  %.*s\n]}\n",
				      IRIS_STR_FMT(links)));
}

static const struct iris_web_route host_meta_routes[] = {
	{ IRIS_WEB_GET, "/.well-known/host-meta", host_meta_handle_xml, IRIS_WEB_ANY_ORIGIN },
	{ IRIS_WEB_GET, "/.well-known/host-meta.json", host_meta_handle_json, IRIS_WEB_ANY_ORIGIN },
	{ .path = NULL },
};

/* It stands in XML and in JSON as it is. */
static bool
host_meta_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_str base = settings_str(settings, OPT_BASE_URL);
	bool ok = str_is_empty(base) ||
		  (base.len > 8 && memcmp(base.base, "https://", 8) == 0 && base.base[8] != '/');

	for (size_t i = 0; i < base.len; i++)
		ok = ok && base.base[i] > ' ' && !strchr("\"'<>&\\", base.base[i]);
	if (!ok)
		return error_set(error, "base-url is no URL that begins with https://");
	return true;
}

static const struct iris_option host_meta_options[] = {
	[OPT_BASE_URL] = { "base-url", IRIS_OPT_STRING, .optional = true, .max = 255,
			   .reloadable = true,
			   .help = "Where clients reach the web of this server, as "
				   "\"https://chat.example.com\"; else where they asked." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_host_meta = {
	IRIS_MODULE_HEAD,
	.name = "xep0156",
	.summary = "Discovering Alternative XMPP Connection Methods",
	.xep = "XEP-0156 1.4",
	.needs = IRIS_NAMES("web"),
	.self = &host_meta_self,
	.options = host_meta_options,
	.web = host_meta_routes,
	.check = host_meta_check,
};
