/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of modules/archive share. Home worker of the account, unless it says otherwise. */
#ifndef IRIS_ARCHIVE_PRIVATE_H
#define IRIS_ARCHIVE_PRIVATE_H

#include "modules/archive/archive.h"

/* --- preferences (preferences.c) --- */

struct archive_prefs {
	enum archive_default fallback;
	struct iris_hash rules; /* by address; empty for nearly everybody */
};

extern struct iris_query archive_prefs_load_query, archive_prefs_store_query,
	archive_prefs_erase_query;

bool archive_prefs_take(struct iris_user *user, const struct iris_rows *rows);
void archive_prefs_free(struct archive_prefs *prefs);
/* Is what is exchanged with this address kept? XEP-0441 §2.3. */
bool archive_prefs_allow(const struct iris_user *user, const struct archive_prefs *prefs,
			 const struct iris_jid *peer);

/* --- what is sent once more (resend.c) --- */

#define RESEND_MAX 128 /* messages that are remembered for an account */

struct resend_seen {
	uint64_t key; /* hash of direction, peer and origin-id */
	int64_t id, time_ms;
};

/* The latest ones, oldest first in the ring. */
struct resend_window {
	struct resend_seen *seen;
	unsigned count, cap, next;
};

/* The id of the entry that has the message already; 0: it is new. */
int64_t resend_find(const struct resend_window *window, const struct iris_stanza *stanza,
		    bool sent);
void resend_remember(struct resend_window *window, const struct iris_stanza *stanza, bool sent,
		     int64_t id);
void resend_forget(struct resend_window *window, int64_t id);
void resend_free(struct resend_window *window);
/* What the end of the log has since then (fiber; waits). One that cannot be read has nothing. */
void resend_recall(struct iris_user *user, struct resend_window *window, int64_t since_ms);
/*
 * On a fiber of its own: the ticket is held until entry `id` is known to be committed, and fails
 * when it is not, so that nobody takes the repetition for kept.
 */
void resend_confirm(struct iris_user *user, int64_t id, struct iris_ticket *ticket);

/* --- the module's state of a loaded user (archive.c) --- */

struct archive_user {
	struct archive_prefs prefs;
	struct resend_window window;
};

struct archive_user *archive_of(struct iris_user *user);
int64_t archive_keep_for_ms(void);    /* 0: for good */
int64_t archive_sweep_every_ms(void);
int64_t archive_resend_ms(void);
void archive_count_expired(size_t count);

/* --- what goes (retention.c) --- */

void retention_start(void); /* main thread */
void retention_stop(void);
/* Everything of an account (fiber; waits). */
bool retention_erase_account(const struct iris_account *account);

#endif
