/* SPDX-License-Identifier: Apache-2.0 */
/* What regions.c does with the gate. Main thread. */
#ifndef IRIS_GATE_PRIVATE_H
#define IRIS_GATE_PRIVATE_H

#include "iris/gate.h"
#include "iris/metrics.h"
#include "region_map.h"

void gate_open(void);
void gate_close(void);
/*
 * own: our region in it; `count`: it does not have it, and everything is closed.  The map before
 * stays valid until no worker can use it: the caller waits for a turn of each.
 */
void gate_set_map(struct region_map *map, unsigned own);
void gate_set_openly(unsigned categories);
struct region_map *gate_current_map(void);
void gate_expect_map(void); /* until there is one, nothing passes */
void gate_changed(void);    /* tells who listens */

/* Of the module `regions`. */
enum gate_metric {
	GATE_METRIC_DENIED, /* the first three by verdict */
	GATE_METRIC_TRANSIT,
	GATE_METRIC_DELIVERED,
	GATE_METRIC_SERIAL,
	GATE_METRIC_MAPS_REFUSED,
	GATE_METRIC_COUNT,
};
extern struct iris_metric gate_metrics[GATE_METRIC_COUNT + 1];

#endif
