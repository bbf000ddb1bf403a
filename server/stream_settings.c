/* SPDX-License-Identifier: Apache-2.0 */
/* The core module `stream`: options, metrics, elements and IQ of the engine. It does nothing by
 * itself. */
#include "stream_private.h"

static struct iris_module_self stream_self;

static struct iris_metric stream_metrics[] = {
	[STREAM_METRIC_OPEN] = { .name = "iris_streams",
				 .kind = IRIS_GAUGE,
				 .help = "Open streams" },
	[STREAM_METRIC_BOUND] = { .name = "iris_streams_bound",
				  .kind = IRIS_GAUGE,
				  .help = "Streams that take stanzas" },
	[STREAM_METRIC_STANZAS_IN] = { .name = "iris_stanzas_in_total",
				       .help = "Stanzas read from streams" },
	[STREAM_METRIC_STANZAS_OUT] = { .name = "iris_stanzas_out_total",
					.help = "Stanzas written to streams" },
	[STREAM_METRIC_BYTES_IN] = { .name = "iris_stream_bytes_in_total",
				     .help = "Bytes of XML read" },
	[STREAM_METRIC_BYTES_OUT] = { .name = "iris_stream_bytes_out_total",
				      .help = "Bytes of XML written" },
	[STREAM_METRIC_MOVES] = { .name = "iris_streams_moved_total",
				  .help = "Streams that moved to another worker" },
	[STREAM_METRIC_ERRORS] = { .name = "iris_stream_errors_total",
				   .help = "Streams ended by a stream error of ours" },
	[STREAM_METRIC_LOST] = { .name = "iris_streams_lost_total",
				 .help = "Streams that ended without a closing tag" },
	[STREAM_METRIC_HELD] = { .name = "iris_streams_held_total",
				 .help = "Times that a client was made to wait, since it sent "
					 "stanzas too fast" },
	{ .name = NULL },
};

int64_t
stream_option(enum stream_option option)
{
	return option_int(&stream_self, option);
}

void
stream_count_metric(enum stream_metric metric, int64_t amount)
{
	metric_add(&stream_metrics[metric], amount);
}

static void
stream_apply_options(void)
{
	connection_set_options(&(struct connection_options){
		.output_limit = (size_t)stream_option(STREAM_OPT_OUTPUT_LIMIT),
		.gather_ms = (unsigned)stream_option(STREAM_OPT_GATHER),
		.dead_peer_ms = (unsigned)stream_option(STREAM_OPT_DEAD_PEER),
		.keepalive_s = (unsigned)(stream_option(STREAM_OPT_KEEPALIVE) / 1000),
	});
}

static void
stream_reload(void)
{
	stream_apply_options();
	streams_check_hosts();
}

static bool
stream_start(struct iris_error *error)
{
	stream_apply_options();
	return true;
}

static const char *const conflict_choices[] = { "replace", "refuse", "rename", NULL };

static const struct iris_option stream_options[] = {
	[STREAM_OPT_STANZA_SIZE_BEFORE] = { "stanza-size-before-auth", IRIS_OPT_SIZE, "16 KiB",
					    .min = 10000, .max = 1 << 20, .reloadable = true,
					    .help = "The largest element taken from somebody who "
						    "has not signed in." },
	[STREAM_OPT_STANZA_SIZE] = { "stanza-size", IRIS_OPT_SIZE, "256 KiB", .min = 10000,
				     .max = 16 << 20, .reloadable = true,
				     .help = "The largest stanza." },
	[STREAM_OPT_SERVER_STANZA_SIZE] = { "server-stanza-size", IRIS_OPT_SIZE, "512 KiB",
					    .min = 10000, .max = 16 << 20,
					    .reloadable = true,
					    .help = "The largest stanza of another server." },
	[STREAM_OPT_TOKEN_SIZE] = { "tag-size", IRIS_OPT_SIZE, "64 KiB", .min = 4096,
				    .max = 1 << 20, .reloadable = true,
				    .help = "The longest single tag of a stanza." },
	[STREAM_OPT_DEPTH] = { "depth", IRIS_OPT_INT, "64", .min = 8, .max = STANZA_DEPTH_MAX,
			       .reloadable = true,
			       .help = "How deep elements of a stanza may be nested." },
	[STREAM_OPT_ATTRIBUTES] = { "attributes", IRIS_OPT_INT, "64", .min = 8, .max = 1024,
				    .reloadable = true,
				    .help = "How many attributes an element may have." },
	[STREAM_OPT_NODES] = { "nodes", IRIS_OPT_INT, "8192", .min = 256, .max = 1000000,
			       .reloadable = true,
			       .help = "How many elements, attributes and texts a stanza may "
				       "have." },
	[STREAM_OPT_BUDGET] = { "stanzas-per-turn", IRIS_OPT_INT, "64", .min = 1, .max = 10000,
				.reloadable = true,
				.help = "How many stanzas of one stream are handled before others "
					"have their turn." },
	[STREAM_OPT_STANZA_RATE] = { "stanza-rate", IRIS_OPT_INT, "500", .max = 1000000,
				     .reloadable = true,
				     .help = "How many stanzas in a second a client may send for "
					     "long; one that sends faster is read from more "
					     "slowly, nothing is lost; 0: any number." },
	[STREAM_OPT_STANZA_BURST] = { "stanza-burst", IRIS_OPT_INT, "5000", .min = 1,
				      .max = 1000000, .reloadable = true,
				      .help = "How many it may send at once." },
	[STREAM_OPT_OUTPUT_LIMIT] = { "output-limit", IRIS_OPT_SIZE, "8 MiB", .min = 65536,
				      .max = 1 << 30, .reloadable = true,
				      .help = "How much may wait for a client that does not read "
					      "before its connection is cut." },
	[STREAM_OPT_GATHER] = { "gather", IRIS_OPT_DURATION, "0 ms", .max = 100,
				.reloadable = true,
				.help = "How long messages and presence in quick succession wait "
					"for each other, on their way to a client that only "
					"listens; 0: not at all." },
	[STREAM_OPT_NEGOTIATION] = { "negotiation-timeout", IRIS_OPT_DURATION, "60 seconds",
				     .min = 1000, .max = 3600000, .reloadable = true,
				     .help = "How long a client may take from connecting to having "
					     "its resource." },
	[STREAM_OPT_CLOSE] = { "close-timeout", IRIS_OPT_DURATION, "5 seconds", .min = 100,
			       .max = 60000, .reloadable = true,
			       .help = "How long the other side may take to close its half of a "
				       "stream." },
	[STREAM_OPT_KEEPALIVE] = { "tcp-keepalive", IRIS_OPT_DURATION, "4 minutes", .min = 10000,
				   .max = 7200000, .reloadable = true,
				   .help = "After how long a silence TCP asks whether the other "
					   "side is there." },
	[STREAM_OPT_WHITESPACE] = { "whitespace-keepalive", IRIS_OPT_DURATION, "5 minutes",
				    .max = 7200000, .reloadable = true,
				    .help = "After how long a silence a space is sent; 0: never." },
	[STREAM_OPT_DEAD_PEER] = { "dead-peer", IRIS_OPT_DURATION, "90 seconds", .min = 5000,
				   .max = 3600000, .reloadable = true,
				   .help = "How long what was sent may stay unacknowledged by TCP "
					   "before the connection counts as lost." },
	[STREAM_OPT_IDLE] = { "idle-timeout", IRIS_OPT_DURATION, "0 ms", .max = 604800000,
			      .reloadable = true,
			      .help = "How long a client may send nothing at all; 0: for ever." },
	[STREAM_OPT_CONFLICT] = { "resource-conflict", IRIS_OPT_CHOICE, "replace",
				  .choices = conflict_choices, .reloadable = true,
				  .help = "When a resource is in use: replace ends the old "
					  "session, refuse the new one, rename gives another." },
	[STREAM_OPT_PARSERS] = { "warm-parsers", IRIS_OPT_INT, "256", .max = 100000,
				 .reloadable = true,
				 .help = "How many busy streams of a worker keep their XML parser "
					 "between stanzas." },
	IRIS_OPTIONS_END,
};

static const struct iris_stream_handler stream_elements[] = {
	{ "starttls", NS_TLS, 1u << IRIS_STREAM_PLAIN, stream_handle_starttls },
	{ .name = NULL },
};

const struct iris_module iris_module_stream = {
	IRIS_MODULE_HEAD,
	.name = "stream",
	.summary = "Streams: RFC 6120",
	.needs = IRIS_NAMES("hosts"),
	.self = &stream_self,
	.options = stream_options,
	.iq = bind_iq,
	.elements = stream_elements,
	.metrics = stream_metrics,
	.not_unloadable = true,
	.at_edge = true,
	.start = stream_start,
	.reload = stream_reload,
};
