/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may be talked to: the two places that every stanza between servers passes, and the lists that
 * decide where nobody else does.  Any worker.
 */
#include "iris/gate.h"
#include "modules/federation/federation_private.h"

/* A domain, or what ends in one: "example.org" also names "rooms.example.org". */
static bool
domain_is_in(struct iris_str domain, struct iris_str name)
{
	struct iris_str end;

	if (domain.len < name.len)
		return false;
	end = (struct iris_str){ domain.base + domain.len - name.len, name.len };
	return str_equal(end, name) &&
	       (domain.len == name.len || domain.base[domain.len - name.len - 1] == '.');
}

/* Lists of an operator: short. */
bool
policy_is_listed(const struct iris_settings *settings, unsigned option, struct iris_str domain)
{
	for (size_t i = 0; i < settings_count(settings, option); i++)
		if (domain_is_in(domain, settings_item(settings, option, i)))
			return true;
	return false;
}

/* What the operator says of a domain. A map names its regions: they need not be listed. */
static bool
lists_let_pass(struct iris_str domain)
{
	const struct iris_settings *settings = atomic_load(&federation_self.settings);

	/* SECURITY: nobody proves a domain of ours to us. */
	if (federation_host(domain) || policy_is_listed(settings, OPT_DENY, domain))
		return false;
	return settings_bool(settings, OPT_OPEN) ||
	       policy_is_listed(settings, OPT_ALLOW, domain) ||
	       !str_is_none(gate_place(domain).region);
}

bool
policy_knows(struct iris_str domain)
{
	return lists_let_pass(domain) && (!gate_has_map() || gate_place(domain).is_open);
}

/* P5.7: as from a domain that does not exist, unless the operator wants it told. */
static enum iris_condition
refusal_of(const struct iris_gate_opinion *opinion, enum iris_condition absent)
{
	return opinion->openly ? IRIS_POLICY_VIOLATION : absent;
}

/* Does it pass, and if not, what does its sender hear? */
static bool
opinion_lets_leave(const struct iris_gate_opinion *opinion, enum iris_condition *condition_r)
{
	*condition_r = refusal_of(opinion, IRIS_REMOTE_SERVER_NOT_FOUND);
	return opinion->verdict != IRIS_GATE_DENY;
}

/* Is the gate not to be asked? */
static bool
is_beside_gate(const struct iris_stanza *stanza, struct iris_str domain)
{
	return !gate_has_map() || stanza->past_gate || !lists_let_pass(domain);
}

bool
policy_may_leave(const struct iris_stanza *stanza, const struct iris_jid *to,
		 enum iris_condition *condition_r)
{
	struct iris_gate_opinion opinion;

	*condition_r = IRIS_REMOTE_SERVER_NOT_FOUND;
	if (is_beside_gate(stanza, jid_domain(to)))
		return policy_knows(jid_domain(to));
	opinion = gate_judge(IRIS_GATE_LEAVING, stanza, to, IRIS_STR_NONE);
	return opinion_lets_leave(&opinion, condition_r);
}

bool
policy_may_still_leave(const struct iris_stanza *stanza, const struct iris_jid *to,
		       enum iris_condition *condition_r)
{
	struct iris_gate_opinion opinion;

	*condition_r = IRIS_REMOTE_SERVER_NOT_FOUND;
	if (is_beside_gate(stanza, jid_domain(to)))
		return policy_knows(jid_domain(to));
	opinion = gate_explain(stanza, to);
	return opinion_lets_leave(&opinion, condition_r);
}

/* Presence to all contacts is not answered, and on this side nobody can tell which it is. */
static bool
may_be_answered(const struct iris_stanza *stanza, bool openly)
{
	switch (stanza->kind) {
	case IRIS_MESSAGE:
		return stanza->type != IRIS_HEADLINE || openly;
	case IRIS_PRESENCE:
		return stanza->type == IRIS_SUBSCRIBE && openly;
	case IRIS_IQ:
		break;
	}
	return true;
}

/*
 * What an account that does not exist would answer (user.c), or the truth.  It carries nothing but
 * its condition, so it passes without being judged.
 */
static void
refuse_entry(const struct iris_stanza *stanza, const struct iris_gate_opinion *opinion)
{
	struct iris_refusal refusal = {
		.condition = refusal_of(opinion, IRIS_SERVICE_UNAVAILABLE),
	};
	struct iris_stanza *error =
		may_be_answered(stanza, opinion->openly) ? stanza_error(stanza, &refusal) : NULL;

	if (!error)
		return;
	error->past_gate = true;
	route_stanza(&error, NULL);
}

bool
policy_may_enter(struct iris_stanza *stanza, const char *region)
{
	struct iris_gate_opinion opinion = { .verdict = IRIS_GATE_DELIVER };

	if (!policy_knows(jid_domain(&stanza->from)))
		return false;
	if (gate_has_map())
		opinion = gate_judge(IRIS_GATE_ENTERING, stanza, &stanza->to,
				     region[0] ? str_from(region) : IRIS_STR_NONE);
	if (opinion.verdict == IRIS_GATE_DENY) {
		refuse_entry(stanza, &opinion);
		return false;
	}
	stanza_set_afar(stanza, opinion.verdict == IRIS_GATE_TRANSIT);
	return true;
}

bool
policy_check_domains(const struct iris_settings *settings, unsigned option,
		     struct iris_error *error)
{
	for (size_t i = 0; i < settings_count(settings, option); i++) {
		struct iris_arena *arena = arena_new();
		struct iris_str name = settings_item(settings, option, i);
		struct iris_jid jid;
		bool right = jid_parse(arena, name, &jid) && str_equal(jid_full(&jid), name) &&
			     jid.node_len == 0 && jid_is_bare(&jid);

		arena_unref(&arena);
		if (!right)
			return error_set(error,
					 "\"%.*s\" is not a prepared (lower-case) domain",
					 IRIS_STR_FMT(name));
	}
	return true;
}

bool
policy_check(const struct iris_settings *settings, struct iris_error *error)
{
	return policy_check_domains(settings, OPT_ALLOW, error) &&
	       policy_check_domains(settings, OPT_DENY, error);
}
