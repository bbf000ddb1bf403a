/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0390 0.3: Entity Capabilities 2.0.  A dialect of the cache in xep0115: hashes of clients are
 * understood (SHA-256, SHA-512), and the host tells its own in the stream features.
 *
 * It does not do: other hash functions; a client that only tells those is as one that tells
 * nothing.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "xep/xep0004_forms.h"
#include "xep/xep0030_disco.h"
#include "xep/xep0115_caps.h"

#define NS_CAPS2 "urn:xmpp:caps"
#define NS_HASHES "urn:xmpp:hashes:2"
#define HASH_TEXT_MAX 128
#define FRESH_MS 1000

enum { SEPARATOR_PART = 0x1f, SEPARATOR_ITEM = 0x1e, SEPARATOR_FORM = 0x1d, SEPARATOR_END = 0x1c };

static struct iris_module_self caps2_self;

/* The hashes of our hosts, good for a moment: modules and options may change. */
struct host_hash {
	struct iris_hash_node node; /* by the host's name */
	int64_t made_ms;
	char hash[64];
};
static struct iris_hash host_hashes[WORKER_LIMIT];

/* Best first. */
static const struct {
	const char *name;
	const EVP_MD *(*md)(void);
} algorithms[] = { { "sha-512", EVP_sha512 }, { "sha-256", EVP_sha256 } };

/* --- §4.1: the input of the hash function --- */

struct strings {
	struct iris_str *items;
	size_t count, cap;
};

static void
strings_add(struct iris_arena *arena, struct strings *strings, struct iris_str item)
{
	if (strings->count == strings->cap) {
		struct iris_str *larger;

		strings->cap = strings->cap ? strings->cap * 2 : 16;
		larger = arena_alloc(arena, strings->cap * sizeof(*larger));
		if (strings->count)
			memcpy(larger, strings->items, strings->count * sizeof(*larger));
		strings->items = larger;
	}
	strings->items[strings->count++] = item;
}

/* i;octet */
static int
strings_compare(const void *a, const void *b)
{
	const struct iris_str *x = a, *y = b;
	size_t len = x->len < y->len ? x->len : y->len;
	int order = len ? memcmp(x->base, y->base, len) : 0;

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void
strings_write(struct strings *strings, struct iris_strbuf *out, char end)
{
	if (strings->count > 1)
		qsort(strings->items, strings->count, sizeof(*strings->items), strings_compare);
	for (size_t i = 0; i < strings->count; i++)
		strbuf_add(out, strings->items[i]);
	strbuf_add_char(out, end);
}

static struct iris_str
identity_text(struct iris_arena *arena, const struct iris_element *identity)
{
	return arena_printf(arena, "%.*s\x1f%.*s\x1f%.*s\x1f%.*s\x1f\x1e",
			    IRIS_STR_FMT(element_get(identity, "category")),
			    IRIS_STR_FMT(element_get(identity, "type")),
			    IRIS_STR_FMT(element_lang(identity)),
			    IRIS_STR_FMT(element_get(identity, "name")));
}

static struct iris_str
field_text(struct iris_arena *arena, const struct iris_element *field)
{
	struct strings values = { .count = 0 };
	struct iris_strbuf out = STRBUF_INIT(arena);
	struct iris_element *value = element_child(field, "value", NS_DATA);

	strbuf_add(&out, element_get(field, "var"));
	strbuf_add_char(&out, SEPARATOR_PART);
	for (; value; value = element_next(value, "value", NS_DATA))
		strings_add(arena, &values,
			    arena_printf(arena, "%.*s\x1f", IRIS_STR_FMT(element_get_text(value))));
	strings_write(&values, &out, SEPARATOR_ITEM);
	return strbuf_str(&out);
}

static struct iris_str
form_text(struct iris_arena *arena, const struct iris_element *form)
{
	struct strings fields = { .count = 0 };
	struct iris_strbuf out = STRBUF_INIT(arena);
	struct iris_element *field = element_child(form, "field", NS_DATA);

	for (; field; field = element_next(field, "field", NS_DATA))
		strings_add(arena, &fields, field_text(arena, field));
	strings_write(&fields, &out, SEPARATOR_FORM);
	return strbuf_str(&out);
}

/* §4.1: other elements are an error, and so is a separator in the text: it could be moved. */
static bool
is_well_formed(const struct iris_element *query)
{
	ELEMENT_FOREACH(child, query)
		if (!element_is(child, "feature", NS_INFO) &&
		    !element_is(child, "identity", NS_INFO) && !element_is(child, "x", NS_DATA))
			return false;
	return true;
}

static struct iris_str
hash_input(struct iris_arena *arena, const struct iris_element *query)
{
	struct strings features = { .count = 0 }, identities = features, forms = features;
	struct iris_strbuf out = STRBUF_INIT(arena);

	ELEMENT_FOREACH(child, query) {
		if (element_is(child, "feature", NS_INFO))
			strings_add(arena, &features,
				    arena_printf(arena, "%.*s\x1f",
						 IRIS_STR_FMT(element_get(child, "var"))));
		else if (element_is(child, "identity", NS_INFO))
			strings_add(arena, &identities, identity_text(arena, child));
		else
			strings_add(arena, &forms, form_text(arena, child));
	}
	strings_write(&features, &out, SEPARATOR_END);
	strings_write(&identities, &out, SEPARATOR_END);
	strings_write(&forms, &out, SEPARATOR_END);
	return strbuf_str(&out);
}

static struct iris_str
hash_of(struct iris_arena *arena, const struct iris_element *query, const EVP_MD *md)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	struct iris_str input;

	if (!is_well_formed(query))
		return IRIS_STR_NONE;
	input = hash_input(arena, query);
	if (EVP_Digest(input.base, input.len, digest, &length, md, NULL) != 1)
		return IRIS_STR_NONE;
	return base64_encode(arena, (struct iris_str){ (const char *)digest, length });
}

/* --- the dialect: the node of a hash (§4.2) is its key --- */

static struct iris_str
hash_node(struct iris_arena *arena, const char *algorithm, struct iris_str hash)
{
	return arena_printf(arena, NS_CAPS2 "#%s.%.*s", algorithm, IRIS_STR_FMT(hash));
}

static struct iris_str
told_with(struct iris_arena *arena, const struct iris_element *c, const char *algorithm)
{
	struct iris_element *hash = element_child(c, "hash", NS_HASHES);

	for (; hash; hash = element_next(hash, "hash", NS_HASHES)) {
		struct iris_str text = element_get_text(hash);

		if (str_is(element_get(hash, "algo"), algorithm) && !str_is_empty(text) &&
		    text.len <= HASH_TEXT_MAX)
			return hash_node(arena, algorithm, text);
	}
	return IRIS_STR_NONE;
}

static struct iris_str
caps2_told(struct iris_arena *arena, const struct iris_element *presence, struct iris_str *node_r)
{
	const struct iris_element *c = element_child(presence, "c", NS_CAPS2);

	*node_r = IRIS_STR_NONE;
	for (size_t i = 0; c && i < IRIS_COUNT(algorithms) && str_is_none(*node_r); i++)
		*node_r = told_with(arena, c, algorithms[i].name);
	return *node_r;
}

static bool
caps2_fits(struct iris_arena *arena, struct iris_str key, const struct iris_element *query)
{
	for (size_t i = 0; i < IRIS_COUNT(algorithms); i++) {
		struct iris_str hash = hash_of(arena, query, algorithms[i].md());

		if (!str_is_none(hash) &&
		    str_equal(hash_node(arena, algorithms[i].name, hash), key))
			return true;
	}
	return false;
}

static const struct caps_dialect caps2_dialect = { caps2_told, caps2_fits };

/* --- our hosts --- */

static struct host_hash *
host_hash_of(struct iris_host *host)
{
	struct iris_hash *hashes = &host_hashes[worker_index()];
	struct iris_hash_node *node = hash_find(hashes, host->name);
	struct host_hash *found = node ? IRIS_CONTAINER(node, struct host_hash, node) : NULL;

	if (found)
		return found;
	found = iris_calloc(1, sizeof(*found) + host->name.len);
	memcpy(found + 1, host->name.base, host->name.len);
	found->made_ms = INT64_MIN / 2;
	hash_insert(hashes, &found->node,
		    (struct iris_str){ (char *)(found + 1), host->name.len });
	return found;
}

static const char *
host_hash(struct iris_host *host)
{
	struct host_hash *found = host_hash_of(host);
	struct iris_arena *arena;

	if (worker_now_ms() - found->made_ms > FRESH_MS) {
		arena = arena_new();
		IRIS_ASSERT(str_copy_to(found->hash, sizeof(found->hash),
					hash_of(arena, disco_host_info(arena, host),
						EVP_sha256())));
		found->made_ms = worker_now_ms();
		arena_unref(&arena);
	}
	return found->hash;
}

static enum iris_verdict
caps2_stream_features(struct iris_stream_features *arg)
{
	struct iris_element *c = element_add(arg->features, "c", NS_CAPS2);

	element_set(element_add_text(c, "hash", NS_HASHES,
				     str_from(host_hash(stream_host(arg->stream)))),
		    "algo", IRIS_STR("sha-256"));
	return IRIS_PASS;
}

/* §4.3: who wants to check the hash asks for its node. */
static enum iris_verdict
caps2_disco_info(struct iris_discovery *discovery)
{
	struct iris_request *request = discovery->request;
	struct iris_element *info;

	if (discovery->of != IRIS_DISCO_HOST || str_is_none(discovery->node) ||
	    !str_equal(discovery->node, hash_node(request->arena, "sha-256",
						  str_from(host_hash(request->host)))))
		return IRIS_PASS;
	info = disco_host_info(request->arena, request->host);
	discovery->known_node = true;
	element_set(info, "node", discovery->node);
	discovery->query = info;
	return IRIS_PASS;
}

static bool
caps2_start(struct iris_error *error)
{
	caps_add_dialect(&caps2_dialect);
	return true;
}

static void
caps2_stop(void)
{
	for (unsigned i = 0; i < WORKER_LIMIT; i++) {
		HASH_FOREACH(node, &host_hashes[i]) {
			hash_remove(&host_hashes[i], node);
			free(IRIS_CONTAINER(node, struct host_hash, node));
		}
		hash_free(&host_hashes[i]);
	}
}

static const struct iris_feature caps2_features[] = {
	{ IRIS_DISCO_HOST, NS_CAPS2 },
	{ .var = NULL },
};

static const struct iris_hook_handler caps2_hooks[] = {
	HOOK(stream_features, IRIS_LATE, caps2_stream_features),
	HOOK(disco_info, IRIS_NEUTRAL, caps2_disco_info),
	HOOKS_END,
};

const struct iris_module iris_module_xep0390 = {
	IRIS_MODULE_HEAD,
	.name = "xep0390",
	.summary = "Entity Capabilities 2.0",
	.xep = "XEP-0390 0.3.2",
	.needs = IRIS_NAMES("xep0004", "xep0030", "xep0115"),
	.self = &caps2_self,
	.features = caps2_features,
	.hooks = caps2_hooks,
	.not_unloadable = true,
	.start = caps2_start,
	.stop = caps2_stop,
};
