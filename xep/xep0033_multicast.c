/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0033 1.2: Extended Stanza Addressing: the multicast service on each host.  At the home of the
 * sender, on the fiber of its stream.
 *
 * What a client of ours sends to its host with addresses in it is sent to each of them as if the
 * client had done so itself: blocked addresses, the archive, carbons and directed presence are
 * treated as ever, and so are errors.  Only clients of ours may do that, up to a limit.  Copies go
 * to addresses, never to another server's service.
 */
#include "iris/module.h"
#include "xep/payloads.h"

enum { OPT_ADDRESSES_MAX, OPT_REMOTE_MAX, OPT_USERS };

static struct iris_module_self multicast_self;

static struct iris_metric multicast_metrics[] = {
	{ .name = "iris_multicast_total", .help = "Stanzas sent to several addresses" },
	{ .name = "iris_multicast_copies_total", .help = "Copies made of them" },
	{ .name = NULL },
};

/* --- §4: addresses --- */

static bool
address_is_blind(const struct iris_element *address)
{
	return str_is(element_get(address, "type"), "bcc");
}

/* Somebody who is to get it, and has not? */
static bool
address_is_recipient(const struct iris_element *address)
{
	struct iris_str type = element_get(address, "type");
	struct iris_str delivered = element_get(address, "delivered");

	return element_is(address, "address", NS_ADDRESS) &&
	       (str_is(type, "to") || str_is(type, "cc") || str_is(type, "bcc")) &&
	       !str_is(delivered, "true") && !str_is(delivered, "1");
}

/* All are checked before the first copy is sent. Counts; prepares the addresses. */
static enum iris_condition
addresses_check(struct iris_element *addresses, size_t *count_r)
{
	size_t remote = 0;
	struct iris_jid jid;

	*count_r = 0;
	ELEMENT_FOREACH(address, addresses) {
		if (!address_is_recipient(address))
			continue;
		/* §4.3.2: there are no gateways to other systems here. */
		if (!jid_parse(addresses->arena, element_get(address, "jid"), &jid))
			return IRIS_JID_MALFORMED;
		element_set(address, "jid", jid_full(&jid));
		++*count_r;
		remote += host_find(jid_domain(&jid)) == NULL;
	}
	if (*count_r == 0)
		return IRIS_BAD_REQUEST;
	/* SECURITY: one stanza of a client must not become any number of them. */
	if (*count_r > (size_t)option_int(&multicast_self, OPT_ADDRESSES_MAX) ||
	    remote > (size_t)option_int(&multicast_self, OPT_REMOTE_MAX))
		return IRIS_NOT_ACCEPTABLE;
	return IRIS_NO_ERROR;
}

/* --- §5: copies --- */

/*
 * The header that a recipient sees: those who are named get it, too, and of the blind ones only
 * the recipient itself is there.
 */
static void
addresses_write(struct iris_element *header, const struct iris_element *addresses,
		const struct iris_element *recipient)
{
	ELEMENT_FOREACH(address, addresses) {
		struct iris_element *copy;

		if (address_is_blind(address) && address != recipient)
			continue;
		copy = element_copy(header->arena, address);
		if (address_is_recipient(address) && !address_is_blind(address))
			element_set(copy, "delivered", IRIS_STR("true"));
		element_append(header, copy);
	}
}

static struct iris_stanza *
copy_write(const struct iris_stanza *stanza, const struct iris_element *addresses,
	   const struct iris_element *recipient)
{
	struct iris_stanza *copy = stanza_copy(stanza);
	struct iris_element *header = element_child(copy->root, "addresses", NS_ADDRESS);
	struct iris_jid to = jid_from_prepared(element_get(recipient, "jid"));

	while (header->first)
		element_remove(header->first);
	addresses_write(header, addresses, recipient);
	stanza_set_to(copy, &to);
	return copy;
}

/* What one of them answers, or the server for it, comes back to the client as ever. */
static void
multicast_send(struct iris_request *request, const struct iris_element *addresses)
{
	metric_add(&multicast_metrics[0], 1);
	ELEMENT_FOREACH(address, addresses) {
		struct iris_stanza *copy;

		if (!address_is_recipient(address) || request->session->closing)
			continue;
		copy = copy_write(request->stanza, addresses, address);
		session_receive(request->session, &copy, request->ticket);
		metric_add(&multicast_metrics[1], 1);
	}
}

static bool
multicast_may(const struct iris_session *session)
{
	enum iris_role role = session->user->account.role;

	return role >= (option_bool(&multicast_self, OPT_USERS) ? IRIS_ROLE_USER :
								   IRIS_ROLE_COMPANY_ADMIN);
}

/* Is it for the service of one of our hosts? */
static struct iris_element *
multicast_addresses(const struct iris_stanza *stanza)
{
	struct iris_host *host;

	if (stanza->kind == IRIS_IQ || jid_is_none(&stanza->to) || stanza->to.node_len ||
	    !jid_is_bare(&stanza->to))
		return NULL;
	host = host_find(jid_domain(&stanza->to));
	return host && !host->is_component ? element_child(stanza->root, "addresses", NS_ADDRESS) :
					     NULL;
}

static enum iris_verdict
multicast_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_element *addresses = multicast_addresses(stanza);
	enum iris_condition condition = IRIS_NO_ERROR;
	size_t count;

	if (!addresses || stanza->type == IRIS_ERROR)
		return IRIS_PASS;
	if (stanza->kind == IRIS_PRESENCE && stanza->type != IRIS_AVAILABLE &&
	    stanza->type != IRIS_UNAVAILABLE)
		condition = IRIS_NOT_ALLOWED; /* who subscribes asks each one */
	else if (!multicast_may(request->session))
		condition = IRIS_FORBIDDEN;
	else
		condition = addresses_check(addresses, &count);
	if (condition != IRIS_NO_ERROR) {
		request->refusal.condition = condition;
		return IRIS_REFUSE;
	}
	multicast_send(request, element_copy(request->arena, addresses));
	return IRIS_DONE;
}

static const struct iris_feature multicast_features[] = {
	{ IRIS_DISCO_HOST, NS_ADDRESS },
	{ .var = NULL },
};

static const struct iris_hook_handler multicast_hooks[] = {
	HOOK(stanza_out, IRIS_LATE, multicast_stanza_out),
	HOOKS_END,
};

static const struct iris_option multicast_options[] = {
	[OPT_ADDRESSES_MAX] = { "addresses-max", IRIS_OPT_INT, "50", .min = 1, .max = 10000,
				.reloadable = true,
				.help = "To how many addresses one stanza may be sent." },
	[OPT_REMOTE_MAX] = { "remote-max", IRIS_OPT_INT, "10", .max = 10000, .reloadable = true,
			     .help = "How many of them may be on other domains than ours." },
	[OPT_USERS] = { "users", IRIS_OPT_BOOL, "true", .reloadable = true,
			.help = "Whether everybody may; else only administrators." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0033 = {
	IRIS_MODULE_HEAD,
	.name = "xep0033",
	.summary = "Extended Stanza Addressing",
	.xep = "XEP-0033 1.2.1",
	.self = &multicast_self,
	.options = multicast_options,
	.features = multicast_features,
	.hooks = multicast_hooks,
	.metrics = multicast_metrics,
};
