/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured logs: one event per line, JSON on stderr (or a file), or journald.  Any thread.
 * Never a password, never content (P10.1); a JID is written as its pseudonym by LOG_JID.
 *
 *   LOG(IRIS_LOG_NOTICE, "stream", "closed", LOG_STR("reason", reason), LOG_INT("bytes", n));
 */
#ifndef IRIS_LOG_H
#define IRIS_LOG_H

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

enum iris_log_level {
	IRIS_LOG_ERROR,   /* something is lost or broken: somebody must act */
	IRIS_LOG_WARNING, /* somebody should look at it */
	IRIS_LOG_NOTICE,  /* start, stop, reload, administrative acts */
	IRIS_LOG_INFO,    /* sign-ins, refusals: the request log */
	IRIS_LOG_DEBUG,
};

enum iris_log_type { IRIS_LOG_TEXT, IRIS_LOG_NUMBER, IRIS_LOG_ADDRESS };

struct iris_log_field {
	const char *name;
	enum iris_log_type type;
	struct iris_str text;
	int64_t number;
};

#define LOG_STR(n, v) ((struct iris_log_field){ (n), IRIS_LOG_TEXT, (v), 0 })
#define LOG_CSTR(n, v) ((struct iris_log_field){ (n), IRIS_LOG_TEXT, str_from(v), 0 })
#define LOG_INT(n, v) ((struct iris_log_field){ (n), IRIS_LOG_NUMBER, IRIS_STR_NONE, (int64_t)(v) })
#define LOG_JID(n, v) ((struct iris_log_field){ (n), IRIS_LOG_ADDRESS, (v), 0 })

#define LOG(level, area, event, ...)                                                   \
	do {                                                                           \
		if (log_is_enabled(level)) {                                           \
			const struct iris_log_field log_fields_[] = { __VA_ARGS__ };   \
			log_write((level), (area), (event), log_fields_,               \
				  IRIS_COUNT(log_fields_));                            \
		}                                                                      \
	} while (0)

bool log_is_enabled(enum iris_log_level level);
void log_write(enum iris_log_level level, const char *area, const char *event,
	       const struct iris_log_field *fields, size_t count);
/* An operator's error, once, by whoever owns the context. */
void log_error(enum iris_log_level level, const char *area, const char *event,
	       const struct iris_error *error);

void log_set_level(enum iris_log_level level); /* any thread */
enum iris_log_level log_level(void);
IRIS_MUST_CHECK bool log_level_from(struct iris_str name, enum iris_log_level *level_r);
const char *log_level_name(enum iris_log_level level);

#pragma GCC visibility pop
#endif
