/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses (RFC 7622; prepared by stringprep's nodeprep and resourceprep, domains by IDNA2008).
 * A struct iris_jid is always prepared: two are equal when their bytes are.  It borrows its text.
 */
#ifndef IRIS_JID_H
#define IRIS_JID_H

#include "iris/arena.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define JID_PART_MAX 1023 /* bytes of each part, RFC 7622 §3 */

struct iris_jid {
	const char *base; /* "node@domain/resource"; NULL: no address */
	uint16_t node_len, domain_len, resource_len; /* 0: the part is absent */
};

#define IRIS_JID_NONE ((struct iris_jid){ NULL, 0, 0, 0 })

/* False: not an address (jid-malformed). `arena` holds the prepared text. */
IRIS_MUST_CHECK bool jid_parse(struct iris_arena *arena, struct iris_str text,
			       struct iris_jid *jid_r);
/* From unprepared parts; node and resource may be none. */
IRIS_MUST_CHECK bool jid_make(struct iris_arena *arena, struct iris_str node,
			      struct iris_str domain, struct iris_str resource,
			      struct iris_jid *jid_r);
/*
 * For names of new accounts: as nodeprep, but code points not assigned in Unicode 3.2 are refused
 * too.
 */
IRIS_MUST_CHECK bool jid_prepare_new_node(struct iris_arena *arena, struct iris_str text,
					  struct iris_str *node_r);
/* SASLprep of a password (RFC 4013); false when prohibited or over 1023 bytes. */
IRIS_MUST_CHECK bool password_prepare(struct iris_arena *arena, struct iris_str text,
				      struct iris_str *password_r);
/* The same bare address with another (prepared) resource, or none; copied into the arena. */
struct iris_jid jid_with_resource(struct iris_arena *arena, const struct iris_jid *jid,
				  struct iris_str resource);
struct iris_jid jid_copy(struct iris_arena *arena, const struct iris_jid *jid);
/* Text that is known to be prepared (it was when it was stored): only splits. */
struct iris_jid jid_from_prepared(struct iris_str text);

static inline bool
jid_is_none(const struct iris_jid *jid)
{
	return jid->base == NULL;
}

static inline struct iris_str
jid_bare(const struct iris_jid *jid) /* node@domain, or domain */
{
	return (struct iris_str){ jid->base,
				  (jid->node_len ? jid->node_len + 1u : 0u) + jid->domain_len };
}

static inline struct iris_str
jid_full(const struct iris_jid *jid) /* the whole text */
{
	return (struct iris_str){ jid->base,
		jid_bare(jid).len + (jid->resource_len ? jid->resource_len + 1u : 0u) };
}

static inline struct iris_str
jid_node(const struct iris_jid *jid)
{
	return (struct iris_str){ jid->node_len ? jid->base : NULL, jid->node_len };
}

static inline struct iris_str
jid_domain(const struct iris_jid *jid)
{
	return (struct iris_str){ jid->base + (jid->node_len ? jid->node_len + 1u : 0u),
				  jid->domain_len };
}

static inline struct iris_str
jid_resource(const struct iris_jid *jid)
{
	return (struct iris_str){ jid->resource_len ? jid->base + jid_bare(jid).len + 1 : NULL,
		jid->resource_len };
}

static inline bool
jid_is_bare(const struct iris_jid *jid)
{
	return jid->resource_len == 0;
}

static inline bool
jid_equal(const struct iris_jid *a, const struct iris_jid *b)
{
	return str_equal(jid_full(a), jid_full(b)) && a->node_len == b->node_len;
}

static inline bool
jid_bare_equal(const struct iris_jid *a, const struct iris_jid *b)
{
	return str_equal(jid_bare(a), jid_bare(b)) && a->node_len == b->node_len;
}

#pragma GCC visibility pop
#endif
