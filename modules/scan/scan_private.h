/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of iris-scan share.  One thread. */
#ifndef IRIS_SCAN_PRIVATE_H
#define IRIS_SCAN_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "modules/scan/scan.h"

struct scan_limits {
	const char *signatures, *temporary;
	unsigned jobs;
	uint64_t file_max, total_max, memory, time_ms;
};

/* --- libclamav (engine.c) --- */

/* False: text says why. */
bool engine_load(const struct scan_limits *limits, unsigned *signatures_r, char *text, size_t size);
/* Of one file; text: the signature's name, or why it is unscannable. */
enum scan_verdict engine_scan(int fd, uint64_t size, char *text, size_t text_size);

/* --- what we may (confine.c) --- */

/* Before the signatures are loaded. False: text says why. */
bool confine_keeper(const struct scan_limits *limits, char *text, size_t size);
/* When they are: what is needed no more is given up. text: what is in force, or why it is not. */
bool confine_loaded(const struct scan_limits *limits, char *text, size_t size);
/* In a job, just after the fork; false: it must not begin. */
bool confine_job(const struct scan_limits *limits, uint64_t file_size);

#endif
