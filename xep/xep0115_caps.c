/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0115 1.6: Entity Capabilities.  The hash of a host in its stream features, and what the
 * clients of sessions can do: an unknown hash is asked about once, checked, and remembered,
 * bounded, per worker.
 *
 * It does not do: the capabilities of remote contacts.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "xep/xep0004_forms.h"
#include "xep/xep0030_disco.h"
#include "xep/xep0115_caps.h"

#define NS_CAPS "http://jabber.org/protocol/caps"
#define CAPS_VER_MAX 256
#define CAPS_FRESH_MS 1000
#define CAPS_ASKING_MAX 4 /* questions to one session that wait for an answer */

enum { OPT_CACHE, OPT_TIMEOUT, OPT_NODE };

/*
 * What is known of one verification string. In the worker's cache, the least recently used first.
 */
struct caps {
	TAILQ_ENTRY(caps) link;
	struct iris_hash_node node;     /* by ver */
	unsigned sessions;              /* that point here: not dropped while there are any */
	struct iris_arena *arena;       /* NULL while it is asked about */
	struct iris_hash features;
	char ver[];
};

struct caps_feature {
	struct iris_hash_node node;
};

/* Of a session that has told a hash. */
struct caps_client {
	struct caps *caps; /* NULL: its last presence had none */
	unsigned asking;
};

/* What a session is asked; the text of `full` lies behind that of `ver`. */
struct caps_question {
	struct iris_str ver, full;
	char text[];
};

TAILQ_HEAD(caps_list, caps);
static struct iris_module_self caps_self;
static struct caps_home {
	struct iris_hash by_ver;
	struct caps_list used;
	struct iris_hash hosts;         /* struct caps_host by name */
} caps_homes[WORKER_LIMIT];

/* The hash of one of our hosts, good for a moment: modules and options may change. */
struct caps_host {
	struct iris_hash_node node;
	int64_t made_ms;
	char ver[40];
};

/* --- §5.1: the verification string --- */

static int
caps_compare(const void *a, const void *b)
{
	const struct iris_str *x = a, *y = b;
	size_t len = x->len < y->len ? x->len : y->len;
	int order = len ? memcmp(x->base, y->base, len) : 0;

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* A list of strings in the arena, to be sorted and written with '<' behind each. */
struct caps_strings {
	struct iris_arena *arena;
	struct iris_str *items;
	size_t count, cap;
	bool twice; /* the same item came again: §5.4 3.2 and 3.3 */
};

static void
caps_strings_add(struct caps_strings *strings, struct iris_str item)
{
	if (strings->count == strings->cap) {
		struct iris_str *larger;

		strings->cap = strings->cap ? strings->cap * 2 : 16;
		larger = arena_alloc(strings->arena, strings->cap * sizeof(*larger));
		if (strings->count)
			memcpy(larger, strings->items, strings->count * sizeof(*larger));
		strings->items = larger;
	}
	strings->items[strings->count++] = item;
}

static void
caps_strings_write(struct caps_strings *strings, struct iris_strbuf *text, bool with_separator)
{
	if (strings->count > 1)
		qsort(strings->items, strings->count, sizeof(*strings->items), caps_compare);
	for (size_t i = 0; i < strings->count; i++) {
		if (i > 0 && str_equal(strings->items[i], strings->items[i - 1]))
			strings->twice = true;
		strbuf_add(text, strings->items[i]);
		if (with_separator)
			strbuf_add_char(text, '<');
	}
}

static bool
caps_write_identities(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *child = element_child(query, "identity", NS_INFO);

	for (; child; child = element_next(child, "identity", NS_INFO))
		caps_strings_add(&strings,
				 arena_printf(text->arena, "%.*s/%.*s/%.*s/%.*s",
					      IRIS_STR_FMT(element_get(child, "category")),
					      IRIS_STR_FMT(element_get(child, "type")),
					      IRIS_STR_FMT(element_lang(child)),
					      IRIS_STR_FMT(element_get(child, "name"))));
	caps_strings_write(&strings, text, true);
	return !strings.twice;
}

static bool
caps_write_features(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *child = element_child(query, "feature", NS_INFO);

	for (; child; child = element_next(child, "feature", NS_INFO))
		caps_strings_add(&strings, element_get(child, "var"));
	caps_strings_write(&strings, text, true);
	return !strings.twice;
}

static struct iris_str
caps_field_text(struct iris_arena *arena, const struct iris_element *field)
{
	struct caps_strings values = { .arena = arena };
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_element *value = element_child(field, "value", NULL);

	strbuf_add(&text, element_get(field, "var"));
	strbuf_add_char(&text, '<');
	for (; value; value = element_next(value, "value", NULL))
		caps_strings_add(&values, element_get_text(value));
	caps_strings_write(&values, &text, true);
	return strbuf_str(&text);
}

/*
 * §5.1 7: FORM_TYPE's value first, then the fields by var. None: a form without a hidden
 * FORM_TYPE, not counted.
 */
static struct iris_str
caps_form_text(struct iris_arena *arena, const struct iris_element *form)
{
	struct caps_strings fields = { .arena = arena };
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_str form_type = IRIS_STR_NONE;
	struct iris_element *field = element_child(form, "field", NULL);

	for (; field; field = element_next(field, "field", NULL)) {
		if (!str_is(element_get(field, "var"), "FORM_TYPE"))
			caps_strings_add(&fields, caps_field_text(arena, field));
		else if (str_is(element_get(field, "type"), "hidden"))
			form_type = element_child_text(field, "value", NULL);
	}
	if (str_is_none(form_type))
		return IRIS_STR_NONE;
	strbuf_add(&text, form_type);
	strbuf_add_char(&text, '<');
	caps_strings_write(&fields, &text, false);
	return strbuf_str(&text);
}

static void
caps_write_forms(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *form = element_child(query, "x", NS_DATA);

	for (; form; form = element_next(form, "x", NS_DATA)) {
		struct iris_str form_text = caps_form_text(text->arena, form);

		if (!str_is_none(form_text))
			caps_strings_add(&strings, form_text);
	}
	caps_strings_write(&strings, text, false);
}

struct iris_str
caps_hash(struct iris_arena *arena, const struct iris_element *query)
{
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_strbuf *written = &text;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	bool well_formed = caps_write_identities(written, query);

	well_formed = caps_write_features(written, query) && well_formed;
	caps_write_forms(written, query);
	if (!well_formed ||
	    EVP_Digest(text.len ? text.base : "", text.len, digest, &length, EVP_sha1(), NULL) != 1)
		return IRIS_STR_NONE;
	return base64_encode(arena, (struct iris_str){ (const char *)digest, length });
}

/* --- our hosts: §6 --- */

static struct caps_host *
caps_host_of(struct iris_host *host)
{
	struct caps_home *home = &caps_homes[worker_index()];
	struct iris_hash_node *node = hash_find(&home->hosts, host->name);
	struct caps_host *caps = node ? IRIS_CONTAINER(node, struct caps_host, node) : NULL;
	size_t size = sizeof(*caps) + host->name.len;

	if (caps)
		return caps;
	caps = iris_calloc(1, size);
	memcpy(caps + 1, host->name.base, host->name.len);
	caps->made_ms = INT64_MIN / 2;
	hash_insert(&home->hosts, &caps->node,
		    (struct iris_str){ (char *)(caps + 1), host->name.len });
	return caps;
}

static void
caps_host_refresh(struct caps_host *caps, struct iris_host *host)
{
	struct iris_arena *arena = arena_new();
	struct iris_str ver = caps_hash(arena, disco_host_info(arena, host));

	IRIS_ASSERT(str_copy_to(caps->ver, sizeof(caps->ver), ver));
	caps->made_ms = worker_now_ms();
	arena_unref(&arena);
}

static enum iris_verdict
caps_stream_features(struct iris_stream_features *arg)
{
	struct caps_host *caps = caps_host_of(stream_host(arg->stream));
	struct iris_element *c;

	if (worker_now_ms() - caps->made_ms > CAPS_FRESH_MS)
		caps_host_refresh(caps, stream_host(arg->stream));
	c = element_add(arg->features, "c", NS_CAPS);
	element_set(c, "hash", IRIS_STR("sha-1"));
	element_set(c, "node", option_str(&caps_self, OPT_NODE));
	element_set(c, "ver", str_from(caps->ver));
	return IRIS_PASS;
}

/* A client that wants to check the hash asks about "node#ver" (§6.2). */
static enum iris_verdict
caps_disco_info(struct iris_discovery *discovery)
{
	struct iris_request *request = discovery->request;
	struct iris_element *info;
	struct iris_str own;

	if (discovery->of != IRIS_DISCO_HOST || str_is_none(discovery->node))
		return IRIS_PASS;
	info = disco_host_info(request->arena, request->host);
	own = arena_printf(request->arena, "%.*s#%.*s",
			   IRIS_STR_FMT(option_str(&caps_self, OPT_NODE)),
			   IRIS_STR_FMT(caps_hash(request->arena, info)));
	if (!str_equal(own, discovery->node))
		return IRIS_PASS;
	discovery->known_node = true;
	element_set(info, "node", discovery->node);
	discovery->query = info;
	return IRIS_PASS;
}

/* --- the clients: §5, §7 --- */

static void
caps_free(struct caps_home *home, struct caps *caps)
{
	TAILQ_REMOVE(&home->used, caps, link);
	hash_remove(&home->by_ver, &caps->node);
	HASH_FOREACH(node, &caps->features)
		hash_remove(&caps->features, node);
	hash_free(&caps->features);
	arena_unref(&caps->arena);
	free(caps);
}

/* SECURITY: hashes nobody uses are forgotten, so that inventing new ones does not grow memory. */
static void
caps_trim(struct caps_home *home)
{
	struct caps *caps, *next;

	for (caps = TAILQ_FIRST(&home->used); caps; caps = next) {
		next = TAILQ_NEXT(caps, link);
		if (home->by_ver.count < (size_t)option_int(&caps_self, OPT_CACHE))
			return;
		if (caps->sessions == 0)
			caps_free(home, caps);
	}
}

static struct caps *
caps_get(struct caps_home *home, struct iris_str ver)
{
	struct iris_hash_node *node = hash_find(&home->by_ver, ver);
	struct caps *caps = node ? IRIS_CONTAINER(node, struct caps, node) : NULL;

	if (!home->used.tqh_last)
		TAILQ_INIT(&home->used);
	if (caps) {
		TAILQ_REMOVE(&home->used, caps, link);
	} else {
		caps_trim(home);
		caps = iris_calloc(1, sizeof(*caps) + ver.len + 1);
		memcpy(caps->ver, ver.base, ver.len);
		hash_insert(&home->by_ver, &caps->node, (struct iris_str){ caps->ver, ver.len });
	}
	TAILQ_INSERT_TAIL(&home->used, caps, link);
	return caps;
}

static void
caps_remember(struct caps *caps, const struct iris_element *query)
{
	struct iris_element *child;

	caps->arena = arena_new();
	for (child = element_child(query, "feature", NS_INFO); child;
	     child = element_next(child, "feature", NS_INFO)) {
		struct iris_str var = arena_copy_str(caps->arena, element_get(child, "var"));
		struct caps_feature *feature = ARENA_NEW(caps->arena, struct caps_feature);

		if (!hash_find(&caps->features, var))
			hash_insert(&caps->features, &feature->node, var);
	}
}

/* The session that was asked may have gone, and another one may have its address. */
static void
caps_question_done(const struct caps_question *question)
{
	struct iris_session *session = session_find(question->full);
	struct caps_client *client = session ? *session_slot(session, &caps_self) : NULL;

	if (client && client->asking > 0)
		client->asking--;
}

/* The answer to what caps_ask asked; `arg` is the question, ours to free. */
static void
caps_answered(const struct iris_stanza *reply, void *arg)
{
	struct caps_question *question = arg;
	struct iris_hash_node *node = hash_find(&caps_homes[worker_index()].by_ver, question->ver);
	struct caps *caps = node ? IRIS_CONTAINER(node, struct caps, node) : NULL;
	struct iris_element *query = reply && reply->type == IRIS_RESULT ?
			element_child(reply->root, "query", NS_INFO) : NULL;
	struct iris_arena *arena = arena_new();

	caps_question_done(question);
	/*
	 * SECURITY: only an answer that has this hash, or one client could speak for all others
	 * of its kind (§8).
	 */
	if (caps && !caps->arena && query && str_equal(caps_hash(arena, query), caps->node.key))
		caps_remember(caps, query);
	arena_unref(&arena);
	free(question);
}

static struct caps_question *
caps_question_new(const struct iris_session *session, struct iris_str ver)
{
	struct iris_str full = jid_full(&session->jid);
	struct caps_question *question = iris_malloc(sizeof(*question) + ver.len + full.len);

	memcpy(question->text, ver.base, ver.len);
	memcpy(question->text + ver.len, full.base, full.len);
	question->ver = (struct iris_str){ question->text, ver.len };
	question->full = (struct iris_str){ question->text + ver.len, full.len };
	return question;
}

static void
caps_ask(struct iris_session *session, struct iris_str node, struct iris_str ver)
{
	struct iris_stanza *request = stanza_new(IRIS_IQ, IRIS_GET);
	struct iris_element *query = element_add(request->root, "query", NS_INFO);

	element_set(
		query, "node",
		arena_printf(request->arena, "%.*s#%.*s", IRIS_STR_FMT(node), IRIS_STR_FMT(ver)));
	stanza_set_from(request, &session->user->jid);
	stanza_set_to(request, &session->jid);
	route_iq(&request, (unsigned)option_int(&caps_self, OPT_TIMEOUT), caps_answered,
		 caps_question_new(session, ver));
}

static struct caps_client *
caps_client_of(struct iris_session *session)
{
	void **slot = session_slot(session, &caps_self);

	if (!*slot)
		*slot = iris_calloc(1, sizeof(struct caps_client));
	return *slot;
}

static void
caps_set(struct caps_client *client, struct caps *caps)
{
	if (caps)
		caps->sessions++;
	if (client->caps)
		client->caps->sessions--;
	client->caps = caps;
}

/* What its presence tells; none: it tells nothing that we understand. */
static struct iris_str
caps_told(const struct iris_element *c)
{
	struct iris_str ver = c ? element_get(c, "ver") : IRIS_STR_NONE;

	return str_is_empty(ver) || ver.len > CAPS_VER_MAX ||
			       !str_is(element_get(c, "hash"), "sha-1") ?
		       IRIS_STR_NONE :
		       ver;
}

static enum iris_verdict
caps_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct caps_client *client;
	struct iris_element *c;
	struct iris_str ver;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_AVAILABLE ||
	    request->session->closing || !str_is_none(element_get(stanza->root, "to")))
		return IRIS_PASS;
	c = element_child(stanza->root, "c", NS_CAPS);
	ver = caps_told(c);
	client = caps_client_of(request->session);
	caps_set(client, str_is_none(ver) ? NULL :
					    caps_get(&caps_homes[worker_index()], ver));
	/*
	 * SECURITY: a client that invents hashes and answers nothing must not fill the table of
	 * requests.
	 */
	if (!client->caps || client->caps->arena || client->asking >= CAPS_ASKING_MAX)
		return IRIS_PASS;
	client->asking++;
	caps_ask(request->session, element_get(c, "node"), ver);
	return IRIS_PASS;
}

static enum iris_verdict
caps_session_close(struct iris_session *session)
{
	void **slot = session_slot(session, &caps_self);

	if (!*slot)
		return IRIS_PASS;
	caps_set(*slot, NULL);
	free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

bool
caps_session_has(struct iris_session *session, struct iris_str feature)
{
	const struct caps_client *client = *session_slot(session, &caps_self);

	return client && client->caps && hash_find(&client->caps->features, feature);
}

static void
caps_stop(void)
{
	for (unsigned i = 0; i < WORKER_LIMIT; i++) {
		struct caps_home *home = &caps_homes[i];

		while (home->used.tqh_last && !TAILQ_EMPTY(&home->used))
			caps_free(home, TAILQ_FIRST(&home->used));
		hash_free(&home->by_ver);
		HASH_FOREACH(node, &home->hosts) {
			hash_remove(&home->hosts, node);
			free(IRIS_CONTAINER(node, struct caps_host, node));
		}
		hash_free(&home->hosts);
	}
}

static const struct iris_feature caps_features[] = { { IRIS_DISCO_HOST, NS_CAPS },
						     { .var = NULL } };

static const struct iris_hook_handler caps_hooks[] = {
	HOOK(stream_features, IRIS_LATE, caps_stream_features),
	HOOK(disco_info, IRIS_NEUTRAL, caps_disco_info),
	HOOK(stanza_out, IRIS_LATE, caps_stanza_out),
	HOOK(session_close, IRIS_LATE, caps_session_close),
	HOOKS_END,
};

static const struct iris_option caps_options[] = {
	[OPT_CACHE] = { "cache", IRIS_OPT_INT, "10000", .min = 100, .max = 1000000,
			.reloadable = true,
			.help = "How many verification strings each worker remembers." },
	[OPT_TIMEOUT] = { "timeout", IRIS_OPT_DURATION, "30 seconds", .min = 1000, .max = 300000,
			  .reloadable = true, .help = "How long a client's answer is waited for." },
	[OPT_NODE] = { "node", IRIS_OPT_STRING, "urn:xmpp:server", .min = 1, .max = 255,
		       .reloadable = true,
		       .help = "The node in the server's own capabilities; it names no product "
			       "(P1.4)." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0115 = {
	IRIS_MODULE_HEAD,
	.name = "xep0115",
	.summary = "Entity Capabilities",
	.xep = "XEP-0115 1.6.0",
	.needs = IRIS_NAMES("xep0004", "xep0030"),
	.self = &caps_self,
	.options = caps_options,
	.features = caps_features,
	.hooks = caps_hooks,
	.not_unloadable = true,
	.stop = caps_stop,
};
