/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive of accounts, for plug-ins that name "archive" in their needs.  Home worker of the account.
 */
#ifndef IRIS_ARCHIVE_H
#define IRIS_ARCHIVE_H

#include "iris/module.h"

#define ARCHIVE_SENT 1u    /* the account sent it */
#define ARCHIVE_OFFLINE 2u /* a client of the account must get it at last */

/* Is there something to keep? Chat and normal messages with content, without a hint against it. */
bool archive_is_storable(const struct iris_stanza *stanza);
/* Must it wait for the account's next client when none is there (XEP-0160 §3)? */
bool archive_is_for_offline(const struct iris_stanza *stanza);
/* Posts an entry of this account; *id_r its id. The peer is the other side's bare JID. */
IRIS_MUST_CHECK enum iris_vault_result archive_append(const struct iris_user *user, const struct iris_delivery *delivery,
						      unsigned flags, struct iris_ticket *ticket, int64_t *id_r);
/* The stanza of an entry, as it was routed; NULL when it cannot be read. */
struct iris_stanza *archive_entry_stanza(const struct iris_log_entry *entry);

#endif
