/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0317 0.3: Hats: what somebody is, beside affiliation and role.  There is one, "guest"
 * (P6.1), which follows from the account's role; it is put on at the account's home, where that is
 * known, on the presence that goes to a room, and rooms show it like the rest of a presence.
 *
 * It does not do: hats that people make and give to each other (§3.2: optional commands).
 */
#include "iris/module.h"
#include "xep/payloads.h"

#define HAT_GUEST "urn:iris:hats:guest"

static struct iris_module_self hats_self;

static void
put_on(struct iris_element *presence, const char *uri, const char *title)
{
	struct iris_element *hat = element_add(element_add(presence, "hats", NS_HATS), "hat", NULL);

	element_set(hat, "uri", str_from(uri));
	element_set(hat, "title", str_from(title));
	element_set(hat, "xml:lang", IRIS_STR("en"));
}

/* SECURITY: whoever could put on a hat of their choice would be taken for what it says. */
static enum iris_verdict
hats_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_element *hats;

	if (stanza->kind != IRIS_PRESENCE)
		return IRIS_PASS;
	while ((hats = element_child(stanza->root, "hats", NS_HATS)) != NULL)
		element_remove(hats);
	if (stanza->type == IRIS_AVAILABLE && !jid_is_none(&stanza->to) &&
	    request->session->user->account.role == IRIS_ROLE_GUEST)
		put_on(stanza->root, HAT_GUEST, "Guest");
	return IRIS_PASS;
}

static const struct iris_hook_handler hats_hooks[] = {
	HOOK(stanza_out, IRIS_FILTER, hats_stanza_out),
	HOOKS_END,
};

const struct iris_module iris_module_xep0317 = {
	IRIS_MODULE_HEAD,
	.name = "xep0317",
	.summary = "Hats in rooms",
	.xep = "XEP-0317 0.3.1",
	.self = &hats_self,
	.hooks = hats_hooks,
};
