/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of services: any worker reads, the main thread makes a new one and swaps it.  A service
 * lasts as long as the process serves; one whose host went is only no longer found.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "im_private.h"
#include "iris/service.h"

struct service {
	struct iris_service public;
	struct service *next;
	char domain[];
};

/* Immutable once published. */
struct services {
	struct iris_hash names;
	struct services *older; /* kept until stop: readers have no lock */
	size_t count;
	struct services_entry {
		struct iris_hash_node node;
		struct service *service;
	} entries[];
};

static struct services *_Atomic services_current;
static struct service *services_known; /* main thread; the newest first */
static struct service *services_listed; /* the newest that is in the table */

static struct service *
services_lookup(struct iris_str domain)
{
	struct services *services = atomic_load_explicit(&services_current, memory_order_acquire);
	struct iris_hash_node *node = services ? hash_find(&services->names, domain) : NULL;

	return node ? IRIS_CONTAINER(node, struct services_entry, node)->service : NULL;
}

struct iris_service *
service_find(struct iris_str domain)
{
	struct service *service = services_lookup(domain);

	return service && host_find(service->public.host->name) == service->public.host ?
		       &service->public :
		       NULL;
}

void
service_each(const struct iris_host *host, void (*fn)(struct iris_service *service, void *arg),
	     void *arg)
{
	struct services *services = atomic_load_explicit(&services_current, memory_order_acquire);

	for (size_t i = 0; services && i < services->count; i++) {
		struct iris_service *service = &services->entries[i].service->public;

		if ((!host || service->host == host) &&
		    host_find(service->host->name) == service->host)
			fn(service, arg);
	}
}

/* Once for all that were added: tables are kept, and those of many hosts are large. */
static void
services_publish(void)
{
	struct services *before = atomic_load(&services_current), *after;
	size_t count = 0;

	if (services_listed == services_known)
		return;
	services_listed = services_known;
	for (struct service *service = services_known; service; service = service->next)
		count++;
	after = iris_calloc(1, sizeof(*after) + count * sizeof(after->entries[0]));
	for (struct service *service = services_known; service; service = service->next) {
		struct services_entry *entry = &after->entries[after->count++];

		entry->service = service;
		hash_insert(&after->names, &entry->node, jid_domain(&service->public.jid));
	}
	after->older = before;
	atomic_store_explicit(&services_current, after, memory_order_release);
}

static struct service *
service_new(struct iris_str domain)
{
	struct service *service = iris_calloc(1, sizeof(*service) + domain.len + 1);

	memcpy(service->domain, domain.base, domain.len);
	service->public.jid =
		jid_from_prepared((struct iris_str){ service->domain, domain.len });
	service->next = services_known;
	services_known = service;
	return service;
}

/* One that is there, or a new one, which nobody finds before the next services_publish(). */
static struct service *
service_make(const struct iris_service_kind *kind, struct iris_host *host, struct iris_str label,
	     void *arg, struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct iris_str text = arena_printf(arena, "%.*s.%.*s", IRIS_STR_FMT(label),
					    IRIS_STR_FMT(host->name));
	struct service *service = NULL;
	struct iris_jid jid;

	if (!jid_parse(arena, text, &jid) || jid.node_len > 0 || !jid_is_bare(&jid)) {
		error_set(error, "\"%.*s\" is not a domain", IRIS_STR_FMT(text));
	} else if ((service = services_lookup(jid_domain(&jid))) != NULL) {
		if (service->public.kind != kind) {
			error_set(error, "the domain %.*s is served by the module %s",
				  IRIS_STR_FMT(text), service->public.kind->module->name);
			service = NULL;
		}
	} else if (host_find(jid_domain(&jid))) {
		error_set(error, "the domain %.*s is a host of its own", IRIS_STR_FMT(text));
	} else {
		service = service_new(jid_domain(&jid));
		service->public.kind = kind;
		service->public.host = host;
		service->public.arg = arg;
	}
	arena_unref(&arena);
	return service;
}

struct iris_service *
service_open(const struct iris_service_kind *kind, struct iris_host *host, struct iris_str label,
	     void *arg, struct iris_error *error)
{
	struct service *service = service_make(kind, host, label, arg, error);

	services_publish();
	return service ? &service->public : NULL;
}

struct opening {
	const struct iris_service_kind *kind;
	struct iris_str label;
	void *arg;
	struct iris_error *error; /* of the first that failed */
	bool failed;
};

static void
open_for(struct iris_host *host, void *arg)
{
	struct opening *opening = arg;
	struct iris_error ignored;

	if (!host->is_component &&
	    !service_make(opening->kind, host, opening->label, opening->arg,
			  opening->failed ? &ignored : opening->error))
		opening->failed = true;
}

bool
service_open_all(const struct iris_service_kind *kind, struct iris_str label, void *arg,
		 struct iris_error *error)
{
	struct opening opening = { kind, label, arg, error, false };

	host_each(open_for, &opening);
	services_publish();
	if (opening.failed)
		error_hint(error, "give it another one: %s: {label: …}", kind->module->name);
	return !opening.failed;
}

bool
service_check_label(struct iris_str label, struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid jid;
	bool good = jid_parse(arena, arena_printf(arena, "%.*s.example", IRIS_STR_FMT(label)),
			      &jid) &&
		    jid.node_len == 0 && jid_is_bare(&jid);

	arena_unref(&arena);
	if (good)
		return true;
	error_set(error, "\"%.*s\" cannot be what a domain begins with", IRIS_STR_FMT(label));
	return error_hint(error, "as in: label: upload");
}

void
services_stop(void)
{
	struct services *services = atomic_exchange(&services_current, NULL);
	struct service *service;

	while (services) {
		struct services *older = services->older;

		for (size_t i = 0; i < services->count; i++)
			hash_remove(&services->names, &services->entries[i].node);
		hash_free(&services->names);
		free(services);
		services = older;
	}
	while ((service = services_known) != NULL) {
		services_known = service->next;
		free(service);
	}
	services_listed = NULL;
}
