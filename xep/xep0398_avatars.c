/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0398 1.0: User Avatar (XEP-0084) to vCard-based avatars (XEP-0153) and back: a picture that
 * is published over one shows over the other, and its hash is in the presence of its owner.  Home
 * worker of the account.
 *
 * It does not do: showing presence anew when the picture changes; the client that changed it does.
 */
#include <stdlib.h>

#include "modules/pubsub/pubsub.h"
#include "xep/xep0054_vcard.h"

#define NODE_DATA "urn:xmpp:avatar:data"
#define NODE_METADATA "urn:xmpp:avatar:metadata"

static struct iris_module_self avatar_self;

static struct iris_query avatar_load = {
	.name = "avatar.load", .table = "vcard", .key = "account",
	.sql = "SELECT account, photo FROM vcard WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "account", IRIS_INT }, { "photo", IRIS_SEALED } },
};

/* --- the hash, with a loaded user: a C string, or NULL --- */

static const char *
hash_of(struct iris_user *user)
{
	return *user_slot(user, &avatar_self);
}

static void
hash_set(struct iris_user *user, struct iris_str hash)
{
	void **slot = user_slot(user, &avatar_self);

	free(*slot);
	*slot = str_is_empty(hash) ? NULL : str_dup(hash);
}

static bool
avatar_take(struct iris_user *user, const struct iris_rows *rows)
{
	if (rows->count > 0)
		hash_set(user, row_value(rows, 0, 1)->bytes);
	return true;
}

static enum iris_verdict
avatar_user_unload(struct iris_user *user)
{
	hash_set(user, IRIS_STR_NONE);
	return IRIS_PASS;
}

/* --- §5: presence --- */

static void
set_photo(struct iris_element *update, struct iris_str hash)
{
	struct iris_element *photo = element_child(update, "photo", NS_VCARD_UPDATE);

	if (photo)
		element_remove(photo);
	element_add_text(update, "photo", NULL, hash);
}

/* An empty <photo/> says that the client wants none shown: it is left as it is. */
static enum iris_verdict
avatar_stanza_out(struct iris_request *request)
{
	struct iris_stanza *stanza = request->stanza;
	struct iris_element *update, *photo;
	struct iris_str hash;

	if (stanza->kind != IRIS_PRESENCE || stanza->type != IRIS_AVAILABLE ||
	    !hash_of(request->session->user))
		return IRIS_PASS;
	hash = str_from(hash_of(request->session->user));
	update = element_child(stanza->root, "x", NS_VCARD_UPDATE);
	photo = update ? element_child(update, "photo", NS_VCARD_UPDATE) : NULL;
	if (photo && (str_is_empty(element_get_text(photo)) ||
		      str_equal(element_get_text(photo), hash)))
		return IRIS_PASS;
	set_photo(update ? update : element_add(stanza->root, "x", NS_VCARD_UPDATE), hash);
	return IRIS_PASS;
}

/* --- §4.1: from PEP to the vCard --- */

/* The picture that is here, not at some address; NULL: none is shown. */
static const struct iris_element *
find_info(const struct iris_element *metadata)
{
	const struct iris_element *info =
		metadata ? element_child(metadata, "info", NODE_METADATA) : NULL;

	while (info && !str_is_none(element_get(info, "url")))
		info = element_next(info, "info", NODE_METADATA);
	return info;
}

/* SECURITY: the hash is what others know the picture by, so it must be that of the picture. */
static bool
find_data(const struct pubsub_change *change, const struct iris_element *info,
	  struct iris_str *base64_r)
{
	struct iris_str id = element_get(info, "id"), bytes;
	struct iris_element *data = pubsub_item(change->user, NODE_DATA, id, change->arena);

	if (!data || !element_is(data, "data", NODE_DATA))
		return false;
	*base64_r = element_get_text(data);
	return base64_decode(change->arena, *base64_r, &bytes) &&
	       str_equal(vcard_photo_hash(change->arena, bytes), id);
}

static void
write_vcard(const struct pubsub_change *change, const struct iris_element *info,
	    struct iris_str base64)
{
	struct iris_str hash = info ? element_get(info, "id") : IRIS_STR_NONE;
	struct iris_element *vcard, *photo;

	if (!vcard_read(change->user, change->arena, &vcard) || (!vcard && !info))
		return;
	if (!vcard)
		vcard = element_new(change->arena, "vCard", NS_VCARD);
	while ((photo = element_child(vcard, "PHOTO", NS_VCARD)) != NULL)
		element_remove(photo);
	if (info) {
		photo = element_add(vcard, "PHOTO", NULL);
		element_add_text(photo, "TYPE", NULL, element_get(info, "type"));
		element_add_text(photo, "BINVAL", NULL, base64);
	}
	/* Too large for a vCard: those who know vCards only see the one before. */
	if (vcard_write(change->user, change->arena, vcard, hash) == IRIS_NO_ERROR)
		hash_set(change->user, hash);
}

/* §8: what is not for all contacts stays out of the vCard, which is. */
static void
avatar_published(const struct pubsub_change *change)
{
	const struct iris_element *info = find_info(change->payload);
	struct iris_str base64 = IRIS_STR_NONE;

	if (!info) {
		write_vcard(change, NULL, base64);
	} else if (pubsub_is_shared(change->user, NODE_DATA) &&
		   pubsub_is_shared(change->user, NODE_METADATA) &&
		   find_data(change, info, &base64)) {
		write_vcard(change, info, base64);
	}
}

/* --- §4.2: from the vCard to PEP --- */

static bool
publish(struct iris_user *user, const char *node, struct iris_str id,
	const struct iris_element *payload)
{
	const struct pubsub_publication publication = {
		.user = user, .node = node, .item = id, .payload = payload,
	};

	return pubsub_publish(&publication) == IRIS_NO_ERROR;
}

static void
publish_avatar(struct iris_request *request, const struct iris_element *vcard, struct iris_str hash)
{
	struct iris_arena *arena = request->arena;
	struct iris_element *data = element_new(arena, "data", NODE_DATA);
	struct iris_element *metadata = element_new(arena, "metadata", NODE_METADATA), *info;
	struct iris_str bytes, type;

	if (!vcard_photo(arena, vcard, &bytes, &type))
		return;
	element_text(data, base64_encode(arena, bytes));
	info = element_add(metadata, "info", NULL);
	element_set(info, "id", hash);
	element_set_int(info, "bytes", (int64_t)bytes.len);
	element_set(info, "type", str_is_empty(type) ? IRIS_STR("image/png") : type);
	if (publish(request->user, NODE_DATA, hash, data))
		publish(request->user, NODE_METADATA, hash, metadata);
}

/* The picture has gone from a vCard that had one: nothing is shown (XEP-0084 §4.4). */
static void
withdraw_avatar(struct iris_request *request)
{
	publish(request->user, NODE_METADATA, IRIS_STR_NONE,
		element_new(request->arena, "metadata", NODE_METADATA));
}

static void
vcard_changed(struct iris_request *request, const struct iris_element *vcard, struct iris_str hash)
{
	const char *before = hash_of(request->user);
	bool had = before != NULL, same = had && str_is(hash, before);

	hash_set(request->user, hash);
	if (!str_is_none(hash) && !same)
		publish_avatar(request, vcard, hash);
	else if (str_is_none(hash) && had)
		withdraw_avatar(request);
}

static const struct vcard_listener avatar_listener = { vcard_changed };
static struct pubsub_preset avatar_preset = { .node = NODE_METADATA, .changed = avatar_published };

static bool
avatar_start(struct iris_error *error)
{
	pubsub_preset_add(&avatar_preset);
	vcard_listen(&avatar_listener);
	return true;
}

static void
avatar_stop(void)
{
	vcard_listen(NULL);
	pubsub_preset_remove(&avatar_preset);
}

static const struct iris_user_rows avatar_user_rows[] = {
	{ &avatar_load, avatar_take },
	{ .query = NULL },
};

static const struct iris_feature avatar_features[] = {
	{ IRIS_DISCO_ACCOUNT, "urn:xmpp:pep-vcard-conversion:0" },
	{ .var = NULL },
};

static const struct iris_hook_handler avatar_hooks[] = {
	HOOK(user_unload, IRIS_NEUTRAL, avatar_user_unload),
	HOOK(stanza_out, IRIS_LATE, avatar_stanza_out),
	HOOKS_END,
};

const struct iris_module iris_module_xep0398 = {
	IRIS_MODULE_HEAD,
	.name = "xep0398",
	.summary = "User Avatar to vCard-Based Avatars Conversion",
	.xep = "XEP-0398 1.0.0, XEP-0084 1.1.4, XEP-0153 1.1.1",
	.needs = IRIS_NAMES("pubsub", "xep0054", "xep0163"),
	.self = &avatar_self,
	.queries = (struct iris_query *const[]){ &avatar_load, NULL },
	.user_rows = avatar_user_rows,
	.features = avatar_features,
	.hooks = avatar_hooks,
	.not_unloadable = true,
	.start = avatar_start,
	.stop = avatar_stop,
};
