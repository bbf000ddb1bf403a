/* SPDX-License-Identifier: Apache-2.0 */
/* The region map as a file: see region_map.h. Main thread, or irisctl. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "config_private.h"
#include "iris/arena.h"
#include "region_map.h"

#define SIGNATURE_MARK "# signature: "
#define SIGNATURE_SIZE 64

enum { MAP_NAME, MAP_SERIAL, MAP_ISSUED, MAP_SECRET };
enum { LIST_REGIONS };
enum {
	REGION_OPT_ID,
	REGION_OPT_CLASS,
	REGION_OPT_DOMAINS,
	REGION_OPT_ROOMS,
	REGION_OPT_CA,
	REGION_OPT_ENDPOINTS,
	REGION_OPT_EXTERNAL,
};
enum { LIST_RULES };
enum { RULE_FROM, RULE_TO, RULE_CATEGORIES, RULE_VERDICT };

static const char *const class_names[] = {
#define X(name, text) text,
	REGION_CLASSES(X)
#undef X
	NULL,
};

static const char *const verdict_names[] = { "deny", "transit", "deliver", NULL };

static const struct iris_option map_options[] = {
	[MAP_NAME] = { "name", IRIS_OPT_STRING, NULL, .max = 255, .help = "Whose map it is." },
	[MAP_SERIAL] = { "serial", IRIS_OPT_INT, NULL, .min = 1, .max = INT64_MAX,
			 .help = "Rises with every map; an older one is refused." },
	[MAP_ISSUED] = { "issued", IRIS_OPT_STRING, NULL, .max = 64,
			 .help = "When it was signed (XEP-0082)." },
	[MAP_SECRET] = { "secret", IRIS_OPT_STRING, NULL, .optional = true, .min = 64, .max = 64,
			 .help = "SHA-256 of the secret that federated regions share (P2.6)." },
	IRIS_OPTIONS_END,
};

static const struct iris_option region_options[] = {
	[REGION_OPT_ID] = { "id", IRIS_OPT_STRING, NULL, .min = 1, .max = REGION_ID_MAX,
			    .help = "What certificates prove: urn:iris:region:ID." },
	[REGION_OPT_CLASS] = { "class", IRIS_OPT_CHOICE, "federated", .choices = class_names,
			       .help = "isolated: no link to or from any other region." },
	[REGION_OPT_DOMAINS] = { "domains", IRIS_OPT_STRINGS, NULL, .optional = true,
				 .help = "Its domains, of accounts and of services; the first "
					 "is its server's." },
	[REGION_OPT_ROOMS] = { "rooms", IRIS_OPT_STRINGS, NULL, .optional = true,
			       .help = "Its domains of rooms." },
	[REGION_OPT_CA] = { "ca", IRIS_OPT_STRING, NULL, .min = 64, .max = 64,
			    .help = "SHA-256 of the certificate of its authority." },
	[REGION_OPT_ENDPOINTS] = { "endpoints", IRIS_OPT_STRINGS, NULL, .optional = true,
				   .help = "HOST:PORT with direct TLS; none: as DNS says." },
	[REGION_OPT_EXTERNAL] = { "external", IRIS_OPT_BOOL, "false",
				  .help = "Whether it federates with servers of no region." },
	IRIS_OPTIONS_END,
};

static const struct iris_option list_options[] = {
	[LIST_REGIONS] = { "list", IRIS_OPT_RECORDS, NULL, .fields = region_options,
			   .help = "Every region there is." },
	IRIS_OPTIONS_END,
};

static const struct iris_option rule_options[] = {
	[RULE_FROM] = { "from", IRIS_OPT_STRING, NULL, .max = REGION_ID_MAX,
			.help = "A region, external, or *." },
	[RULE_TO] = { "to", IRIS_OPT_STRING, NULL, .max = REGION_ID_MAX, .help = "The same." },
	[RULE_CATEGORIES] = { "categories", IRIS_OPT_STRINGS, NULL, .help = "What may cross." },
	[RULE_VERDICT] = { "verdict", IRIS_OPT_CHOICE, NULL, .choices = verdict_names,
			   .help = "The first rule that matches holds; none: deny." },
	IRIS_OPTIONS_END,
};

static const struct iris_option policy_options[] = {
	[LIST_RULES] = { "rules", IRIS_OPT_RECORDS, NULL, .optional = true, .fields = rule_options,
			 .help = "What may cross, between whom." },
	IRIS_OPTIONS_END,
};

const char *
region_class_name(enum region_class class)
{
	return class_names[class];
}

/* --- signatures --- */

enum region_signature
region_map_verify(struct iris_str file, EVP_PKEY *key, struct iris_str *text_r)
{
	const size_t mark_len = strlen(SIGNATURE_MARK);
	struct iris_arena *arena = arena_new();
	struct iris_str line, signature = IRIS_STR_NONE;
	enum region_signature result = REGION_UNSIGNED;
	size_t start;

	while (file.len > 0 && file.base[file.len - 1] == '\n')
		file.len--;
	for (start = file.len; start > 0 && file.base[start - 1] != '\n'; start--)
		;
	line = (struct iris_str){ file.base + start, file.len - start };
	*text_r = file;
	if (line.len > mark_len && memcmp(line.base, SIGNATURE_MARK, mark_len) == 0) {
		EVP_MD_CTX *context = EVP_MD_CTX_new();

		line.base += mark_len;
		line.len -= mark_len;
		result = REGION_FORGED;
		text_r->len = start;
		/* SECURITY: all bytes are covered, so that no part of a map can be another's. */
		if (base64_decode(arena, line, &signature) && signature.len == SIGNATURE_SIZE &&
		    context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestVerify(context, (const unsigned char *)signature.base,
				     signature.len, (const unsigned char *)text_r->base,
				     text_r->len) == 1)
			result = REGION_SIGNED;
		EVP_MD_CTX_free(context);
	}
	arena_unref(&arena);
	return result;
}

char *
region_map_sign(struct iris_str text, EVP_PKEY *key)
{
	unsigned char signature[SIGNATURE_SIZE];
	size_t size = sizeof(signature);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	struct iris_arena *arena = arena_new();
	bool newline = text.len > 0 && text.base[text.len - 1] == '\n';
	struct iris_str whole = arena_printf(arena, "%.*s%s", IRIS_STR_FMT(text),
					     newline ? "" : "\n");
	char *file = NULL;

	if (context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestSign(context, signature, &size, (const unsigned char *)whole.base,
			   whole.len) == 1) {
		struct iris_str encoded = base64_encode(
			arena, (struct iris_str){ (const char *)signature, size });

		file = str_dup(arena_printf(arena, "%.*s" SIGNATURE_MARK "%.*s\n",
					    IRIS_STR_FMT(whole), IRIS_STR_FMT(encoded)));
	}
	EVP_MD_CTX_free(context);
	arena_unref(&arena);
	return file;
}

EVP_PKEY *
region_key_load(const char *path, bool private_key, struct iris_error *error)
{
	FILE *file = fopen(path, "re");
	EVP_PKEY *key = NULL;

	if (!file) {
		error_set(error, "cannot read the key %s", path);
		return NULL;
	}
	key = private_key ? PEM_read_PrivateKey(file, NULL, NULL, NULL) :
			    PEM_read_PUBKEY(file, NULL, NULL, NULL);
	fclose(file);
	if (key && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519)
		return key;
	EVP_PKEY_free(key);
	error_set(error, "%s is not an Ed25519 key in PEM", path);
	error_hint(error, "irisctl region init makes a pair");
	return NULL;
}

/* --- what the text says --- */

static const char **
map_strings(struct region_map *map, const struct iris_settings *record, unsigned option)
{
	size_t count = settings_count(record, option);
	const char **list = arena_alloc(map->config->arena, (count + 1) * sizeof(*list));

	for (size_t i = 0; i < count; i++)
		list[i] = settings_item(record, option, i).base;
	return list;
}

static bool
id_is_legal(struct iris_str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!((id.base[i] >= 'a' && id.base[i] <= 'z') ||
		      (id.base[i] >= '0' && id.base[i] <= '9') || (i > 0 && id.base[i] == '-')))
			return false;
	return id.len > 0 && !str_is(id, REGION_EXTERNAL);
}

static bool
is_digest(const char *text)
{
	return strspn(text, "0123456789abcdef") == 64 && strlen(text) == 64;
}

/* "HOST:PORT", "[ADDRESS]:PORT" */
static bool
endpoint_parse(struct iris_str text, struct iris_gate_endpoint *endpoint_r)
{
	const char *colon = text.len ? memrchr(text.base, ':', text.len) : NULL;
	struct iris_str host = { text.base, colon ? (size_t)(colon - text.base) : 0 };
	struct iris_str port = { text.base + host.len + 1, text.len - host.len - 1 };
	int64_t number;

	if (host.len == 0 || !str_to_int(port, 1, UINT16_MAX, &number))
		return false;
	if (host.base[0] == '[') {
		if (host.len < 3 || host.base[host.len - 1] != ']')
			return false;
		host = (struct iris_str){ host.base + 1, host.len - 2 };
	} else if (memchr(host.base, ':', host.len)) {
		return false;
	}
	*endpoint_r = (struct iris_gate_endpoint){ host, (uint16_t)number };
	return true;
}

static void
region_take_endpoints(struct region_map *map, struct region *region,
		      const struct iris_settings *record, struct iris_report *report)
{
	size_t count = settings_count(record, REGION_OPT_ENDPOINTS);

	region->endpoints = arena_alloc(map->config->arena, count * sizeof(*region->endpoints));
	for (size_t i = 0; i < count; i++) {
		struct iris_str text = settings_item(record, REGION_OPT_ENDPOINTS, i);

		if (!endpoint_parse(text, &region->endpoints[i]))
			report_error(report, "region %s: \"%.*s\" is no HOST:PORT", region->id,
				     IRIS_STR_FMT(text));
	}
	region->endpoint_count = count;
}

static void
map_take_region(struct region_map *map, const struct iris_settings *record,
		struct iris_report *report)
{
	struct iris_str where = settings_where(record, REGION_OPT_ID);
	struct iris_str id = settings_str(record, REGION_OPT_ID);
	struct region *region = &map->regions[map->count];

	if (map->count == REGIONS_MAX) {
		report_error(report, "%.*s: more than %d regions", IRIS_STR_FMT(where),
			     REGIONS_MAX);
		return;
	}
	if (!id_is_legal(id))
		report_error(report, "%.*s: \"%.*s\" is no id of a region: a-z, 0-9 and -",
			     IRIS_STR_FMT(where), IRIS_STR_FMT(id));
	if (region_map_index(map, id) < map->count)
		report_error(report, "%.*s: the region %.*s is there twice", IRIS_STR_FMT(where),
			     IRIS_STR_FMT(id));
	*region = (struct region){
		.id = id.base,
		.class = (enum region_class)settings_int(record, REGION_OPT_CLASS),
		.external = settings_bool(record, REGION_OPT_EXTERNAL),
		.ca = settings_str(record, REGION_OPT_CA).base,
		.domains = map_strings(map, record, REGION_OPT_DOMAINS),
		.rooms = map_strings(map, record, REGION_OPT_ROOMS),
	};
	if (!is_digest(region->ca))
		report_error(report, "%.*s: ca: 64 hexadecimal digits, in lower case",
			     IRIS_STR_FMT(settings_where(record, REGION_OPT_CA)));
	if (region->class == REGION_ISOLATED && region->external)
		report_error(report, "%.*s: %s is isolated: it cannot be external, too",
			     IRIS_STR_FMT(where), region->id);
	region_take_endpoints(map, region, record, report);
	map->domain_count += settings_count(record, REGION_OPT_DOMAINS) +
			     settings_count(record, REGION_OPT_ROOMS);
	map->count++;
}

static void
map_take_domains(struct region_map *map, unsigned index, const char **names, bool is_rooms,
		 struct iris_report *report)
{
	struct iris_arena *arena = map->config->arena;

	for (; *names; names++) {
		struct region_domain *domain = &map->domain_block[map->domain_count];
		struct iris_jid jid;

		if (!jid_parse(arena, str_from(*names), &jid) || jid.node_len > 0 ||
		    !jid_is_bare(&jid)) {
			report_error(report, "region %s: \"%s\" is not a domain",
				     map->regions[index].id, *names);
		} else if (hash_find(&map->domains, jid_domain(&jid))) {
			report_error(report, "the domain %s is there twice", *names);
		} else {
			domain->region = index;
			domain->is_rooms = is_rooms;
			hash_insert(&map->domains, &domain->node, jid_domain(&jid));
			map->domain_count++;
		}
	}
}

static uint8_t *
map_verdict_at(const struct region_map *map, unsigned from, unsigned to,
	       enum iris_gate_category category)
{
	size_t pair = (size_t)from * (map->count + 1) + to;

	return &map->verdicts[pair * IRIS_GATE_CATEGORY_COUNT + category];
}

/* No rule can open these, and no mistake (P2.1). */
static bool
pair_is_closed(const struct region_map *map, unsigned from, unsigned to)
{
	const struct region *a = from < map->count ? &map->regions[from] : NULL;
	const struct region *b = to < map->count ? &map->regions[to] : NULL;

	if ((a && a->class == REGION_ISOLATED) || (b && b->class == REGION_ISOLATED))
		return true;
	if (!a || !b)
		return (!a && !b) || !(a ? a : b)->external;
	return false;
}

static bool
rule_names(const struct region_map *map, struct iris_str text, unsigned index)
{
	return str_is(text, "*") || str_is(text, region_map_id(map, index));
}

struct map_rule {
	const struct iris_settings *record;
	struct iris_str from, to, where;
	unsigned categories;
	enum iris_gate_verdict verdict;
};

static void
map_apply_rule(struct region_map *map, const struct map_rule *rule, uint8_t *decided,
	       struct iris_report *report)
{
	for (unsigned pair = 0; pair < (map->count + 1) * (map->count + 1); pair++) {
		unsigned from = pair / (map->count + 1), to = pair % (map->count + 1);
		bool wild = str_is(rule->from, "*") || str_is(rule->to, "*");

		if (from == to || !rule_names(map, rule->from, from) ||
		    !rule_names(map, rule->to, to))
			continue;
		if (pair_is_closed(map, from, to)) {
			if (!wild && rule->verdict != IRIS_GATE_DENY)
				report_error(report, "%.*s: nothing can cross from %s to %s",
					     IRIS_STR_FMT(rule->where), region_map_id(map, from),
					     region_map_id(map, to));
			continue;
		}
		for (unsigned i = 0; i < IRIS_GATE_UNKNOWN; i++) {
			uint8_t *seen = &decided[pair * IRIS_GATE_CATEGORY_COUNT + i];

			if ((rule->categories & (1u << i)) && !*seen) {
				*map_verdict_at(map, from, to, i) = (uint8_t)rule->verdict;
				*seen = 1;
			}
		}
	}
}

static unsigned
rule_categories(const struct iris_settings *record, struct iris_str where,
		struct iris_report *report)
{
	unsigned set = 0;

	for (size_t i = 0; i < settings_count(record, RULE_CATEGORIES); i++) {
		struct iris_str name = settings_item(record, RULE_CATEGORIES, i);
		unsigned found = 0;

		for (unsigned c = 0; c < IRIS_GATE_UNKNOWN; c++)
			if (str_is(name, "*") || str_is(name, gate_category_name(c)))
				found |= 1u << c;
		if (!found)
			report_error(report, "%.*s: there is no category \"%.*s\"",
				     IRIS_STR_FMT(where), IRIS_STR_FMT(name));
		set |= found;
	}
	return set;
}

static bool
rule_end_is_known(const struct region_map *map, struct iris_str id)
{
	return str_is(id, "*") || str_is(id, REGION_EXTERNAL) ||
	       region_map_index(map, id) < map->count;
}

static void
map_take_rules(struct region_map *map, const struct iris_settings *policy,
	       struct iris_report *report)
{
	size_t cells = (size_t)(map->count + 1) * (map->count + 1) * IRIS_GATE_CATEGORY_COUNT;
	uint8_t *decided = iris_calloc(cells, 1);

	for (size_t i = 0; i < settings_count(policy, LIST_RULES); i++) {
		const struct iris_settings *record = settings_record(policy, LIST_RULES, i);
		struct map_rule rule = {
			.record = record,
			.from = settings_str(record, RULE_FROM),
			.to = settings_str(record, RULE_TO),
			.where = settings_where(record, RULE_FROM),
			.verdict = (enum iris_gate_verdict)settings_int(record, RULE_VERDICT),
		};

		rule.categories = rule_categories(record, rule.where, report);
		if (!rule_end_is_known(map, rule.from) || !rule_end_is_known(map, rule.to))
			report_error(report, "%.*s: there is no region \"%.*s\" or \"%.*s\"",
				     IRIS_STR_FMT(rule.where), IRIS_STR_FMT(rule.from),
				     IRIS_STR_FMT(rule.to));
		else
			map_apply_rule(map, &rule, decided, report);
	}
	free(decided);
}

static void
map_digest(struct region_map *map, struct iris_str text)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_Digest(text.base, text.len, digest, &len, EVP_sha256(), NULL);
	for (unsigned i = 0; i < len; i++)
		snprintf(map->digest + 2 * i, 3, "%02x", digest[i]);
}

static void
map_take(struct region_map *map, struct iris_report *report)
{
	const struct iris_settings *head = settings_make(map->config, "map", map_options, report);
	const struct iris_settings *list =
		settings_make(map->config, "regions", list_options, report);
	const struct iris_settings *policy =
		settings_make(map->config, "policy", policy_options, report);
	size_t cells;

	if (report->error_count > 0)
		return; /* what follows would read values that are not there */
	map->name = settings_str(head, MAP_NAME).base;
	map->serial = settings_int(head, MAP_SERIAL);
	if (!datetime_parse(settings_str(head, MAP_ISSUED), &map->issued_ms))
		report_error(report, "%.*s: not a time of XEP-0082",
			     IRIS_STR_FMT(settings_where(head, MAP_ISSUED)));
	map->secret = settings_str(head, MAP_SECRET).base;
	if (map->secret && !is_digest(map->secret))
		report_error(report, "%.*s: secret: 64 hexadecimal digits, in lower case",
			     IRIS_STR_FMT(settings_where(head, MAP_SECRET)));
	for (size_t i = 0; i < settings_count(list, LIST_REGIONS); i++)
		map_take_region(map, settings_record(list, LIST_REGIONS, i), report);
	map->domain_block = iris_calloc(map->domain_count + 1, sizeof(*map->domain_block));
	map->domain_count = 0;
	for (unsigned i = 0; i < map->count; i++) {
		map_take_domains(map, i, map->regions[i].domains, false, report);
		map_take_domains(map, i, map->regions[i].rooms, true, report);
	}
	cells = (size_t)(map->count + 1) * (map->count + 1) * IRIS_GATE_CATEGORY_COUNT;
	map->verdicts = iris_calloc(cells, 1);
	map->counts = iris_calloc(cells * IRIS_GATE_VERDICT_COUNT, sizeof(*map->counts));
	map->told = iris_calloc(cells, sizeof(*map->told));
	map->own = map->count;
	map_take_rules(map, policy, report);
}

struct region_map *
region_map_parse(const char *name, struct iris_str text, struct iris_report *report)
{
	struct region_map *map = iris_calloc(1, sizeof(*map));
	size_t errors = report->error_count;

	map->config = config_parse(name, text, report);
	map_digest(map, text);
	if (map->config)
		map_take(map, report);
	if (report->error_count > errors)
		region_map_free(&map);
	return map;
}

void
region_map_free(struct region_map **map_p)
{
	struct region_map *map = *map_p;

	*map_p = NULL;
	if (!map)
		return;
	HASH_FOREACH(node, &map->domains)
		hash_remove(&map->domains, node);
	hash_free(&map->domains);
	free(map->domain_block);
	free(map->verdicts);
	free(map->counts);
	free(map->told);
	config_free(&map->config);
	free(map);
}

static char *
map_read_file(const char *path, size_t *len_r, struct iris_error *error)
{
	FILE *file = fopen(path, "re");
	char *text = iris_malloc(REGION_MAP_MAX + 1);
	size_t len = file ? fread(text, 1, REGION_MAP_MAX + 1, file) : 0;

	if (file && !ferror(file) && len > 0 && len <= REGION_MAP_MAX) {
		fclose(file);
		*len_r = len;
		return text;
	}
	error_set(error, "cannot read the region map %s", path);
	error_detail(error, "%s", len > REGION_MAP_MAX ? "it is too large" : "empty, or no file");
	if (file)
		fclose(file);
	free(text);
	return NULL;
}

struct region_map *
region_map_load(const char *path, EVP_PKEY *key, struct iris_error *error)
{
	struct iris_report report = { .error_count = 0 };
	struct region_map *map = NULL;
	struct iris_str text;
	size_t len;
	char *file = map_read_file(path, &len, error);

	if (!file)
		return NULL;
	switch (region_map_verify((struct iris_str){ file, len }, key, &text)) {
	case REGION_UNSIGNED:
		error_set(error, "the region map %s is not signed", path);
		error_hint(error, "irisctl region sign --map %s", path);
		break;
	case REGION_FORGED:
		error_set(error, "the signature of the region map %s is not of our key", path);
		error_hint(error, "do not use it before you know who changed it");
		break;
	case REGION_SIGNED:
		map = region_map_parse(path, text, &report);
		if (!map)
			report_to_error(&report, error);
		break;
	}
	report_clear(&report);
	free(file);
	return map;
}

/* --- looking things up --- */

unsigned
region_map_find(const struct region_map *map, struct iris_str domain, bool *is_rooms_r)
{
	struct iris_hash_node *node = hash_find(&map->domains, domain);
	const struct region_domain *found =
		node ? IRIS_CONTAINER(node, struct region_domain, node) : NULL;

	if (is_rooms_r)
		*is_rooms_r = found && found->is_rooms;
	return found ? found->region : map->count;
}

unsigned
region_map_index(const struct region_map *map, struct iris_str id)
{
	unsigned i = 0;

	while (i < map->count && !str_is(id, map->regions[i].id))
		i++;
	return i;
}

const char *
region_map_id(const struct region_map *map, unsigned index)
{
	return index < map->count ? map->regions[index].id : REGION_EXTERNAL;
}

enum iris_gate_verdict
region_map_verdict(const struct region_map *map, unsigned from, unsigned to,
		   enum iris_gate_category category)
{
	return (enum iris_gate_verdict)*map_verdict_at(map, from, to, category);
}

/* --- differences --- */

static void
diff_regions(struct iris_strbuf *out, const struct region_map *before,
	     const struct region_map *after)
{
	for (unsigned i = 0; i < before->count; i++)
		if (region_map_index(after, str_from(before->regions[i].id)) == after->count)
			strbuf_printf(out, "region %s goes\n", before->regions[i].id);
	for (unsigned i = 0; i < after->count; i++) {
		const struct region *region = &after->regions[i], *was;
		unsigned old = region_map_index(before, str_from(region->id));

		if (old == before->count) {
			strbuf_printf(out, "region %s comes (%s)\n", region->id,
				      region_class_name(region->class));
			continue;
		}
		was = &before->regions[old];
		if (was->class != region->class)
			strbuf_printf(out, "region %s becomes %s (was %s)\n", region->id,
				      region_class_name(region->class),
				      region_class_name(was->class));
		if (strcmp(was->ca, region->ca) != 0)
			strbuf_printf(out, "region %s gets another authority\n", region->id);
		if (was->external != region->external)
			strbuf_printf(out, "region %s may %sfederate with servers of no region\n",
				      region->id, region->external ? "" : "no longer ");
	}
}

static void
diff_domains(struct iris_strbuf *out, const struct region_map *before,
	     const struct region_map *after)
{
	for (size_t i = 0; i < before->domain_count; i++) {
		struct iris_str name = before->domain_block[i].node.key;

		if (region_map_find(after, name, NULL) == after->count)
			strbuf_printf(out, "domain %.*s goes\n", IRIS_STR_FMT(name));
	}
	for (size_t i = 0; i < after->domain_count; i++) {
		struct iris_str name = after->domain_block[i].node.key;
		const char *to = region_map_id(after, after->domain_block[i].region);
		unsigned old = region_map_find(before, name, NULL);

		if (old == before->count)
			strbuf_printf(out, "domain %.*s comes to %s\n", IRIS_STR_FMT(name), to);
		else if (strcmp(region_map_id(before, old), to) != 0)
			strbuf_printf(out, "domain %.*s moves from %s to %s\n",
				      IRIS_STR_FMT(name), region_map_id(before, old), to);
	}
}

static enum iris_gate_verdict
verdict_of(const struct region_map *map, const char *from, const char *to,
	   enum iris_gate_category category)
{
	unsigned a = region_map_index(map, str_from(from)), b = region_map_index(map, str_from(to));

	if ((a == map->count && strcmp(from, REGION_EXTERNAL) != 0) ||
	    (b == map->count && strcmp(to, REGION_EXTERNAL) != 0))
		return IRIS_GATE_DENY; /* it was not there */
	return region_map_verdict(map, a, b, category);
}

static void
diff_verdicts(struct iris_strbuf *out, const struct region_map *before,
	      const struct region_map *after)
{
	for (unsigned from = 0; from <= after->count; from++)
		for (unsigned to = 0; to <= after->count; to++)
			for (unsigned c = 0; c < IRIS_GATE_UNKNOWN; c++) {
				const char *a = region_map_id(after, from);
				const char *b = region_map_id(after, to);
				enum iris_gate_verdict now = verdict_of(after, a, b, c),
						       was = verdict_of(before, a, b, c);

				if (now != was)
					strbuf_printf(out, "%s → %s, %s: %s (was %s)\n", a, b,
						      gate_category_name(c),
						      gate_verdict_name(now),
						      gate_verdict_name(was));
			}
}

void
region_map_diff(struct iris_strbuf *out, const struct region_map *before,
		const struct region_map *after)
{
	if (after->serial <= before->serial)
		strbuf_printf(out, "serial %lld is not above %lld: it would be refused\n",
			      (long long)after->serial, (long long)before->serial);
	if (!str_equal(str_from(before->secret), str_from(after->secret)))
		strbuf_printf(out, "federated regions %s\n",
			      after->secret ? "get another secret" : "share no secret any more");
	diff_regions(out, before, after);
	diff_domains(out, before, after);
	diff_verdicts(out, before, after);
}
