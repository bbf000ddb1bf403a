/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0357 0.4.1: the services of an account: see xep0357_services.h.  It publishes as XEP-0060
 * §7.1 says, and drops a service that will not take it (§8).
 */
#include <stdlib.h>

#include "xep/payloads.h"
#include "xep/xep0357_services.h"

#define PUBLISH_TIMEOUT_MS 30000

struct iris_query push_query_load = {
	.name = "push.load", .table = "push_services", .key = "account service",
	.sql = "SELECT account, service, jid, node, options, failures, address "
	       "FROM push_services WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "account", IRIS_INT }, { "service", IRIS_INT }, { "jid", IRIS_SEALED },
		     { "node", IRIS_SEALED }, { "options", IRIS_SEALED },
		     { "failures", IRIS_INT }, { "address", IRIS_INT } },
};

/* Which of these addresses have services (no hash is negative)? */
struct iris_query push_query_who = {
	.name = "push.who", .table = "push_services",
	.sql = "SELECT DISTINCT address FROM push_services WHERE address IN "
	       "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
	.params = { { "a1", IRIS_INT }, { "a2", IRIS_INT }, { "a3", IRIS_INT },
		    { "a4", IRIS_INT }, { "a5", IRIS_INT }, { "a6", IRIS_INT },
		    { "a7", IRIS_INT }, { "a8", IRIS_INT }, { "a9", IRIS_INT },
		    { "a10", IRIS_INT }, { "a11", IRIS_INT }, { "a12", IRIS_INT },
		    { "a13", IRIS_INT }, { "a14", IRIS_INT }, { "a15", IRIS_INT },
		    { "a16", IRIS_INT } },
	.columns = { { "address", IRIS_INT } },
};

struct iris_query push_query_address = {
	.name = "push.address", .table = "push_services", .write = true,
	.sql = "UPDATE push_services SET address = $2 WHERE account = $1",
	.params = { { "account", IRIS_INT }, { "address", IRIS_INT } },
};

struct iris_query push_query_store = {
	.name = "push.store", .table = "push_services", .key = "account service", .write = true,
	.sql = "INSERT INTO push_services (account, service, jid, node, options, failures, "
	       "address) VALUES ($1, $2, $3, $4, $5, 0, $6) "
	       "ON CONFLICT (account, service) DO UPDATE SET "
	       "jid = excluded.jid, node = excluded.node, options = excluded.options, "
	       "failures = 0, address = excluded.address",
	.params = { { "account", IRIS_INT }, { "service", IRIS_INT }, { "jid", IRIS_SEALED },
		    { "node", IRIS_SEALED }, { "options", IRIS_SEALED },
		    { "address", IRIS_INT } },
};

struct iris_query push_query_failed = {
	.name = "push.failed", .table = "push_services", .write = true,
	.sql = "UPDATE push_services SET failures = $3 WHERE account = $1 AND service = $2",
	.params = { { "account", IRIS_INT }, { "service", IRIS_INT }, { "failures", IRIS_INT } },
};

struct iris_query push_query_drop = {
	.name = "push.drop", .table = "push_services", .write = true,
	.sql = "DELETE FROM push_services WHERE account = $1 AND service = $2",
	.params = { { "account", IRIS_INT }, { "service", IRIS_INT } },
};

struct iris_query push_query_erase = {
	.name = "push.erase", .table = "push_services", .write = true,
	.sql = "DELETE FROM push_services WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

/* --- the list --- */

void
push_services_init(struct push_services *services)
{
	TAILQ_INIT(&services->list);
	services->count = 0;
}

static struct push_service *
service_node(const struct push_services *services, int64_t key)
{
	struct push_service *service;

	TAILQ_FOREACH(service, &services->list, link)
		if (service->key == key)
			return service;
	return NULL;
}

static void
service_remove(struct push_services *services, struct push_service *service)
{
	TAILQ_REMOVE(&services->list, service, link);
	services->count--;
	free(service);
}

static struct iris_str
text_keep(char **text, struct iris_str s)
{
	struct iris_str kept = { s.base ? *text : NULL, s.len };

	if (s.len > 0)
		memcpy(*text, s.base, s.len);
	*text += s.len;
	return kept;
}

/* In the place of one with the same key. */
static void
service_add(struct push_services *services, int64_t key, struct iris_str jid, struct iris_str node,
	    struct iris_str options)
{
	struct push_service *older = service_node(services, key);
	struct push_service *service =
		iris_calloc(1, sizeof(*service) + jid.len + node.len + options.len + 1);
	char *text = (char *)(service + 1);

	if (older)
		service_remove(services, older);
	service->key = key;
	service->jid = jid_from_prepared(text_keep(&text, jid));
	service->node = text_keep(&text, node);
	service->options = text_keep(&text, options);
	TAILQ_INSERT_TAIL(&services->list, service, link);
	services->count++;
}

void
push_services_free(struct push_services *services)
{
	struct push_service *service;

	while ((service = TAILQ_FIRST(&services->list)) != NULL)
		service_remove(services, service);
}

bool
push_services_take(struct push_services *services, const struct iris_rows *rows)
{
	bool findable = true;

	for (size_t i = 0; i < rows->count; i++) {
		int64_t key = row_value(rows, i, 1)->number;

		service_add(services, key, row_value(rows, i, 2)->bytes,
			    row_value(rows, i, 3)->bytes, row_value(rows, i, 4)->bytes);
		service_node(services, key)->failures = (unsigned)row_value(rows, i, 5)->number;
		findable = findable && row_value(rows, i, 6)->number != 0;
	}
	return findable;
}

/* --- enabling and disabling: §5, §6 --- */

static int64_t
service_key(const struct iris_jid *jid, struct iris_str node)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	int64_t key;

	strbuf_add(&text, jid_full(jid));
	strbuf_add_char(&text, '\0');
	strbuf_add(&text, node);
	key = vault_peer_id(strbuf_str(&text));
	arena_unref(&arena);
	return key;
}

enum iris_condition
push_services_enable(struct push_services *services, struct iris_user *user,
		     const struct iris_jid *jid, struct iris_str node, struct iris_str options)
{
	int64_t key = service_key(jid, node);

	/* SECURITY: each of them makes work of every message. */
	if (!service_node(services, key) &&
	    services->count >= (unsigned)option_int(&push_self, PUSH_OPT_SERVICES_MAX))
		return IRIS_RESOURCE_CONSTRAINT;
	if (vault_write(&push_query_store, user->account.owner,
			VALUES(value_int(user->account.id), value_int(key),
			       value_str(jid_full(jid)), value_str(node), value_str(options),
			       value_int(vault_peer_id(jid_bare(&user->jid)))),
			NULL) != IRIS_VAULT_OK)
		return IRIS_RESOURCE_CONSTRAINT;
	push_audience_enabled(jid_bare(&user->jid));
	service_add(services, key, jid_full(jid), node, options);
	return IRIS_NO_ERROR;
}

static bool
service_is(const struct push_service *service, const struct iris_jid *jid, struct iris_str node)
{
	return jid_equal(&service->jid, jid) &&
	       (str_is_none(node) || str_equal(service->node, node));
}

bool
push_services_disable(struct push_services *services, struct iris_user *user,
		      const struct iris_jid *jid, struct iris_str node)
{
	struct iris_batch *batch = NULL;
	struct push_service *service, *next;

	TAILQ_FOREACH(service, &services->list, link) {
		if (!service_is(service, jid, node))
			continue;
		if (!batch)
			batch = batch_new(user->account.owner);
		batch_add(batch, &push_query_drop,
				  VALUES(value_int(user->account.id), value_int(service->key)));
	}
	if (batch && batch_post(&batch, NULL) != IRIS_VAULT_OK)
		return false;
	for (service = TAILQ_FIRST(&services->list); service; service = next) {
		next = TAILQ_NEXT(service, link);
		if (service_is(service, jid, node))
			service_remove(services, service);
	}
	return true;
}

/* --- publishing: §7 --- */

/* One publication under way. The user may be unloaded meanwhile. */
struct push_publication {
	int64_t account, service;
	iris_owner owner;
	size_t len;
	char bare[];
};

/* §8: will it never take it, or just not now? */
static bool
error_is_for_now(const struct iris_stanza *reply)
{
	static const enum iris_condition for_now[] = {
		IRIS_REMOTE_SERVER_NOT_FOUND, IRIS_REMOTE_SERVER_TIMEOUT, IRIS_RESOURCE_CONSTRAINT,
		IRIS_SERVICE_UNAVAILABLE, IRIS_INTERNAL_SERVER_ERROR, IRIS_RECIPIENT_UNAVAILABLE,
		IRIS_UNDEFINED_CONDITION,
	};
	struct iris_element *error;

	if (!reply)
		return true;
	error = element_child(reply->root, "error", NULL);
	for (size_t i = 0; error && i < IRIS_COUNT(for_now); i++) {
		if (element_child(error, condition_name(for_now[i]), NS_STANZAS))
			return true;
	}
	return error && str_is(element_get(error, "type"), "wait");
}

/* What is not stored now is stored with the next answer. service NULL: it goes. */
static void
publication_store(const struct push_publication *publication, const struct push_service *service)
{
	const struct iris_query *query = service ? &push_query_failed : &push_query_drop;
	struct iris_value values[] = { value_int(publication->account),
				       value_int(publication->service),
				       value_int(service ? (int64_t)service->failures : 0) };

	if (vault_post(query, publication->owner, values, NULL) != IRIS_VAULT_OK)
		metric_add(&push_metrics[PUSH_UNSTORED], 1);
}

static void
publication_drop(const struct push_publication *publication, struct push_services *services,
		 struct push_service *service)
{
	LOG(IRIS_LOG_INFO, "push", "disabled",
	    LOG_JID("account", ((struct iris_str){ publication->bare, publication->len })),
	    LOG_INT("failures", service ? service->failures : 1));
	metric_add(&push_metrics[PUSH_DROPPED], 1);
	if (service)
		service_remove(services, service);
	publication_store(publication, NULL);
}

/* service NULL: the user is not in memory any more, or has disabled it meanwhile. */
static void
publication_failed(const struct push_publication *publication, struct push_services *services,
		   struct push_service *service, bool for_now)
{
	unsigned max = (unsigned)option_int(&push_self, PUSH_OPT_FAILURES_MAX);

	if (service)
		service->failures++;
	if (!for_now || (service && service->failures >= max))
		publication_drop(publication, services, service);
	else if (service)
		publication_store(publication, service);
}

static void
publication_answered(const struct iris_stanza *reply, void *arg)
{
	struct push_publication *publication = arg;
	struct iris_user *user =
		user_find((struct iris_str){ publication->bare, publication->len });
	struct push_services *services = user ? push_services_of(user) : NULL;
	struct push_service *service =
		services ? service_node(services, publication->service) : NULL;
	bool taken = reply && reply->type == IRIS_RESULT;

	metric_add(&push_metrics[taken ? PUSH_PUBLISHED : PUSH_FAILED], 1);
	if (!taken) {
		publication_failed(publication, services, service, error_is_for_now(reply));
	} else if (service && service->failures > 0) {
		service->failures = 0;
		publication_store(publication, service);
	}
	free(publication);
}

static struct iris_stanza *
publication_write(const struct push_service *service, const struct iris_user *user,
		  const struct iris_element *summary)
{
	struct iris_stanza *iq = stanza_new(IRIS_IQ, IRIS_SET);
	struct iris_jid host = jid_from_prepared(jid_domain(&user->jid));
	struct iris_element *pubsub = element_add(iq->root, "pubsub", NS_PUBSUB);
	struct iris_element *publish, *options;

	stanza_set_from(iq, &host);
	stanza_set_to(iq, &service->jid);
	publish = element_add(pubsub, "publish", NULL);
	if (!str_is_empty(service->node))
		element_set(publish, "node", service->node);
	element_append(element_add(element_add(publish, "item", NULL), "notification", NS_PUSH),
		       element_copy(iq->arena, summary));
	options = str_is_none(service->options) ? NULL :
						  element_parse(iq->arena, service->options);
	if (options)
		element_append(element_add(pubsub, "publish-options", NULL), options);
	return iq;
}

static void
service_publish(const struct push_service *service, struct iris_user *user,
		const struct iris_element *summary)
{
	struct iris_str bare = jid_bare(&user->jid);
	struct push_publication *publication = iris_malloc(sizeof(*publication) + bare.len);
	struct iris_stanza *iq = publication_write(service, user, summary);

	*publication = (struct push_publication){ .account = user->account.id,
						  .service = service->key,
						  .owner = user->account.owner,
						  .len = bare.len };
	memcpy(publication->bare, bare.base, bare.len);
	route_iq(&iq, PUBLISH_TIMEOUT_MS, publication_answered, publication);
}

/* A service may answer, and go, before the next one's turn. */
void
push_services_publish(struct push_services *services, struct iris_user *user,
		      const struct iris_element *summary)
{
	struct push_service *service, *next;

	for (service = TAILQ_FIRST(&services->list); service; service = next) {
		next = TAILQ_NEXT(service, link);
		service_publish(service, user, summary);
	}
}
