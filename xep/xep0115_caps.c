/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0115 1.6: Entity Capabilities.  The hash of a host in its stream features, and what clients
 * can do: an unknown hash is asked about, the answer is checked and remembered, bounded, per
 * worker.  It follows the sessions itself; whoever sees other presence has a struct caps_watch.
 */
#include <stdlib.h>

#include "xep/xep0030_disco.h"
#include "xep/xep0115_caps.h"

#define NS_CAPS "http://jabber.org/protocol/caps"
#define CAPS_KEY_MAX 320
#define CAPS_FRESH_MS 1000
/* SECURITY: each contact's nodes are looked at for each of them. */
#define CAPS_NOTIFY_MAX 256
#define CAPS_ASKING_MAX 4 /* questions to one session that wait for an answer */

enum { OPT_CACHE, OPT_TIMEOUT, OPT_NODE };

/*
 * What is known of one verification string. In the worker's cache, the least recently used first.
 */
struct caps {
	TAILQ_ENTRY(caps) link;
	struct iris_hash_node node;     /* by key */
	const struct caps_dialect *dialect;
	LIST_HEAD(, caps_watch) watches; /* not dropped while there are any */
	struct iris_arena *arena;       /* NULL while it is asked about */
	struct iris_hash features;
	struct iris_str *notify;        /* the nodes of features that end in "+notify" */
	size_t notify_count;
	char key[];
};

struct caps_feature {
	struct iris_hash_node node;
};

/* What somebody is asked. Outlives the watch it was asked for. */
struct caps_question {
	LIST_ENTRY(caps_question) link;
	struct caps_watch *watch; /* NULL: it has ended */
	size_t key_len;
	char key[];
};

#define DIALECTS_MAX 4

TAILQ_HEAD(caps_list, caps);
static struct iris_module_self caps_self;
static const struct caps_dialect *caps_dialects[DIALECTS_MAX];
static size_t caps_dialect_count;
static struct caps_home {
	struct iris_hash by_key;
	struct caps_list used;
	struct iris_hash hosts;         /* struct caps_host by name */
} caps_homes[WORKER_LIMIT];

/* The hash of one of our hosts, good for a moment: modules and options may change. */
struct caps_host {
	struct iris_hash_node node;
	int64_t made_ms;
	char ver[40];
};

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

/* --- what is known: §5, §7 --- */

static void
caps_free(struct caps_home *home, struct caps *caps)
{
	TAILQ_REMOVE(&home->used, caps, link);
	hash_remove(&home->by_key, &caps->node);
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
		if (home->by_key.count < (size_t)option_int(&caps_self, OPT_CACHE))
			return;
		if (LIST_EMPTY(&caps->watches))
			caps_free(home, caps);
	}
}

static struct caps *
caps_find(struct caps_home *home, struct iris_str key)
{
	struct iris_hash_node *node = hash_find(&home->by_key, key);

	return node ? IRIS_CONTAINER(node, struct caps, node) : NULL;
}

static struct caps *
caps_get(struct caps_home *home, const struct caps_dialect *dialect, struct iris_str key)
{
	struct caps *caps = caps_find(home, key);

	if (!home->used.tqh_last)
		TAILQ_INIT(&home->used);
	if (caps) {
		TAILQ_REMOVE(&home->used, caps, link);
	} else {
		caps_trim(home);
		caps = iris_calloc(1, sizeof(*caps) + key.len + 1);
		caps->dialect = dialect;
		memcpy(caps->key, key.base, key.len);
		hash_insert(&home->by_key, &caps->node, (struct iris_str){ caps->key, key.len });
	}
	TAILQ_INSERT_TAIL(&home->used, caps, link);
	return caps;
}

static void
caps_add_notify(struct caps *caps, struct iris_str var)
{
	static const struct iris_str suffix = { "+notify", 7 };

	if (var.len <= suffix.len || caps->notify_count == CAPS_NOTIFY_MAX ||
	    memcmp(var.base + var.len - suffix.len, suffix.base, suffix.len) != 0)
		return;
	caps->notify[caps->notify_count++] = (struct iris_str){ var.base, var.len - suffix.len };
}

static void
caps_remember(struct caps *caps, const struct iris_element *query)
{
	struct iris_element *child = element_child(query, "feature", NS_INFO);
	size_t count = 0;

	for (; child; child = element_next(child, "feature", NS_INFO))
		count++;
	caps->arena = arena_new();
	caps->notify = arena_alloc(caps->arena, count * sizeof(*caps->notify));
	for (child = element_child(query, "feature", NS_INFO); child;
	     child = element_next(child, "feature", NS_INFO)) {
		struct iris_str var = arena_copy_str(caps->arena, element_get(child, "var"));
		struct caps_feature *feature = ARENA_NEW(caps->arena, struct caps_feature);

		if (hash_find(&caps->features, var))
			continue;
		hash_insert(&caps->features, &feature->node, var);
		caps_add_notify(caps, var);
	}
}

/* Whoever is told may watch others or nothing now. */
static void
caps_tell(struct caps *caps)
{
	struct caps_watch *watch, *next;

	for (watch = LIST_FIRST(&caps->watches); watch; watch = next) {
		next = LIST_NEXT(watch, link);
		if (watch->known)
			watch->known(watch);
	}
}

/* --- questions --- */

static void
question_end(struct caps_question *question)
{
	if (question->watch) {
		LIST_REMOVE(question, link);
		question->watch->asking--;
	}
	free(question);
}

/* The answer to what caps_ask asked; `arg` is the question, ours to free. */
static void
caps_answered(const struct iris_stanza *reply, void *arg)
{
	struct caps_question *question = arg;
	struct caps *caps = caps_find(&caps_homes[worker_index()],
				      (struct iris_str){ question->key, question->key_len });
	struct iris_element *query = reply && reply->type == IRIS_RESULT ?
			element_child(reply->root, "query", NS_INFO) : NULL;
	struct iris_arena *arena = arena_new();

	question_end(question);
	/*
	 * SECURITY: only an answer that has this hash, or one client could speak for all others
	 * of its kind (§8).
	 */
	if (caps && !caps->arena && query && caps->dialect->fits(arena, caps->node.key, query)) {
		caps_remember(caps, query);
		caps_tell(caps);
	}
	arena_unref(&arena);
}

/*
 * SECURITY: a client that invents hashes and answers nothing must not fill the table of requests.
 */
static void
caps_ask(struct caps_watch *watch, const struct iris_stanza *presence, struct iris_str node)
{
	struct iris_str key = watch->caps->node.key;
	struct caps_question *question;
	struct iris_stanza *request;

	if (watch->asking >= CAPS_ASKING_MAX)
		return;
	question = iris_malloc(sizeof(*question) + key.len);
	question->watch = watch;
	question->key_len = key.len;
	memcpy(question->key, key.base, key.len);
	LIST_INSERT_HEAD(&watch->questions, question, link);
	watch->asking++;
	request = stanza_new(IRIS_IQ, IRIS_GET);
	element_set(element_add(request->root, "query", NS_INFO), "node", node);
	stanza_set_from(request, watch->asker);
	stanza_set_to(request, &presence->from);
	route_iq(&request, (unsigned)option_int(&caps_self, OPT_TIMEOUT), caps_answered, question);
}

/* --- who is followed --- */

static void
watch_set(struct caps_watch *watch, struct caps *caps)
{
	if (watch->caps == caps)
		return;
	if (watch->caps)
		LIST_REMOVE(watch, link);
	watch->caps = caps;
	if (caps)
		LIST_INSERT_HEAD(&caps->watches, watch, link);
}

bool
caps_follow(struct caps_watch *watch, const struct iris_stanza *presence)
{
	struct iris_arena *arena = arena_new();
	const struct caps *before = watch->caps;
	struct iris_str key = IRIS_STR_NONE, node = IRIS_STR_NONE;
	size_t i = caps_dialect_count;

	while (i > 0 && str_is_none(key))
		key = caps_dialects[--i]->told(arena, presence->root, &node);
	if (str_is_none(key) || key.len > CAPS_KEY_MAX) {
		watch_set(watch, NULL);
	} else {
		watch_set(watch, caps_get(&caps_homes[worker_index()], caps_dialects[i], key));
		if (!watch->caps->arena)
			caps_ask(watch, presence, node);
	}
	arena_unref(&arena);
	return watch->caps != before;
}

void
caps_unfollow(struct caps_watch *watch)
{
	struct caps_question *question;

	while ((question = LIST_FIRST(&watch->questions)) != NULL) {
		LIST_REMOVE(question, link);
		question->watch = NULL;
	}
	watch->asking = 0;
	watch_set(watch, NULL);
}

const void *
caps_known(const struct caps_watch *watch)
{
	return watch->caps && watch->caps->arena ? watch->caps : NULL;
}

bool
caps_has(const struct caps_watch *watch, struct iris_str feature)
{
	return watch->caps && hash_find(&watch->caps->features, feature);
}

size_t
caps_notify(const struct caps_watch *watch, const struct iris_str **nodes_r)
{
	*nodes_r = watch->caps ? watch->caps->notify : NULL;
	return watch->caps ? watch->caps->notify_count : 0;
}

void
caps_add_dialect(const struct caps_dialect *dialect)
{
	IRIS_ASSERT(caps_dialect_count < DIALECTS_MAX);
	caps_dialects[caps_dialect_count++] = dialect;
}

/* --- the clients of sessions --- */

struct caps_client {
	struct caps_watch watch;
	struct iris_session *session;
};

static void
caps_client_known(struct caps_watch *watch)
{
	hook_run_session_caps(IRIS_CONTAINER(watch, struct caps_client, watch)->session);
}

static struct caps_client *
caps_client_of(struct iris_session *session)
{
	void **slot = session_slot(session, &caps_self);
	struct caps_client *client = *slot;

	if (!client) {
		client = *slot = iris_calloc(1, sizeof(*client));
		client->session = session;
		client->watch.asker = &session->user->jid;
		client->watch.known = caps_client_known;
	}
	return client;
}

static enum iris_verdict
caps_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_session *session = request->session;
	struct caps_client *client;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_AVAILABLE || session->closing ||
	    !str_is_none(element_get(stanza->root, "to")))
		return IRIS_PASS;
	client = caps_client_of(session);
	if (caps_follow(&client->watch, stanza) && caps_known(&client->watch))
		hook_run_session_caps(session);
	return IRIS_PASS;
}

static enum iris_verdict
caps_session_close(struct iris_session *session)
{
	void **slot = session_slot(session, &caps_self);

	if (!*slot)
		return IRIS_PASS;
	caps_unfollow(&((struct caps_client *)*slot)->watch);
	free(*slot);
	*slot = NULL;
	return IRIS_PASS;
}

const struct caps_watch *
caps_of_session(struct iris_session *session)
{
	const struct caps_client *client = *session_slot(session, &caps_self);

	return client ? &client->watch : NULL;
}

/* --- XEP-0115's own way of telling --- */

static struct iris_str
caps_told(struct iris_arena *arena, const struct iris_element *presence, struct iris_str *node_r)
{
	const struct iris_element *c = element_child(presence, "c", NS_CAPS);
	struct iris_str ver = c ? element_get(c, "ver") : IRIS_STR_NONE;

	if (str_is_empty(ver) || !str_is(element_get(c, "hash"), "sha-1"))
		return IRIS_STR_NONE;
	*node_r = arena_printf(arena, "%.*s#%.*s", IRIS_STR_FMT(element_get(c, "node")),
			       IRIS_STR_FMT(ver));
	return ver;
}

static bool
caps_fits(struct iris_arena *arena, struct iris_str key, const struct iris_element *query)
{
	return str_equal(caps_hash(arena, query), key);
}

static const struct caps_dialect caps_own_dialect = { caps_told, caps_fits };

static bool
caps_start(struct iris_error *error)
{
	caps_dialect_count = 0;
	caps_add_dialect(&caps_own_dialect);
	return true;
}

static void
caps_stop(void)
{
	for (unsigned i = 0; i < WORKER_LIMIT; i++) {
		struct caps_home *home = &caps_homes[i];

		while (home->used.tqh_last && !TAILQ_EMPTY(&home->used))
			caps_free(home, TAILQ_FIRST(&home->used));
		hash_free(&home->by_key);
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
	.start = caps_start,
	.stop = caps_stop,
};
