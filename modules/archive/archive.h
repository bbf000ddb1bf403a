/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive of accounts, for plug-ins that name "archive" in their needs.  Home worker of the
 * account.
 */
#ifndef IRIS_ARCHIVE_H
#define IRIS_ARCHIVE_H

#include "iris/module.h"

#define ARCHIVE_SENT 1u    /* the account sent it */
#define ARCHIVE_OFFLINE 2u /* a client of the account must get it at last */
#define ARCHIVE_HISTORY 4u /* the account's clients may read it; without: it only waits for one */

/* Is there something to keep? Chat and normal messages with content, without a hint against it. */
bool archive_is_storable(const struct iris_stanza *stanza);
/* Must it wait for the account's next client when none is there (XEP-0160 §3)? */
bool archive_is_for_offline(const struct iris_stanza *stanza);
/* Would it, were it not in transit? */
bool archive_may_wait(const struct iris_stanza *stanza);
/* Posts an entry of this account; *id_r its id. The peer is the other side's bare JID. */
IRIS_MUST_CHECK enum iris_vault_result archive_append(const struct iris_user *user,
						      const struct iris_delivery *delivery,
						      unsigned flags, struct iris_ticket *ticket,
						      int64_t *id_r);
/* The stanza of an entry, as it was routed; NULL when it cannot be read. */
struct iris_stanza *archive_entry_stanza(const struct iris_log_entry *entry);
/* Posts another message in the place of an entry's, which is not in the store any more. */
IRIS_MUST_CHECK enum iris_vault_result archive_replace(const struct iris_log_entry *entry,
						       struct iris_stanza *stanza,
						       struct iris_ticket *ticket);

/*
 * Around a change of what was said to an account (fiber): others of the same account wait for their
 * turn, and who reads its archive for archive_settle(), so that a change that came before the
 * question is seen in the answer.
 */
void archive_change_begin(const struct iris_user *user);
void archive_change_end(const struct iris_user *user);
void archive_settle(const struct iris_user *user);

/* What an account wants kept (XEP-0441 §2). */
enum archive_default {
	ARCHIVE_ALWAYS,
	ARCHIVE_NEVER,
	ARCHIVE_ROSTER
};

/* Calls fn for each address that is treated otherwise; returns the default for all others. */
enum archive_default archive_prefs_get(struct iris_user *user,
				       void (*fn)(struct iris_str jid, bool always, void *arg),
				       void *arg);
/*
 * Replaces them (fiber; waits for the commit). The addresses are prepared; one that is in both
 * lists is never kept.
 */
IRIS_MUST_CHECK enum iris_vault_result archive_prefs_set(struct iris_user *user,
							 enum archive_default fallback,
							 const struct iris_str *always,
							 size_t always_count,
							 const struct iris_str *never,
							 size_t never_count);

#endif
