/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module `web`: the protocols `web` and `web-redirect` of listeners, options, metrics, and the
 * few paths of its own.  Main thread; handlers on fibers.  Other modules bring their routes.
 */
#include "web_private.h"

static struct iris_module_self web_self;

static struct iris_metric web_metrics[] = {
	[WEB_METRIC_CONNECTIONS] = { .name = "iris_web_connections",
				     .kind = IRIS_GAUGE,
				     .help = "Open connections of HTTP" },
	[WEB_METRIC_REQUESTS] = { .name = "iris_web_requests_total", .help = "Requests of HTTP" },
	[WEB_METRIC_MALFORMED] = { .name = "iris_web_malformed_total",
				   .help = "Requests refused before anybody looked at them" },
	[WEB_METRIC_SLOW] = { .name = "iris_web_slow_total",
			      .help = "Connections of HTTP ended because the peer was too slow" },
	[WEB_METRIC_BYTES_IN] = { .name = "iris_web_bytes_in_total", .help = "Bytes of HTTP read" },
	[WEB_METRIC_BYTES_OUT] = { .name = "iris_web_bytes_out_total",
				   .help = "Bytes of HTTP written" },
	{ .name = NULL },
};

int64_t
web_option(enum web_option option)
{
	return option_int(&web_self, option);
}

bool
web_carrier_is_secure(const struct iris_carrier *carrier)
{
	return carrier_is_secure(carrier) || option_bool(&web_self, WEB_OPT_BEHIND_TLS);
}

const struct iris_settings *
web_settings(void)
{
	return atomic_load(&web_self.settings);
}

void
web_count(enum web_metric metric, int64_t amount)
{
	metric_add(&web_metrics[metric], amount);
}

/* That the process answers: for a load balancer, which may not see the operators' endpoint. */
static void
web_handle_health(struct iris_web_request *request)
{
	bool well = !worker_is_stopping();

	if (!option_bool(&web_self, WEB_OPT_HEALTH)) {
		answer_status(request, 404);
		return;
	}
	web_set_header(request, "Cache-Control", IRIS_STR("no-store"));
	web_answer(request, well ? 200 : 503, "text/plain; charset=utf-8",
		   well ? IRIS_STR("ok\n") : IRIS_STR("stopping\n"));
}

static const struct iris_web_route web_routes[] = {
	{ IRIS_WEB_GET, "/healthz", web_handle_health, 0 },
	{ IRIS_WEB_GET, "/", static_handle, 0 },
	{ .path = NULL },
};

static bool
web_check(const struct iris_settings *settings, struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(settings, WEB_OPT_FOLDERS); i++) {
		const struct iris_settings *record = settings_record(settings, WEB_OPT_FOLDERS, i);
		struct iris_str path = settings_str(record, WEB_FOLDER_PATH);

		if (path.base[0] != '/' || path.base[path.len - 1] != '/') {
			error_set(error, "the path \"%.*s\" of a folder must begin and end with /",
				  IRIS_STR_FMT(path));
			return error_detail(error, "%.*s",
					    IRIS_STR_FMT(settings_where(record, WEB_FOLDER_PATH)));
		}
	}
	return true;
}

static const struct iris_option web_folder_fields[] = {
	[WEB_FOLDER_PATH] = { "path", IRIS_OPT_STRING, "/", .min = 1, .max = 255,
			      .help = "Where it appears; it begins and ends with '/'." },
	[WEB_FOLDER_FOLDER] = { "folder", IRIS_OPT_PATH, NULL,
				.help = "The folder on this machine; links that lead out of it "
					"are not followed." },
	IRIS_OPTIONS_END,
};

static const struct iris_option web_options[] = {
	[WEB_OPT_HEADER_SIZE] = { "header-size", IRIS_OPT_SIZE, "16 KiB", .min = 4096, .max = 65536,
				  .reloadable = true, .help = "The largest head of a request." },
	[WEB_OPT_HEADER_TIMEOUT] = { "header-timeout", IRIS_OPT_DURATION, "10 seconds", .min = 100,
				     .max = 300000, .reloadable = true,
				     .help = "How long a client may take for the head of a "
					     "request." },
	[WEB_OPT_IDLE_TIMEOUT] = { "idle-timeout", IRIS_OPT_DURATION, "60 seconds", .min = 100,
				   .max = 3600000, .reloadable = true,
				   .help = "How long a connection is kept for another request." },
	[WEB_OPT_TRANSFER_TIMEOUT] = { "transfer-timeout", IRIS_OPT_DURATION, "30 seconds",
				       .min = 100, .max = 600000, .reloadable = true,
				       .help = "How long a client may neither send the body of "
					       "its request nor take the answer." },
	[WEB_OPT_TRANSFER_RATE] = { "transfer-rate", IRIS_OPT_SIZE, "1 KiB", .min = 0,
				    .max = 1 << 30, .reloadable = true,
				    .help = "How many bytes a second it must send or take on "
					    "average." },
	[WEB_OPT_HSTS] = { "hsts", IRIS_OPT_DURATION, "365 days", .min = 0, .max = 63072000000,
			   .reloadable = true,
			   .help = "For how long browsers shall ask for this server by TLS only "
				   "(RFC 6797); 0: it is not said." },
	[WEB_OPT_BEHIND_TLS] = { "behind-tls", IRIS_OPT_BOOL, "false", .reloadable = true,
				 .help = "Whether a proxy on this machine speaks TLS in front of "
					 "listeners of the web that have none: what comes there "
					 "counts as secure, passwords included." },
	[WEB_OPT_HTTPS_PORT] = { "https-port", IRIS_OPT_INT, "443", .min = 1, .max = 65535,
				 .reloadable = true,
				 .help = "Where listeners of the role web-redirect send to." },
	[WEB_OPT_ORIGINS] = { "origins", IRIS_OPT_STRINGS, .optional = true, .reloadable = true,
			      .help = "Pages that may talk to this server from elsewhere, as "
				      "\"https://chat.example.com\"; \"*\": any. Documents that "
				      "are public may be read by all pages." },
	[WEB_OPT_HEALTH] = { "health", IRIS_OPT_BOOL, "false", .reloadable = true,
			     .help = "Whether /healthz answers, for load balancers." },
	[WEB_OPT_FOLDERS] = { "folders", IRIS_OPT_RECORDS, .optional = true, .reloadable = true,
			      .fields = web_folder_fields,
			      .help = "Folders whose files are shown to anybody." },
	IRIS_OPTIONS_END,
};

static const struct iris_protocol *const web_protocols[] = {
	&web_protocol,
	&web_redirect_protocol,
	NULL,
};

const struct iris_module iris_module_web = {
	IRIS_MODULE_HEAD,
	.name = "web",
	.summary = "HTTP/1.1 for other modules, and files of a folder",
	.self = &web_self,
	.options = web_options,
	.metrics = web_metrics,
	.protocols = web_protocols,
	.web = web_routes,
	.not_unloadable = true,
	.at_edge = true,
	.check = web_check,
};
