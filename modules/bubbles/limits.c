/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account may (P4.2) and whom it may invite (P5): asked here and nowhere else.  Any worker,
 * no wait.
 *
 * Today the answers are the region's: options, that both are accounts of it, and the gate's for
 * other regions.  Licences will answer by what was allocated to the account, companies by their
 * visibility: all with these arguments.
 */
#include "iris/gate.h"
#include "modules/bubbles/bubbles_private.h"

int64_t
bubble_limit(const struct iris_jid *account, enum bubble_limit_kind kind)
{
	return option_int(&bubbles_self,
			  kind == BUBBLE_LIMIT_MEMBERS ? OPT_MAX_MEMBERS : OPT_PER_ACCOUNT);
}

bool
bubbles_is_ours(const struct iris_jid *jid)
{
	struct iris_host *host = jid->node_len ? host_find(jid_domain(jid)) : NULL;

	return host && !host->is_component;
}

/*
 * Somebody of another region whom what is said in the bubble may reach (P2.4). Who is in none is a
 * guest of nobody: outside the regions a bubble has no members.
 */
static bool
gate_lets_hear(const struct iris_jid *bubble, const struct iris_jid *invitee)
{
	struct iris_gate_place place = gate_place(jid_domain(invitee));
	struct iris_stanza *message;
	enum iris_gate_verdict verdict;

	if (invitee->node_len == 0 || str_is_empty(place.region) || place.is_own || place.is_rooms)
		return false;
	message = stanza_new(IRIS_MESSAGE, IRIS_GROUPCHAT);
	stanza_set_from(message, bubble);
	stanza_set_to(message, invitee);
	verdict = gate_explain(message, invitee).verdict;
	stanza_unref(&message);
	return verdict != IRIS_GATE_DENY;
}

/*
 * SECURITY: whether there is an account of this name is not looked at: the answer would tell a
 * stranger (P5.7).
 */
bool
bubbles_may_invite(const struct iris_jid *bubble, const struct iris_jid *by,
		   const struct iris_jid *invitee)
{
	return bubbles_is_ours(invitee) || gate_lets_hear(bubble, invitee);
}
