/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0065 1.8: SOCKS5 Bytestreams: the proxy (§6), off by default.  The requests that a domain of
 * its own answers, at that domain's home; the connections are in xep0065_socks.c.
 *
 * A listener with the role `socks5` takes the connections.  Accounts of this server learn where it
 * is and activate bytestreams, whoever is on the other side.  There is no UDP (§8).
 */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/sha.h>

#include "xep/xep0030_disco.h"
#include "xep/xep0065_socks.h"

#define NS_BYTESTREAMS "http://jabber.org/protocol/bytestreams"
#define SID_MAX 1024

enum { OPT_DOMAIN = SOCKS_OPT_COUNT, OPT_HOST, OPT_PORT, OPT_NAME };

struct iris_module_self proxy_self;

static char proxy_domain[JID_PART_MAX + 1];

/* --- answers --- */

static void
proxy_refuse(const struct iris_stanza *iq, enum iris_condition condition)
{
	struct iris_stanza *error =
		stanza_error(iq, &(struct iris_refusal){ .condition = condition });

	if (error)
		route_stanza(&error, NULL);
}

static void
proxy_answer_info(struct iris_stanza *result)
{
	struct iris_element *query = element_add(result->root, "query", NS_INFO);
	struct iris_element *identity = element_add(query, "identity", NULL);
	static const char *const features[] = { NS_INFO, NS_ITEMS, NS_BYTESTREAMS };

	element_set(identity, "category", IRIS_STR("proxy"));
	element_set(identity, "type", IRIS_STR("bytestreams"));
	element_set(identity, "name", option_str(&proxy_self, OPT_NAME));
	for (size_t i = 0; i < IRIS_COUNT(features); i++)
		element_set(element_add(query, "feature", NULL), "var", str_from(features[i]));
}

/* §6.2 */
static void
proxy_answer_address(struct iris_stanza *result)
{
	struct iris_element *query = element_add(result->root, "query", NS_BYTESTREAMS);
	struct iris_element *host = element_add(query, "streamhost", NULL);
	struct iris_str told = option_str(&proxy_self, OPT_HOST);

	element_set(host, "jid", str_from(proxy_domain));
	element_set(host, "host", str_is_empty(told) ? str_from(proxy_domain) : told);
	element_set_int(host, "port", option_int(&proxy_self, OPT_PORT));
}

/* --- activation: §6.3.5 --- */

struct activation { /* to the home of the bytestream */
	struct iris_mail mail;
	struct iris_stanza *iq;
	char address[SOCKS_ADDRESS_LEN + 1];
};

/* It is there where it is only for who knows all three parts of the address. */
static void
activation_arrives(struct iris_mail *mail)
{
	struct activation *activation = IRIS_CONTAINER(mail, struct activation, mail);
	struct iris_stanza *result;

	switch (socks_activate(str_from(activation->address))) {
	case SOCKS_ACTIVE:
		result = stanza_result(activation->iq);
		route_stanza(&result, NULL);
		break;
	case SOCKS_UNKNOWN:
		proxy_refuse(activation->iq, IRIS_ITEM_NOT_FOUND);
		break;
	case SOCKS_ONE_ONLY:
		proxy_refuse(activation->iq, IRIS_NOT_ALLOWED);
		break;
	}
	stanza_unref(&activation->iq);
	free(activation);
}

static void
sha1_hex(struct iris_str text, char *hex_r)
{
	unsigned char digest[SHA_DIGEST_LENGTH];

	SHA1((const unsigned char *)text.base, text.len, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(hex_r + 2 * i, 3, "%02x", digest[i]);
}

static void
proxy_activate(struct iris_stanza *iq, const struct iris_element *query)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_str sid = element_get(query, "sid");
	struct activation *activation;
	struct iris_jid target;

	if (str_is_empty(sid) || sid.len > SID_MAX ||
	    !jid_parse(arena, element_child_text(query, "activate", NULL), &target)) {
		proxy_refuse(iq, IRIS_BAD_REQUEST);
		arena_unref(&arena);
		return;
	}
	strbuf_add(&text, sid);
	strbuf_add(&text, jid_full(&iq->from));
	strbuf_add(&text, jid_full(&target));
	activation = iris_calloc(1, sizeof(*activation));
	activation->mail.fn = activation_arrives;
	activation->iq = stanza_ref(iq);
	sha1_hex(strbuf_str(&text), activation->address);
	worker_post(home_of(str_from(activation->address)), &activation->mail);
	arena_unref(&arena);
}

/* --- requests --- */

/* SECURITY: no open relay: whoever starts a bytestream has an account here. */
static bool
proxy_may_use(const struct iris_stanza *iq)
{
	struct iris_host *host = host_find(jid_domain(&iq->from));

	return host && !host->is_component && iq->from.node_len > 0;
}

static void
proxy_receive_get(struct iris_stanza *iq, const struct iris_element *query)
{
	struct iris_stanza *result = stanza_result(iq);

	if (element_is(query, "query", NS_INFO) && str_is_empty(element_get(query, "node"))) {
		proxy_answer_info(result);
	} else if (element_is(query, "query", NS_ITEMS)) {
		element_add(result->root, "query", NS_ITEMS);
	} else if (element_is(query, "query", NS_BYTESTREAMS) && proxy_may_use(iq)) {
		proxy_answer_address(result);
	} else {
		proxy_refuse(iq, element_is(query, "query", NS_BYTESTREAMS) ?
					 IRIS_FORBIDDEN : IRIS_SERVICE_UNAVAILABLE);
		stanza_unref(&result);
		return;
	}
	route_stanza(&result, NULL);
}

static void
proxy_receive_set(struct iris_stanza *iq, const struct iris_element *query)
{
	if (!element_is(query, "query", NS_BYTESTREAMS))
		proxy_refuse(iq, IRIS_SERVICE_UNAVAILABLE);
	else if (!proxy_may_use(iq))
		proxy_refuse(iq, IRIS_FORBIDDEN);
	else
		proxy_activate(iq, query);
}

static void
proxy_deliver(struct iris_domain_route *route, struct iris_stanza *stanza,
	      struct iris_ticket *ticket)
{
	struct iris_element *query = element_child(stanza->root, NULL, NULL);

	if (stanza->kind == IRIS_IQ && stanza->type == IRIS_GET && query &&
	    jid_is_bare(&stanza->to) && stanza->to.node_len == 0)
		proxy_receive_get(stanza, query);
	else if (stanza->kind == IRIS_IQ && stanza->type == IRIS_SET && query &&
		 jid_is_bare(&stanza->to) && stanza->to.node_len == 0)
		proxy_receive_set(stanza, query);
	else if (stanza->kind != IRIS_PRESENCE)
		proxy_refuse(stanza, IRIS_SERVICE_UNAVAILABLE);
}

/* --- the domain, as long as the process lasts --- */

static struct iris_domain_route proxy_route = { .domain = proxy_domain, .deliver = proxy_deliver };

static void
proxy_begin(struct iris_mail *mail)
{
	struct iris_error error;

	free(mail);
	if (domain_route_add(&proxy_route))
		return;
	error_set(&error, "the domain %s of the SOCKS5 proxy is somebody else's", proxy_domain);
	error_hint(&error, "give it another one: xep0065: {domain: …}");
	log_error(IRIS_LOG_ERROR, "xep0065", "domain-taken", &error);
}

static bool
proxy_start(struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct iris_str domain = option_str(&proxy_self, OPT_DOMAIN);
	struct iris_host *first = host_default();
	struct iris_mail *mail;
	struct iris_jid jid;
	bool good;

	if (str_is_empty(domain) && first)
		domain = arena_printf(arena, "proxy.%.*s", IRIS_STR_FMT(first->name));
	good = jid_parse(arena, domain, &jid) && jid.node_len == 0 && jid_is_bare(&jid) &&
	       str_copy_to(proxy_domain, sizeof(proxy_domain), jid_domain(&jid));
	if (good) {
		mail = iris_calloc(1, sizeof(*mail));
		mail->fn = proxy_begin;
		worker_post(home_of(str_from(proxy_domain)), mail);
	}
	arena_unref(&arena);
	return good || error_set(error, "the domain of the SOCKS5 proxy is not one");
}

static enum iris_verdict
proxy_disco_items(struct iris_discovery *discovery)
{
	if (discovery->of == IRIS_DISCO_HOST && str_is_none(discovery->node))
		element_set(element_add(discovery->query, "item", NULL), "jid",
			    str_from(proxy_domain));
	return IRIS_PASS;
}

static const struct iris_protocol proxy_protocol = {
	.name = "socks5",
	.plain = true, /* what clients transfer is encrypted by them, or nobody's secret */
	.begins = socks_begins,
	.take = socks_take,
	.close = socks_close,
};

static const struct iris_hook_handler proxy_hooks[] = {
	HOOK(disco_items, IRIS_NEUTRAL, proxy_disco_items),
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
	[OPT_DOMAIN] = { "domain", IRIS_OPT_STRING, NULL, .optional = true, .max = JID_PART_MAX,
			 .help = "The address of the proxy; none: proxy. and the first host." },
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
	.needs = IRIS_NAMES("xep0030"),
	.self = &proxy_self,
	.options = proxy_options,
	.hooks = proxy_hooks,
	.metrics = socks_metrics,
	.protocols = (const struct iris_protocol *const[]){ &proxy_protocol, NULL },
	.off_by_default = true,
	.not_unloadable = true,
	.start = proxy_start,
};
