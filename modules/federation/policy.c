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

bool
policy_knows(struct iris_str domain)
{
	const struct iris_settings *settings = atomic_load(&federation_self.settings);

	/* SECURITY: nobody proves a domain of ours to us. */
	if (federation_host(domain) || policy_is_listed(settings, OPT_DENY, domain))
		return false;
	return settings_bool(settings, OPT_OPEN) || policy_is_listed(settings, OPT_ALLOW, domain);
}

/*
 * SECURITY: closed rather than wrong. No region is read from certificates yet, so what a map has in
 * a region does not pass; nor does what may only be in transit, which nobody keeps from being kept.
 */
static bool
gate_lets_pass(enum iris_gate_direction direction, const struct iris_stanza *stanza,
	       const struct iris_jid *to)
{
	return !gate_has_map() ||
	       gate_judge(direction, stanza, to, IRIS_STR_NONE).verdict == IRIS_GATE_DELIVER;
}

bool
policy_may_leave(const struct iris_stanza *stanza, const struct iris_jid *to)
{
	return policy_knows(jid_domain(to)) && gate_lets_pass(IRIS_GATE_LEAVING, stanza, to);
}

bool
policy_may_enter(const struct iris_stanza *stanza)
{
	return policy_knows(jid_domain(&stanza->from)) &&
	       gate_lets_pass(IRIS_GATE_ENTERING, stanza, &stanza->to);
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
