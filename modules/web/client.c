/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module `web-client`: a page with Converse.js, whose files the operator's `npm install
 * converse.js` put into a folder.  Off by default.  On the fiber of a request.
 *
 * SECURITY: the page runs nothing that does not lie in that folder, and talks to nobody but this
 * server; its policy (CSP) says so to the browser.
 */
#include "web_private.h"

static struct iris_module_self client_self;

enum { OPT_FOLDER, OPT_TITLE };

/* What asks for pages of others is refused; pictures and sound of messages may be anywhere. */
#define POLICY                                                                                  \
	"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src "    \
	"'self' "                                                                               \
	"data:; img-src 'self' data: blob: https:; media-src 'self' blob: https:; connect-src " \
	"'self' wss://%.*s; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "    \
	"form-action 'self'; frame-ancestors 'none'"

static const char page[] =
	"<!doctype html>\n"
	"<html lang=\"en\">\n"
	"<head>\n"
	"<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>%.*s</title>\n"
	"<link rel=\"stylesheet\" href=\"dist/converse.min.css\">\n"
	"<script type=\"module\" src=\"start.js\"></script>\n"
	"</head>\n"
	"<body class=\"converse-fullscreen\">"
	"<noscript>This page needs JavaScript.</noscript></body>\n"
	"</html>\n";

/*
 * Old releases are no modules and leave a global variable. The footer shows pictures of sponsors,
 * from their own server; an element that is defined is not defined again.  Converse.js 14 reads the
 * bookmarks of XEP-0402 and asks to be told of those of XEP-0048 only: a room that comes into them
 * would open when the page is loaded next.  Rooms open by bookmark: nobody is asked for a nick.
 */
static const char start[] = "import * as built from './dist/converse.min.js';\n"
			    "const converse = built.default ?? window.converse;\n"
			    "customElements.define('converse-footer', "
			    "class extends HTMLElement {});\n"
			    "converse.plugins.add('bookmarks-told', { initialize () {\n"
			    "  const { api } = this._converse;\n"
			    "  api.listen.on('addClientFeatures', () =>\n"
			    "    api.disco.own.features.add('urn:xmpp:bookmarks:1+notify'));\n"
			    "} });\n"
			    "converse.initialize({\n"
			    "  whitelisted_plugins: ['bookmarks-told'],\n"
			    "  muc_nickname_from_jid: true,\n"
			    "  view_mode: 'fullscreen',\n"
			    "  assets_path: '/client/dist/',\n"
			    "  locked_domain: '%.*s',\n"
			    "  discover_connection_methods: false,\n"
			    "%s%s"
			    "  autocomplete_providers_url: '',\n"
			    "  xmpp_providers_url: '',\n"
			    "  clear_cache_on_logout: true,\n"
			    "  allow_registration: false\n"
			    "});\n";

/* The domain whose people sign in here: the one asked for, else the first. */
static struct iris_str
client_domain(const struct iris_web_request *request)
{
	struct iris_host *host = web_host(request);

	if (!host)
		host = host_default();
	return host ? host->name : IRIS_STR_NONE;
}

static void
client_answer(struct iris_web_request *request, const char *type, struct iris_str text)
{
	struct iris_str policy =
		arena_printf(web_arena(request), POLICY, IRIS_STR_FMT(web_authority(request)));

	web_set_header(request, "Content-Security-Policy", policy);
	web_set_header(request, "Referrer-Policy", IRIS_STR("no-referrer"));
	web_set_header(request, "Cache-Control", IRIS_STR("no-cache"));
	web_answer(request, 200, type, text);
}

static void
client_handle_page(struct iris_web_request *request)
{
	struct iris_strbuf title = STRBUF_INIT(web_arena(request));
	struct iris_str text;

	if (web_path(request).len > 0) {
		answer_status(request, 404);
		return;
	}
	xml_escape(&title, option_str(&client_self, OPT_TITLE));
	text = strbuf_str(&title);
	client_answer(request, "text/html; charset=utf-8",
		      arena_printf(web_arena(request), page, IRIS_STR_FMT(text)));
}

static void
client_handle_start(struct iris_web_request *request)
{
	struct iris_str domain = client_domain(request);
	const char *websocket = "  websocket_url: `wss://${location.host}/xmpp-websocket`,\n";
	const char *bosh = "  bosh_service_url: '/http-bind',\n";

	client_answer(request, "text/javascript; charset=utf-8",
		      arena_printf(web_arena(request), start, IRIS_STR_FMT(domain),
				   module_is_loaded("websocket") ? websocket : "",
				   module_is_loaded("bosh") ? bosh : ""));
}

static void
client_handle_file(struct iris_web_request *request)
{
	static_send(request, option_str(&client_self, OPT_FOLDER), web_path(request));
}

static const struct iris_web_route client_routes[] = {
	{ IRIS_WEB_GET, "/client/", client_handle_page, 0 },
	{ IRIS_WEB_GET, "/client/start.js", client_handle_start, 0 },
	{ IRIS_WEB_GET, "/client/dist/", client_handle_file, 0 },
	{ .path = NULL },
};

static const struct iris_option client_options[] = {
	[OPT_FOLDER] = { "folder", IRIS_OPT_PATH, "/usr/share/iris/converse.js/dist",
			 .reloadable = true, .help = "The folder `dist` of converse.js." },
	[OPT_TITLE] = { "title", IRIS_OPT_STRING, "Chat", .min = 1, .max = 100, .reloadable = true,
			.help = "The title of the page." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_web_client = {
	IRIS_MODULE_HEAD,
	.name = "web-client",
	.summary = "A page with Converse.js at /client/",
	.needs = IRIS_NAMES("web"),
	.self = &client_self,
	.options = client_options,
	.web = client_routes,
	.off_by_default = true,
};
