/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0065 1.8: SOCKS5 Bytestreams: the proxy (§6), off by default: what proxy.HOST answers, for
 * each host; the connections are in xep0065_socks.c.
 *
 * A listener with the role `socks5` takes the connections.  Accounts of this server learn where it
 * is and activate bytestreams, whoever is on the other side.  There is no UDP (§8).
 */
#include <stdio.h>

#include <openssl/sha.h>

#include "iris/service.h"
#include "xep/xep0065_socks.h"

#define NS_BYTESTREAMS "http://jabber.org/protocol/bytestreams"
#define SID_MAX 1024

enum { OPT_LABEL = SOCKS_OPT_COUNT, OPT_HOST, OPT_PORT, OPT_NAME };

struct iris_module_self proxy_self;

/* SECURITY: no open relay: whoever starts a bytestream has an account here. */
static bool
proxy_may_use(const struct iris_request *request)
{
	const struct iris_jid *from = &request->stanza->from;
	struct iris_host *host = host_find(jid_domain(from));

	return host && !host->is_component && from->node_len > 0;
}

static enum iris_verdict
proxy_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

/* §6.2 */
static enum iris_verdict
proxy_tell_address(struct iris_request *request)
{
	struct iris_str domain = jid_domain(&request->service->jid);
	struct iris_str told = option_str(&proxy_self, OPT_HOST);
	struct iris_element *host;

	if (!proxy_may_use(request))
		return proxy_refuse(request, IRIS_FORBIDDEN);
	request->reply = element_new(request->arena, "query", NS_BYTESTREAMS);
	host = element_add(request->reply, "streamhost", NULL);
	element_set(host, "jid", domain);
	element_set(host, "host", str_is_empty(told) ? domain : told);
	element_set_int(host, "port", option_int(&proxy_self, OPT_PORT));
	return IRIS_DONE;
}

/* --- activation: §6.3.5 --- */

struct activation { /* at the home of the bytestream */
	char address[SOCKS_ADDRESS_LEN + 1];
	enum socks_activation result;
};

/* It is there where it is only for who knows all three parts of the address. */
static void
activate_at_home(void *arg)
{
	struct activation *activation = arg;

	activation->result = socks_activate(str_from(activation->address));
}

static void
sha1_hex(struct iris_str text, char *hex_r)
{
	unsigned char digest[SHA_DIGEST_LENGTH];

	SHA1((const unsigned char *)text.base, text.len, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex_r + 2 * i, 3, "%02x", digest[i]);
}

static enum iris_verdict
proxy_activate(struct iris_request *request)
{
	struct iris_strbuf text = STRBUF_INIT(request->arena);
	struct iris_str sid = element_get(request->payload, "sid");
	struct activation activation;
	struct iris_jid target;

	if (!proxy_may_use(request))
		return proxy_refuse(request, IRIS_FORBIDDEN);
	if (str_is_empty(sid) || sid.len > SID_MAX ||
	    !jid_parse(request->arena, element_child_text(request->payload, "activate", NULL),
		       &target))
		return proxy_refuse(request, IRIS_BAD_REQUEST);
	strbuf_add(&text, sid);
	strbuf_add(&text, jid_full(&request->stanza->from));
	strbuf_add(&text, jid_full(&target));
	sha1_hex(strbuf_str(&text), activation.address);
	home_call(str_from(activation.address), "xep0065: activate", activate_at_home,
		  &activation);
	switch (activation.result) {
	case SOCKS_ACTIVE:
		return IRIS_DONE;
	case SOCKS_UNKNOWN:
		return proxy_refuse(request, IRIS_ITEM_NOT_FOUND);
	case SOCKS_ONE_ONLY:
		return proxy_refuse(request, IRIS_NOT_ALLOWED);
	}
	return proxy_refuse(request, IRIS_INTERNAL_SERVER_ERROR);
}

/* --- the domains --- */

extern const struct iris_module iris_module_xep0065;

static const struct iris_iq proxy_iq[] = {
	{ IRIS_TO_SERVICE, IRIS_GET, "query", NS_BYTESTREAMS, IRIS_ANYONE, proxy_tell_address },
	{ IRIS_TO_SERVICE, IRIS_SET, "query", NS_BYTESTREAMS, IRIS_ANYONE, proxy_activate },
	{ .name = NULL },
};

static const struct iris_service_kind proxy_kind = {
	.module = &iris_module_xep0065,
	.iq = proxy_iq,
};

static enum iris_verdict
proxy_disco_info(struct iris_discovery *discovery)
{
	const struct iris_service *service = discovery->request->service;
	struct iris_element *identity;

	if (discovery->of != IRIS_DISCO_SERVICE || service->kind != &proxy_kind ||
	    !str_is_none(discovery->node))
		return IRIS_PASS;
	identity = element_add(discovery->query, "identity", NULL);
	element_set(identity, "category", IRIS_STR("proxy"));
	element_set(identity, "type", IRIS_STR("bytestreams"));
	element_set(identity, "name", option_str(&proxy_self, OPT_NAME));
	element_set(element_add(discovery->query, "feature", NULL), "var",
		    IRIS_STR(NS_BYTESTREAMS));
	return IRIS_PASS;
}

static bool
proxy_check(const struct iris_settings *settings, struct iris_error *error)
{
	return service_check_label(settings_str(settings, OPT_LABEL), error);
}

static bool
proxy_start(struct iris_error *error)
{
	return service_open_all(&proxy_kind, option_str(&proxy_self, OPT_LABEL), NULL, error);
}

static void
proxy_reload(void)
{
	struct iris_error error;

	if (!proxy_start(&error))
		log_error(IRIS_LOG_ERROR, "xep0065", "domain-taken", &error);
}

static const struct iris_protocol proxy_protocol = {
	.name = "socks5",
	.plain = true, /* what clients transfer is encrypted by them, or nobody's secret */
	.begins = socks_begins,
	.take = socks_take,
	.close = socks_close,
};

static const struct iris_hook_handler proxy_hooks[] = {
	HOOK(disco_info, IRIS_NEUTRAL, proxy_disco_info),
	HOOKS_END,
};

static const struct iris_option proxy_options[] = {
	[SOCKS_OPT_WAITING] = { "waiting", IRIS_OPT_DURATION, "1 minute", .min = 1000,
				.max = 3600000, .reloadable = true,
				.help = "How long a connection waits for the other one, and for "
					"the activation." },
	[SOCKS_OPT_IDLE] = { "idle", IRIS_OPT_DURATION, "5 minutes", .min = 1000, .max = 86400000,
			     .reloadable = true,
			     .help = "After how long without a byte a bytestream ends." },
	[SOCKS_OPT_STREAMS_MAX] = { "streams-max", IRIS_OPT_INT, "500", .min = 1, .max = 100000,
				    .reloadable = true,
				    .help = "How many bytestreams there may be, on each worker." },
	[SOCKS_OPT_RATE] = { "rate", IRIS_OPT_SIZE, "0", .max = 1073741824, .reloadable = true,
			     .help = "Bytes in a second of each bytestream, both ways together; "
				     "0: no limit." },
	[SOCKS_OPT_TRANSFER_MAX] = { "transfer-max", IRIS_OPT_SIZE, "0", .max = 1099511627776,
				     .reloadable = true,
				     .help = "Bytes that a bytestream may carry; 0: no limit." },
	[OPT_LABEL] = { "label", IRIS_OPT_STRING, "proxy", .min = 1, .max = 63,
			.help = "What the address of each host's proxy begins with, as in "
				"proxy.example.org." },
	[OPT_HOST] = { "host", IRIS_OPT_STRING, NULL, .optional = true, .max = 255,
		       .reloadable = true,
		       .help = "The name or IP address that clients are told; none: the domain." },
	[OPT_PORT] = { "port", IRIS_OPT_INT, "1080", .min = 1, .max = 65535, .reloadable = true,
		       .help = "The port that clients are told: that of the listener with the "
			       "role socks5." },
	[OPT_NAME] = { "name", IRIS_OPT_STRING, "File Transfer Relay", .max = 255,
		       .reloadable = true, .help = "A name for people." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0065 = {
	IRIS_MODULE_HEAD,
	.name = "xep0065",
	.summary = "SOCKS5 Bytestreams (proxy)",
	.xep = "XEP-0065 1.8.2",
	.needs = IRIS_NAMES("hosts", "router", "xep0030"),
	.self = &proxy_self,
	.options = proxy_options,
	.hooks = proxy_hooks,
	.metrics = socks_metrics,
	.protocols = (const struct iris_protocol *const[]){ &proxy_protocol, NULL },
	.off_by_default = true,
	.not_unloadable = true,
	.check = proxy_check,
	.start = proxy_start,
	.reload = proxy_reload,
};
