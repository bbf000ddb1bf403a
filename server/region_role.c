/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Isolated and edge regions (P2.1, P2.7).  An isolated one has no way out: no listener for servers,
 * no resolver, nothing that connects to other servers is loaded.  An edge keeps nothing: only what
 * says that it needs neither accounts nor a vault is.  Does not read the map: regions.c does.
 */
#include "iris/module.h"
#include "listener.h"
#include "region_role.h"

static _Atomic int region_role = REGION_FEDERATED;

void
region_role_set(enum region_class class)
{
	atomic_store(&region_role, (int)class);
}

bool
region_is_isolated(void)
{
	return atomic_load_explicit(&region_role, memory_order_relaxed) == REGION_ISOLATED;
}

bool
region_is_edge(void)
{
	return atomic_load_explicit(&region_role, memory_order_relaxed) == REGION_EDGE;
}

const char *
region_role_refuses(const struct iris_module *module)
{
	if (region_is_isolated() && module->outward)
		return "the region map has this region isolated, and it is for other servers – "
		       "take it out";
	if (region_is_edge() && !module->at_edge)
		return "the region map has this region as an edge, which keeps nothing and signs "
		       "nobody in – take it out";
	return NULL;
}

void
region_role_follow(enum region_class class)
{
	enum region_class before = (enum region_class)atomic_load(&region_role);
	struct iris_error error = { .message = "" };

	if (class == before)
		return;
	error_set(&error, "the region map makes this region %s; it was started as %s",
		  region_class_name(class), region_class_name(before));
	if (class == REGION_ISOLATED) {
		region_role_set(class);
		listen_stop_role("s2s");
		error_detail(&error, "nobody is dialled or let in any more");
	}
	error_hint(&error, "restart irisd, so that what it loads and listens for is of that class");
	log_error(IRIS_LOG_WARNING, "regions", "class-changed", &error);
}
