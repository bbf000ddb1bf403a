/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the region map makes of this server (P2.1, P2.7), decided before anything is chosen, so that
 * what must not be there never is.
 */
#ifndef IRIS_REGION_ROLE_H
#define IRIS_REGION_ROLE_H

#include "region_map.h"

struct iris_module;

/* Main thread, before modules are chosen; see also regions_decide_role(). */
void region_role_set(enum region_class class);
/* May this module run in such a region? NULL: it may; else why not, for operators. */
const char *region_role_refuses(const struct iris_module *module);
/*
 * A map in force makes another class of us.  What closes takes effect at once, the rest with a
 * restart, which the log asks for.  Fiber of the main thread.
 */
void region_role_follow(enum region_class class);

/* Reads the section `regions` and its map, as far as they are right (regions.c). */
struct iris_config;
void regions_decide_role(struct iris_config *config);

#endif
