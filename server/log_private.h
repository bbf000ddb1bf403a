/* SPDX-License-Identifier: Apache-2.0 */
/* Where the log goes: for boot.c and the vault.  Everybody else needs iris/log.h only. */
#ifndef IRIS_LOG_PRIVATE_H
#define IRIS_LOG_PRIVATE_H

#include "iris/log.h"

#define LOG_PSEUDONYM_SIZE 17 /* 16 hex digits and a NUL */

/* `target` is "stderr", "journal" or a path.  Before it, and after log_close(), it is stderr. */
IRIS_MUST_CHECK bool log_open(const char *target, enum iris_log_level level,
			      struct iris_error *error);
void log_reopen(void); /* a file was moved away; any thread */
void log_close(void);

/* The key of pseudonyms.  Random at start; the region's, when the vault is open. Any thread. */
void log_set_pseudonym_key(const void *key, size_t len);
/* What LOG_JID writes in place of the part before the '@'. */
void log_pseudonym(struct iris_str bare_jid, char digits_r[LOG_PSEUDONYM_SIZE]);

/* Lines per second and kind of event, 0 for no limit; twenty seconds' worth may come at once. */
void log_set_rate(unsigned lines_per_second);

#endif
