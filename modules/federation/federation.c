/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module `federation`: options and metrics of streams between servers.  Off unless it is
 * loaded, and closed to everybody unless it is opened.  README.md explains the rest.
 */
#include "iris/service.h"
#include "modules/federation/federation_private.h"
#include "modules/federation/outbox.h"
#include "modules/federation/reader.h"

struct iris_module_self federation_self;

static struct iris_metric federation_metrics[] = {
	[METRIC_LINKS_OURS] = { .name = "iris_federation_links", .labels = "begun=\"here\"",
				.kind = IRIS_GAUGE, .help = "Streams to and from other servers" },
	[METRIC_LINKS_THEIRS] = { .name = "iris_federation_links", .labels = "begun=\"there\"",
				  .kind = IRIS_GAUGE,
				  .help = "Streams to and from other servers" },
	[METRIC_STANZAS_OUT] = { .name = "iris_federation_stanzas_total", .labels = "way=\"out\"",
				 .help = "Stanzas that crossed to or from other servers" },
	[METRIC_STANZAS_IN] = { .name = "iris_federation_stanzas_total", .labels = "way=\"in\"",
				.help = "Stanzas that crossed to or from other servers" },
	[METRIC_WAITING] = { .name = "iris_federation_waiting", .kind = IRIS_GAUGE,
			     .help = "Stanzas that wait for another server" },
	[METRIC_DIALS] = { .name = "iris_federation_dials_total",
			   .help = "Times that another server was dialled" },
	[METRIC_DIALS_FAILED] = { .name = "iris_federation_dials_failed_total",
				  .help = "Times that another server was dialled in vain" },
	[METRIC_UNREACHABLE] = { .name = "iris_federation_unreachable", .kind = IRIS_GAUGE,
				 .help = "Domains that were dialled in vain, and not reached "
					 "since" },
	[METRIC_RETURNED] = { .name = "iris_federation_returned_total",
			      .help = "Stanzas that could not be brought to another server" },
	[METRIC_REFUSED] = { .name = "iris_federation_refused_total",
			     .help = "Stanzas that were not let out or in" },
	[METRIC_RESUMED] = { .name = "iris_federation_resumed_total",
			     .help = "Broken streams that were resumed" },
	[METRIC_AGAIN] = { .name = "iris_federation_again_total", .kind = IRIS_COUNTER,
			   .help = "Stanzas that came once more, were known by their id, and "
				   "dropped" },
	[METRIC_UNACKNOWLEDGED] = { .name = "iris_federation_unacknowledged_total",
				    .help = "Stanzas handed once more, since nobody said that they "
					    "arrived" },
	[METRIC_KEPT] = { .name = "iris_federation_kept_total",
			  .help = "Stanzas kept in the vault until they have arrived" },
	{ .name = NULL },
};

void
federation_count(enum federation_metric metric, int64_t amount)
{
	metric_add(&federation_metrics[metric], amount);
}

struct iris_host *
federation_host(struct iris_str domain)
{
	struct iris_host *host = host_find(domain);
	struct iris_service *service = host ? NULL : service_find(domain);

	if (service)
		return service->host;
	if (!host && domain_route_is_there(domain)) /* a component's */
		return host_default();
	return host;
}

/* --- start and stop --- */

static bool
federation_trust(struct iris_error *error)
{
	return server_trust_set(
		&(struct iris_server_trust){
			.authorities = option_str(&federation_self, OPT_AUTHORITIES),
			.revoked = option_str(&federation_self, OPT_REVOKED),
			.purpose_of_servers = option_bool(&federation_self, OPT_PURPOSE) },
		error);
}

static void
judge_again(void *arg)
{
	links_end_forbidden();
	remotes_judge_again();
}

/* Fiber of the main thread. */
static void
federation_map_changed(void)
{
	for (int i = 0; i < (int)worker_count(); i++)
		worker_call(worker_at(i), "federation: map", judge_again, NULL);
}

static bool
federation_start(struct iris_error *error)
{
	if (!federation_trust(error))
		return false;
	gate_listen(federation_map_changed);
	route_set_remote(remote_deliver);
	recover_start();
	return true;
}

static void
federation_reload(void)
{
	struct iris_error error = { .message = "" };

	if (!federation_trust(&error))
		log_error(IRIS_LOG_ERROR, "federation", "reload", &error);
}

static void
federation_stop(void)
{
	gate_listen(NULL);
	route_set_remote(NULL);
	remotes_stop();
	readers_free();
	server_trust_clear();
}

/* --- tables --- */

static const char *const tls_choices[] = { "starttls", "direct", NULL };

static const struct iris_option target_fields[] = {
	[TARGET_DOMAIN] = { "domain", IRIS_OPT_STRING, .min = 1, .max = JID_PART_MAX,
			    .help = "The other server's domain." },
	[TARGET_HOST] = { "host", IRIS_OPT_STRING, .min = 1, .max = 255,
			  .help = "The name or address of a machine that serves it." },
	[TARGET_PORT] = { "port", IRIS_OPT_INT, "5269", .min = 1, .max = 65535,
			  .help = "Its port." },
	[TARGET_TLS] = { "tls", IRIS_OPT_CHOICE, "starttls", .choices = tls_choices,
			 .help = "How TLS begins there." },
	IRIS_OPTIONS_END,
};

static const struct iris_option federation_options[] = {
	[OPT_OPEN] = { "open", IRIS_OPT_BOOL, "false", .reloadable = true,
		       .help = "Whether all other servers may be talked to; else only those of "
			       "`allow`." },
	[OPT_ALLOW] = { "allow", IRIS_OPT_STRINGS, .optional = true, .reloadable = true,
			.help = "Domains that may be talked to, with those below them." },
	[OPT_DENY] = { "deny", IRIS_OPT_STRINGS, .optional = true, .reloadable = true,
		       .help = "Domains that may not, with those below them; this goes first." },
	[OPT_TARGETS] = { "targets", IRIS_OPT_RECORDS, .optional = true, .reloadable = true,
			  .fields = target_fields,
			  .help = "Where domains are served, in place of what the DNS says." },
	[OPT_AUTHORITIES] = { "authorities", IRIS_OPT_PATH, .optional = true, .reloadable = true,
			      .help = "A PEM file of the authorities whose certificates prove "
				      "domains; none: those of the system." },
	[OPT_REVOKED] = { "revoked", IRIS_OPT_PATH, .optional = true, .reloadable = true,
			  .help = "A PEM file of revocation lists. One that is too old proves "
				  "nothing for anybody of its authority." },
	[OPT_PURPOSE] = { "accept-server-purpose", IRIS_OPT_BOOL, "true", .reloadable = true,
			  .help = "Whether a certificate that is not for client authentication "
				  "proves a server that connects to us." },
	[OPT_DANE] = { "dane", IRIS_OPT_BOOL, "true", .reloadable = true,
		       .help = "Whether TLSA records of the DNS decide about the certificate of a "
			       "server that is dialled, where all of its records are signed (the "
			       "resolver needs `trust-anchors`)." },
	[OPT_QUEUE_STANZAS] = { "queue-stanzas", IRIS_OPT_INT, "1000", .min = 1, .max = 1000000,
				.reloadable = true,
				.help = "How many stanzas may wait between two domains." },
	[OPT_QUEUE_SIZE] = { "queue-size", IRIS_OPT_SIZE, "4 MiB", .min = 65536, .max = 1 << 30,
			     .reloadable = true,
			     .help = "How much memory they may take." },
	[OPT_EXPIRY] = { "expiry", IRIS_OPT_DURATION, "30 seconds", .min = 1000, .max = 86400000,
			 .reloadable = true,
			 .help = "How long a stanza waits for a server that cannot be reached." },
	[OPT_CONNECT_TIMEOUT] = { "connect-timeout", IRIS_OPT_DURATION, "8 seconds", .min = 500,
				  .max = 60000, .reloadable = true,
				  .help = "How long a connection to one address may take." },
	[OPT_DIAL_TIMEOUT] = { "negotiation-timeout", IRIS_OPT_DURATION, "20 seconds",
			       .min = 1000, .max = 120000, .reloadable = true,
			       .help = "How long TLS and authentication may take then." },
	[OPT_BACK_OFF] = { "back-off", IRIS_OPT_DURATION, "2 seconds", .min = 100, .max = 600000,
			   .reloadable = true,
			   .help = "The pause after a first failure; it doubles with each." },
	[OPT_BACK_OFF_MOST] = { "back-off-most", IRIS_OPT_DURATION, "5 minutes", .min = 100,
				.max = 86400000, .reloadable = true,
				.help = "The longest pause." },
	[OPT_IDLE] = { "idle-timeout", IRIS_OPT_DURATION, "10 minutes", .min = 1000,
		       .max = 86400000, .reloadable = true,
		       .help = "After how long without stanzas a stream is closed." },
	[OPT_MAX_REMOTES] = { "max-domains", IRIS_OPT_INT, "10000", .min = 16, .max = 1000000,
			      .reloadable = true,
			      .help = "How many other domains a worker knows at once." },
	[OPT_MAX_PAIRS] = { "max-pairs", IRIS_OPT_INT, "256", .min = 1, .max = 100000,
			    .reloadable = true,
			    .help = "How many pairs of domains one stream of another server may "
				    "prove." },
	[OPT_WINDOW] = { "window-stanzas", IRIS_OPT_INT, "1000", .min = 1, .max = 100000,
			 .reloadable = true,
			 .help = "How many stanzas are sent that the other server has not "
				 "acknowledged." },
	[OPT_ACK_TIMEOUT] = { "acknowledgement-timeout", IRIS_OPT_DURATION, "30 seconds",
			      .min = 500, .max = 3600000, .reloadable = true,
			      .help = "How long a stream is kept whose other side does not "
				      "acknowledge." },
	[OPT_RESUME_TIMEOUT] = { "resume-timeout", IRIS_OPT_DURATION, "5 minutes", .max = 86400000,
				 .reloadable = true,
				 .help = "How long a stream of another server that broke may be "
					 "resumed; 0 turns resumption off." },
	[OPT_OUTBOX_EXPIRY] = { "outbox-expiry", IRIS_OPT_DURATION, "7 days", .min = 1000,
				.max = 31536000000, .reloadable = true,
				.help = "How long messages and subscriptions wait in the vault for "
					"a server that cannot be reached." },
	[OPT_OUTBOX_STANZAS] = { "outbox-stanzas", IRIS_OPT_INT, "100000", .min = 1,
				 .max = 100000000, .reloadable = true,
				 .help = "How many of them may wait between two domains, beyond "
					 "what is in memory." },
	IRIS_OPTIONS_END,
};

static const struct iris_hook_handler federation_hooks[] = {
	HOOK(stream_close, IRIS_NEUTRAL, link_stream_close),
	HOOK(stanza_ticket, IRIS_NEUTRAL, acks_stanza_ticket),
	HOOKS_END,
};

const struct iris_module iris_module_federation = {
	IRIS_MODULE_HEAD,
	.name = "federation",
	.summary = "Streams between servers (RFC 6120)",
	.xep = "XEP-0178 1.2, XEP-0368 1.1.0",
	.needs = IRIS_NAMES("router", "resolver", "xep0359"),
	.self = &federation_self,
	.options = federation_options,
	.queries = outbox_queries,
	.hooks = federation_hooks,
	.commands = federation_commands,
	.metrics = federation_metrics,
	.roles = (const struct iris_stream_role *const[]){ &federation_role, NULL },
	.off_by_default = true,
	.outward = true,
	.not_unloadable = true,
	.check = policy_check,
	.start = federation_start,
	.reload = federation_reload,
	.stop = federation_stop,
};
