/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The private part of the region map: 32 random bytes that the federated regions share, as base64
 * in a file beside the map, which has their SHA-256.  Main thread, or irisctl.
 */
#ifndef IRIS_REGION_SECRET_H
#define IRIS_REGION_SECRET_H

#include "iris/region.h"
#include "region_map.h"

struct region_secret {
	unsigned char bytes[REGION_SECRET_SIZE];
	char digest[65]; /* SHA-256, as the map names it */
};

void region_secret_make(struct region_secret *secret_r);
/* malloc'ed, one line; the caller wipes it. */
char *region_secret_text(const struct region_secret *secret);
IRIS_MUST_CHECK bool region_secret_load(const char *path, struct region_secret *secret_r,
					struct iris_error *error);
/*
 * Is this file (none: there is none) what a server of this region may have under this map? In force
 * from then on if `use` is set.
 */
IRIS_MUST_CHECK bool region_secret_fits(const struct region_map *map, unsigned own,
					struct iris_str path, bool use, struct iris_error *error);
void region_secret_forget(void);
void region_secret_changed(void); /* tells who listens */

#endif
