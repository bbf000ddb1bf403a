/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0402: Bookmarks that the server keeps for an account; for plug-ins that name "xep0402" in
 * their needs.  Home worker of the account, on a fiber; they wait for the commit.  All of the
 * account's clients are told, those of the older ways of keeping bookmarks, too.
 */
#ifndef IRIS_XEP0402_BOOKMARKS_H
#define IRIS_XEP0402_BOOKMARKS_H

#include "iris/module.h"

/*
 * The bookmark of a room has this name (none: it has none); what else the user has noted in it
 * stays. make: a new one, which is joined by itself, when there is none; else ITEM_NOT_FOUND.
 */
IRIS_MUST_CHECK enum iris_condition bookmark_put(struct iris_user *user,
						 const struct iris_jid *room,
						 struct iris_str name, bool make);
/* ITEM_NOT_FOUND: there was none. */
IRIS_MUST_CHECK enum iris_condition bookmark_remove(struct iris_user *user,
						    const struct iris_jid *room);

#endif
