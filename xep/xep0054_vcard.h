/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0054: the vCard of an account, for plug-ins that name "xep0054" in their needs.  Home worker
 * of the account, on a fiber.
 */
#ifndef IRIS_XEP0054_VCARD_H
#define IRIS_XEP0054_VCARD_H

#include "iris/module.h"

#define NS_VCARD "vcard-temp"

/* *vcard_r NULL: there is none. False: the vault failed. */
IRIS_MUST_CHECK bool vcard_read(struct iris_user *user, struct iris_arena *arena,
				struct iris_element **vcard_r);
/* Replaces it (waits for the commit). photo: the hash of its photo, none without one. */
IRIS_MUST_CHECK enum iris_condition vcard_write(struct iris_user *user, struct iris_arena *arena,
						const struct iris_element *vcard,
						struct iris_str photo);
/* The photo's bytes and type; false: it has none that can be read. */
bool vcard_photo(struct iris_arena *arena, const struct iris_element *vcard,
		 struct iris_str *bytes_r, struct iris_str *type_r);
/* SHA-1 in hexadecimal (XEP-0153 §3.1, XEP-0084 §4.1). */
struct iris_str vcard_photo_hash(struct iris_arena *arena, struct iris_str bytes);

/* Called after its owner has set it; one listener. */
struct vcard_listener {
	void (*changed)(struct iris_request *request, const struct iris_element *vcard,
			struct iris_str photo);
};
void vcard_listen(const struct vcard_listener *listener); /* in .start; NULL in .stop */

#endif
