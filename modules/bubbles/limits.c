/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account may (P4.2) and whom it may invite (P5): asked here and nowhere else.  Any worker,
 * no wait.
 *
 * Today the answers are the region's: options, and that both are accounts of it.  Licences will
 * answer by what was allocated to the account, companies by their visibility, the gate for other
 * regions: all with these arguments.
 */
#include "modules/bubbles/bubbles_private.h"

int64_t
bubble_limit(const struct iris_jid *account, enum bubble_limit_kind kind)
{
	return option_int(&bubbles_self,
			  kind == BUBBLE_LIMIT_MEMBERS ? OPT_MAX_MEMBERS : OPT_PER_ACCOUNT);
}

/*
 * SECURITY: whether there is an account of this name is not looked at: the answer would tell a
 * stranger (P5.7).
 */
bool
bubbles_may_invite(const struct iris_jid *by, const struct iris_jid *invitee)
{
	struct iris_host *host = invitee->node_len ? host_find(jid_domain(invitee)) : NULL;

	return host && !host->is_component;
}
