/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0359: Unique and Stable Stanza IDs, written by plug-ins that name "xep0359" in their needs.
 */
#ifndef IRIS_XEP0359_STANZA_ID_H
#define IRIS_XEP0359_STANZA_ID_H

#include "iris/module.h"

/* The id that a message has in the archive of `by`, as a child of it. */
void stanza_id_add(struct iris_element *message, const struct iris_user *by, int64_t log_id);
/*
 * Takes out what claims to be an id of one of our accounts. The stanza is not frozen. Pure: for any
 * plug-in that lets stanzas in, whether XEP-0359 is loaded or not.
 */
void stanza_id_remove_ours(struct iris_stanza *stanza);

#endif
