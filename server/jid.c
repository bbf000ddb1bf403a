/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preparing and splitting addresses (RFC 7622), and SASLprep of passwords (RFC 4013).  Any thread.
 *
 * The canonical form, on which comparing and hashing rely:
 *  - node: stringprep's nodeprep; resource: resourceprep (they differ from PRECIS only outside
 *    Unicode 3.2, and are what other servers do);
 *  - domain: lower-case ASCII.  U-labels become A-labels (IDNA2008, non-transitional), one trailing
 *    dot goes.  Underscores are accepted (service names have them).  IP literals are accepted: IPv4
 *    as it stands, IPv6 in brackets, in the shortest form.
 *
 * Nearly all addresses are ASCII, for which a table answers; the libraries are asked for the rest.
 * It does not judge confusable scripts.
 */
#include <arpa/inet.h>
#include <idn2.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <stringprep.h>

#include "iris/jid.h"

/* SECURITY: preparation may shrink a part but costs time by its input; more is nobody's address. */
#define INPUT_MAX ((size_t)JID_PART_MAX * 3)
#define DOMAIN_MAX 253 /* RFC 1035 §2.3.4, without the root's dot */
#define LABEL_MAX 63

enum {
	IN_NODE = 1,     /* as it is */
	IN_RESOURCE = 2, /* as it is */
	IN_DOMAIN = 4,   /* as it is */
	UPPER = 8,       /* a letter to lower in nodes and domains */
};

#define SYMBOL (IN_NODE | IN_RESOURCE)
#define LOWER (IN_NODE | IN_RESOURCE | IN_DOMAIN)

/* Nodeprep prohibits " & ' / : < > @ and space; below space, above '~': the slow way. */
static const uint8_t ascii_class[256] = {
	[' '] = IN_RESOURCE, ['!'] = SYMBOL, ['"'] = IN_RESOURCE, ['#' ... '%'] = SYMBOL,
	['&' ... '\''] = IN_RESOURCE, ['(' ... ','] = SYMBOL, ['-' ... '.'] = LOWER,
	['/'] = IN_RESOURCE, ['0' ... '9'] = LOWER, [':'] = IN_RESOURCE, [';'] = SYMBOL,
	['<'] = IN_RESOURCE, ['='] = SYMBOL, ['>'] = IN_RESOURCE, ['?'] = SYMBOL,
	['@'] = IN_RESOURCE, ['A' ... 'Z'] = UPPER | IN_RESOURCE, ['[' ... '^'] = SYMBOL,
	['_'] = LOWER, ['`'] = SYMBOL, ['a' ... 'z'] = LOWER, ['{' ... '~'] = SYMBOL,
};

/* Into `out`, lower-cased where the part wants it. False: the table cannot tell. */
static bool
ascii_prepare(struct iris_str text, unsigned part, char *out)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.base[i];

		if (ascii_class[c] & part)
			out[i] = (char)c;
		else if ((ascii_class[c] & UPPER) && part != IN_RESOURCE)
			out[i] = (char)(c | 0x20);
		else
			return false;
	}
	return true;
}

/* Labels of 1 to 63 letters, digits, underscores and inner hyphens. */
static bool
domain_is_valid(struct iris_str domain)
{
	size_t start = 0;

	if (domain.len == 0 || domain.len > DOMAIN_MAX)
		return false;
	for (size_t i = 0; i <= domain.len; i++) {
		if (i < domain.len && domain.base[i] != '.')
			continue;
		if (i == start || i - start > LABEL_MAX)
			return false;
		if (domain.base[start] == '-' || domain.base[i - 1] == '-')
			return false;
		start = i + 1;
	}
	return true;
}

/* Whether a label claims to be an A-label, which IDNA must check. */
static bool
domain_has_alabel(struct iris_str domain)
{
	for (size_t i = 0; i + 4 <= domain.len; i++) {
		if ((i == 0 || domain.base[i - 1] == '.') &&
		    memcmp(domain.base + i, "xn--", 4) == 0)
			return true;
	}
	return false;
}

static struct iris_str
domain_without_root(struct iris_str domain)
{
	if (domain.len > 1 && domain.base[domain.len - 1] == '.')
		domain.len--;
	return domain;
}

/* All parts by the table, right into the arena. False: try the slow way. */
static bool
jid_make_ascii(struct iris_arena *arena, struct iris_str node, struct iris_str domain,
	       struct iris_str resource, struct iris_jid *jid_r)
{
	char *base, *at;
	size_t bare;

	domain = domain_without_root(domain);
	if (node.len > JID_PART_MAX || domain.len > DOMAIN_MAX || resource.len > JID_PART_MAX)
		return false;
	bare = (node.base ? node.len + 1 : 0) + domain.len;
	base = at = arena_alloc(arena, bare + 1 + resource.len + 1);
	if (node.base) {
		if (!ascii_prepare(node, IN_NODE, at))
			return false;
		at[node.len] = '@';
		at += node.len + 1;
	}
	if (!ascii_prepare(domain, IN_DOMAIN, at))
		return false;
	domain.base = at;
	if (!domain_is_valid(domain) || domain_has_alabel(domain))
		return false;
	if (resource.base) {
		base[bare] = '/';
		if (!ascii_prepare(resource, IN_RESOURCE, base + bare + 1))
			return false;
	}
	*jid_r = (struct iris_jid){ base, (uint16_t)node.len, (uint16_t)domain.len,
		(uint16_t)resource.len };
	return true;
}

/* Runs one profile over the buffer of INPUT_MAX + 1 bytes, in place. */
static bool
profile_run(char *buf, const Stringprep_profile *profile, int flags)
{
	size_t len;

	if (stringprep(buf, INPUT_MAX + 1, (Stringprep_profile_flags)flags, profile) !=
	    STRINGPREP_OK)
		return false;
	len = strlen(buf);
	return len > 0 && len <= JID_PART_MAX;
}

/*
 * Prepares text by a profile of stringprep; the result is a malloc'ed string, or NULL.
 * SECURITY: what is not assigned in Unicode 3.2 passes the case mapping, but the normalisation
 * after it may know it (a squared letter A becomes "A"), and a second preparation would differ: two
 * accounts that are one.  So the result must be stable.
 */
static char *
stringprep_stable(struct iris_str text, const Stringprep_profile *profile, int flags)
{
	char *once, *twice;
	bool stable = false;

	if (text.len == 0 || text.len > INPUT_MAX || memchr(text.base, '\0', text.len))
		return NULL;
	once = iris_malloc(INPUT_MAX + 1);
	twice = iris_malloc(INPUT_MAX + 1);
	memcpy(once, text.base, text.len);
	once[text.len] = '\0';
	if (profile_run(once, profile, flags)) {
		memcpy(twice, once, strlen(once) + 1);
		stable = profile_run(twice, profile, flags) && strcmp(once, twice) == 0;
	}
	OPENSSL_cleanse(twice, INPUT_MAX + 1); /* it may be a password */
	free(twice);
	if (stable)
		return once;
	OPENSSL_cleanse(once, INPUT_MAX + 1);
	free(once);
	return NULL;
}

static char *
ipv6_prepare(struct iris_str domain)
{
	char text[INET6_ADDRSTRLEN + 2];
	struct in6_addr address;
	struct iris_str inner = { domain.base + 1, domain.len - 2 };
	size_t len;

	if (domain.len < 4 || domain.base[domain.len - 1] != ']' ||
	    !str_copy_to(text, sizeof(text), inner) || inet_pton(AF_INET6, text, &address) != 1)
		return NULL;
	text[0] = '[';
	if (!inet_ntop(AF_INET6, &address, text + 1, INET6_ADDRSTRLEN))
		return NULL;
	len = strlen(text);
	text[len] = ']';
	return str_dup((struct iris_str){ text, len + 1 });
}

/* A malloc'ed domain in canonical form, or NULL. */
static char *
domain_prepare(struct iris_str domain)
{
	char *text, *ascii = NULL, *out = NULL;
	struct iris_str result;

	if (domain.len == 0 || domain.len > INPUT_MAX || memchr(domain.base, '\0', domain.len))
		return NULL;
	if (domain.base[0] == '[')
		return ipv6_prepare(domain);
	text = str_dup(domain);
	if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK) {
		result = domain_without_root(str_from(ascii));
		out = iris_malloc(result.len + 1);
		if (ascii_prepare(result, IN_DOMAIN, out)) {
			out[result.len] = '\0';
			result.base = out;
		}
		if (result.base != out || !domain_is_valid(result)) {
			free(out);
			out = NULL;
		}
	}
	if (ascii)
		idn2_free(ascii);
	free(text);
	return out;
}

static bool
jid_make_slow(struct iris_arena *arena, struct iris_str node, struct iris_str domain,
	      struct iris_str resource, struct iris_jid *jid_r)
{
	char *n = node.base ? stringprep_stable(node, stringprep_xmpp_nodeprep, 0) : NULL;
	char *d = domain_prepare(domain);
	char *r = resource.base ? stringprep_stable(resource, stringprep_xmpp_resourceprep, 0)
				: NULL;
	bool valid = d && (n || !node.base) && (r || !resource.base);

	if (valid) {
		struct iris_str text = arena_printf(arena, "%s%s%s%s%s", n ? n : "", n ? "@" : "",
						    d, r ? "/" : "", r ? r : "");

		*jid_r = (struct iris_jid){ text.base, (uint16_t)str_from(n).len,
			(uint16_t)str_from(d).len, (uint16_t)str_from(r).len };
	}
	free(n);
	free(d);
	free(r);
	return valid;
}

/* RFC 7622 §3.1: the resource begins after the first '/', the domain after an '@' before it. */
static void
jid_split(struct iris_str text, struct iris_str *node_r, struct iris_str *domain_r,
	  struct iris_str *resource_r)
{
	const char *end = text.base + text.len;
	const char *slash = text.len ? memchr(text.base, '/', text.len) : NULL;
	const char *bare_end = slash ? slash : end;
	const char *at = text.len ? memchr(text.base, '@', (size_t)(bare_end - text.base)) : NULL;
	const char *domain = at ? at + 1 : text.base;

	*node_r = at ? (struct iris_str){ text.base, (size_t)(at - text.base) } : IRIS_STR_NONE;
	*domain_r = (struct iris_str){ domain, (size_t)(bare_end - domain) };
	*resource_r = slash ? (struct iris_str){ slash + 1, (size_t)(end - slash - 1) }
			    : IRIS_STR_NONE;
}

bool
jid_parse(struct iris_arena *arena, struct iris_str text, struct iris_jid *jid_r)
{
	struct iris_str node, domain, resource;

	*jid_r = IRIS_JID_NONE;
	if (text.len == 0)
		return false;
	jid_split(text, &node, &domain, &resource);
	return jid_make(arena, node, domain, resource, jid_r);
}

bool
jid_make(struct iris_arena *arena, struct iris_str node, struct iris_str domain,
	 struct iris_str resource, struct iris_jid *jid_r)
{
	*jid_r = IRIS_JID_NONE;
	if ((node.base && node.len == 0) || (resource.base && resource.len == 0) || domain.len == 0)
		return false;
	return jid_make_ascii(arena, node, domain, resource, jid_r) ||
	       jid_make_slow(arena, node, domain, resource, jid_r);
}

bool
jid_prepare_new_node(struct iris_arena *arena, struct iris_str text, struct iris_str *node_r)
{
	char *prepared = stringprep_stable(text, stringprep_xmpp_nodeprep,
					   STRINGPREP_NO_UNASSIGNED);

	if (!prepared)
		return false;
	*node_r = arena_copy_str(arena, str_from(prepared));
	free(prepared);
	return true;
}

bool
password_prepare(struct iris_arena *arena, struct iris_str text, struct iris_str *password_r)
{
	char *prepared = stringprep_stable(text, stringprep_saslprep, 0);

	if (!prepared)
		return false;
	*password_r = arena_copy_str(arena, str_from(prepared));
	OPENSSL_cleanse(prepared, INPUT_MAX + 1);
	free(prepared);
	return true;
}

struct iris_jid
jid_with_resource(struct iris_arena *arena, const struct iris_jid *jid, struct iris_str resource)
{
	struct iris_str bare = jid_bare(jid);
	struct iris_jid result = *jid;
	char *base;

	IRIS_ASSERT(!jid_is_none(jid) && resource.len <= JID_PART_MAX);
	base = arena_alloc(arena, bare.len + 1 + resource.len + 1);
	memcpy(base, bare.base, bare.len);
	if (resource.len > 0) {
		base[bare.len] = '/';
		memcpy(base + bare.len + 1, resource.base, resource.len);
	}
	result.base = base;
	result.resource_len = (uint16_t)resource.len;
	return result;
}

struct iris_jid
jid_copy(struct iris_arena *arena, const struct iris_jid *jid)
{
	struct iris_jid copy = *jid;

	if (!jid_is_none(jid))
		copy.base = arena_copy_str(arena, jid_full(jid)).base;
	return copy;
}

struct iris_jid
jid_from_prepared(struct iris_str text)
{
	struct iris_str node, domain, resource;

	if (text.len == 0)
		return IRIS_JID_NONE;
	jid_split(text, &node, &domain, &resource);
	IRIS_ASSERT(node.len <= JID_PART_MAX && domain.len <= JID_PART_MAX &&
		    resource.len <= JID_PART_MAX);
	return (struct iris_jid){ text.base, (uint16_t)node.len, (uint16_t)domain.len,
		(uint16_t)resource.len };
}
