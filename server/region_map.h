/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region map (P2.1–P2.4): one signed file that names every region and what may cross between
 * which.  Read, checked, compiled; immutable afterwards.  Also in irisctl.
 *
 * The file is YAML; its last line is a comment that carries an Ed25519 signature (RFC 8032) over
 * all bytes before that line:  `# signature: BASE64`.
 */
#ifndef IRIS_REGION_MAP_H
#define IRIS_REGION_MAP_H

#include <stdatomic.h>

#include <openssl/evp.h>

#include "iris/gate.h"
#include "iris/hash.h"

#define REGION_MAP_MAX (1u << 20) /* bytes of the file */
#define REGIONS_MAX 64
#define REGION_ID_MAX IRIS_REGION_ID_MAX
#define REGION_EXTERNAL "external"

/* X(NAME, text) */
#define REGION_CLASSES(X)                                                    \
	X(FEDERATED, "federated")                                            \
	X(ISOLATED, "isolated") /* no link from or to any other region */    \
	X(EDGE, "edge")         /* relays, and keeps nothing */

enum region_class {
#define X(name, text) REGION_##name,
	REGION_CLASSES(X)
#undef X
	REGION_CLASS_COUNT
};

struct region {
	const char *id;
	enum region_class class;
	bool external;         /* may it federate with servers of no region? */
	const char *ca;        /* SHA-256 of its authority's certificate, 64 hexadecimal digits */
	const char **domains, **rooms; /* NULL-terminated */
	struct iris_gate_endpoint *endpoints;
	size_t endpoint_count;
};

struct region_told { /* of refusals in one category between two regions */
	_Atomic int64_t until_ms; /* no other line before; monotonic */
	atomic_uint untold;       /* since the last line */
};

struct region_domain { /* by name */
	struct iris_hash_node node;
	unsigned region;
	bool is_rooms;
};

struct region_map {
	struct iris_config *config; /* owns all text */
	struct iris_hash domains;
	struct region_domain *domain_block;
	size_t domain_count;
	const char *name, *secret; /* of what federated regions share: SHA-256; or NULL */
	int64_t serial, issued_ms;
	unsigned count;        /* of regions; index `count` is everybody outside */
	unsigned own;          /* ours; `count`: it has none of ours, and everything is closed */
	atomic_bool complained; /* of a domain of ours that is not in it */
	struct region regions[REGIONS_MAX];
	/* verdicts, then counts: (count + 1)² pairs × categories (× verdicts) */
	uint8_t *verdicts;
	_Atomic int64_t *counts;
	struct region_told *told; /* pairs × categories */
	char digest[65];       /* of the file: SHA-256 */
};

enum region_signature { REGION_SIGNED, REGION_UNSIGNED, REGION_FORGED };

/* The text without its signature, if it has one, and whether that is of this key. */
enum region_signature region_map_verify(struct iris_str file, EVP_PKEY *key,
					struct iris_str *text_r);
/* Everything but the signature; false: the report says what is wrong, file and line. */
struct iris_report;
struct region_map *region_map_parse(const char *name, struct iris_str text,
				    struct iris_report *report);
void region_map_free(struct region_map **map_p);
/* Reads, verifies, parses. */
struct region_map *region_map_load(const char *path, EVP_PKEY *key, struct iris_error *error);
EVP_PKEY *region_key_load(const char *path, bool private_key, struct iris_error *error);
/* The text with a signature behind it, malloc'ed and NUL-terminated; NULL: OpenSSL refused. */
char *region_map_sign(struct iris_str text, EVP_PKEY *key);

/* The region of a domain of the map; `count` when it is in none. is_rooms_r may be NULL. */
unsigned region_map_find(const struct region_map *map, struct iris_str domain, bool *is_rooms_r);
unsigned region_map_index(const struct region_map *map, struct iris_str id); /* or `count` */
const char *region_map_id(const struct region_map *map, unsigned index);
enum iris_gate_verdict region_map_verdict(const struct region_map *map, unsigned from, unsigned to,
					  enum iris_gate_category category);
const char *region_class_name(enum region_class class);
/* Text for people: what a new map changes, one line each. */
struct iris_strbuf;
void region_map_diff(struct iris_strbuf *out, const struct region_map *before,
		     const struct region_map *after);

#endif
