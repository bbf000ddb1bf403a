/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metrics: declared in tables, counted per thread with relaxed atomics, summed at a scrape in
 * Prometheus' text format.  Labels are fixed text in the declaration; never a JID.
 */
#ifndef IRIS_METRICS_H
#define IRIS_METRICS_H

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_metric_kind { IRIS_COUNTER, IRIS_GAUGE };

struct iris_metric {
	const char *name;   /* iris_c2s_sessions */
	const char *labels; /* "type=\"chat\"", or NULL */
	enum iris_metric_kind kind;
	const char *help;
	unsigned slot;      /* set by metrics_register(); 0 before */
	/* For a gauge that is asked at a scrape, on any thread, and not counted. Or NULL. */
	int64_t (*value)(void);
};

/* before the workers start, or on main */
void metrics_register(struct iris_metric *metrics, size_t count);
void metrics_unregister(struct iris_metric *metrics, size_t count);
/* Any thread; a gauge is moved by positive and negative amounts. A no-op before registration. */
void metric_add(const struct iris_metric *metric, int64_t amount);
int64_t metric_value(const struct iris_metric *metric);

/* The text of a scrape, malloc'ed. */
char *metrics_render(size_t *len_r);

#pragma GCC visibility pop
#endif
