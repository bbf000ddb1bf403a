/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clients' first messages of SCRAM (RFC 5802 §7) and PLAIN (RFC 4616), and the names in them.
 * Pure functions, any thread, fuzzed.  We read them before libsasl2 does, because credentials are
 * fetched before, and because it does not check the flags against the mechanism.
 */
#include "sasl_private.h"

static const char *const condition_names[] = {
	NULL,
#define X(name, text) text,
	IRIS_SASL_CONDITIONS(X)
#undef X
};

static bool
has_nul(struct iris_str s)
{
	return s.len > 0 && memchr(s.base, '\0', s.len) != NULL;
}

/* Takes what stands before the separator; false when there is no separator. */
static bool
take_until(struct iris_str *rest, char separator, struct iris_str *part_r)
{
	const char *end = rest->len > 0 ? memchr(rest->base, separator, rest->len) : NULL;

	if (!end)
		return false;
	*part_r = (struct iris_str){ rest->base, (size_t)(end - rest->base) };
	rest->len -= part_r->len + 1;
	rest->base = end + 1;
	return true;
}

/* RFC 5802 §5.1: "=2C" is a comma, "=3D" an equals sign, any other "=" an error. */
static bool
unescape_name(struct iris_arena *arena, struct iris_str escaped, struct iris_str *name_r)
{
	char *out = arena_alloc(arena, escaped.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < escaped.len; i++) {
		char c = escaped.base[i];

		if (c == '=') {
			if (escaped.len - i < 3)
				return false;
			if (memcmp(&escaped.base[i], "=2C", 3) == 0)
				c = ',';
			else if (memcmp(&escaped.base[i], "=3D", 3) != 0)
				return false;
			i += 2;
		}
		out[len++] = c;
	}
	*name_r = (struct iris_str){ out, len };
	return len > 0;
}

static bool
is_binding_name(struct iris_str name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.base[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '-'))
			return false;
	}
	return name.len > 0 && name.len < SASL_BINDING_NAME_MAX;
}

/* gs2-header: "n,," "y,a=juliet," "p=tls-exporter,," */
static bool
parse_gs2_header(struct iris_arena *arena, struct iris_str *rest, struct scram_first *first_r)
{
	struct iris_str flag, authzid;

	if (!take_until(rest, ',', &flag) || !take_until(rest, ',', &authzid) || flag.len == 0)
		return false;
	first_r->flag = flag.base[0];
	if (first_r->flag == 'p') {
		if (flag.len < 3 || flag.base[1] != '=')
			return false;
		first_r->binding = (struct iris_str){ flag.base + 2, flag.len - 2 };
		if (!is_binding_name(first_r->binding))
			return false;
	} else if (flag.len != 1 || (first_r->flag != 'n' && first_r->flag != 'y')) {
		return false;
	}
	if (authzid.len == 0)
		return true;
	if (authzid.len < 3 || memcmp(authzid.base, "a=", 2) != 0)
		return false;
	return unescape_name(arena, (struct iris_str){ authzid.base + 2, authzid.len - 2 },
			     &first_r->authzid);
}

bool
scram_parse_first(struct iris_arena *arena, struct iris_str message, struct scram_first *first_r)
{
	struct iris_str rest = message, name, nonce;

	*first_r = (struct scram_first){ .flag = 0 };
	if (message.len > SASL_SCRAM_MESSAGE_MAX || has_nul(message))
		return false;
	if (!parse_gs2_header(arena, &rest, first_r))
		return false;
	/* RFC 5802 §5.1: "m=" is a mandatory extension that we do not know, and must fail. */
	if (!take_until(&rest, ',', &name) || name.len < 3 || memcmp(name.base, "n=", 2) != 0)
		return false;
	nonce = rest;
	if (nonce.len < 3 || memcmp(nonce.base, "r=", 2) != 0 || nonce.base[2] == ',')
		return false;
	return unescape_name(arena, (struct iris_str){ name.base + 2, name.len - 2 },
			     &first_r->username);
}

bool
plain_parse(struct iris_str message, struct plain_message *plain_r)
{
	struct iris_str rest = message;

	if (!take_until(&rest, '\0', &plain_r->authzid) ||
	    !take_until(&rest, '\0', &plain_r->username))
		return false;
	plain_r->password = rest;
	if (plain_r->authzid.len == 0)
		plain_r->authzid = IRIS_STR_NONE;
	return plain_r->username.len > 0 && plain_r->password.len > 0 &&
	       !has_nul(plain_r->password) && message.len <= 4 * JID_PART_MAX + 2;
}

bool
sasl_name_to_jid(struct iris_arena *arena, struct iris_str name, struct iris_str domain,
		 struct iris_jid *jid_r)
{
	/* Some clients send the whole address where RFC 6120 §6.3.7 has the localpart. */
	if (name.len > 0 && memchr(name.base, '@', name.len)) {
		if (!jid_parse(arena, name, jid_r))
			return false;
	} else if (!jid_make(arena, name, domain, IRIS_STR_NONE, jid_r)) {
		return false;
	}
	return jid_r->node_len > 0 && jid_is_bare(jid_r) && str_equal(jid_domain(jid_r), domain);
}

bool
sasl_authzid_fits(struct iris_arena *arena, struct iris_str authzid, const struct iris_jid *jid)
{
	struct iris_jid wanted;

	if (str_is_none(authzid))
		return true;
	return jid_parse(arena, authzid, &wanted) && jid_is_bare(&wanted) &&
	       jid_bare_equal(&wanted, jid);
}

const char *
sasl_condition_name(enum iris_sasl_condition condition)
{
	IRIS_ASSERT(condition != IRIS_SASL_NO_CONDITION && condition < IRIS_COUNT(condition_names));
	return condition_names[condition];
}
