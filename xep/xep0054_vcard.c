/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0054 1.3: vcard-temp.  One sealed row per account.  A profile is for its network (P5.5),
 * unless visible-to opens it to all accounts of this server: others get what an address that does
 * not exist would give.
 */
#include <openssl/evp.h>

#include "xep/xep0054_vcard.h"

enum { OPT_SIZE, OPT_VISIBLE_TO };

enum { VISIBLE_TO_NETWORK, VISIBLE_TO_SERVER };

static struct iris_module_self vcard_self;
static const struct vcard_listener *vcard_listener;

static struct iris_query vcard_load = {
	.name = "vcard.load", .table = "vcard", .key = "account",
	.sql = "SELECT value FROM vcard WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "value", IRIS_SEALED } },
};

static struct iris_query vcard_store = {
	.name = "vcard.store", .table = "vcard", .key = "account", .write = true,
	.sql = "INSERT INTO vcard (account, value, photo) VALUES ($1, $2, $3) "
	       "ON CONFLICT (account) DO UPDATE SET value = excluded.value, photo = excluded.photo",
	.params = { { "account", IRIS_INT }, { "value", IRIS_SEALED }, { "photo", IRIS_SEALED } },
};

static struct iris_query vcard_erase = {
	.name = "vcard.erase", .table = "vcard", .write = true,
	.sql = "DELETE FROM vcard WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

static enum iris_verdict
vcard_refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

/* --- for others --- */

bool
vcard_read(struct iris_user *user, struct iris_arena *arena, struct iris_element **vcard_r)
{
	struct iris_rows rows;

	*vcard_r = NULL;
	if (vault_read(&vcard_load, user->account.owner, VALUES(value_int(user->account.id)), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	if (rows.count > 0)
		*vcard_r = element_parse(arena, row_value(&rows, 0, 0)->bytes);
	return true;
}

enum iris_condition
vcard_write(struct iris_user *user, struct iris_arena *arena, const struct iris_element *vcard,
	    struct iris_str photo)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	element_write(&text, vcard, IRIS_STR_NONE);
	if (text.len > (size_t)option_int(&vcard_self, OPT_SIZE))
		return IRIS_NOT_ACCEPTABLE;
	if (vault_write(&vcard_store, user->account.owner,
			VALUES(value_int(user->account.id), value_str(strbuf_str(&text)),
			       value_str(photo)),
			NULL) != IRIS_VAULT_OK)
		return IRIS_RESOURCE_CONSTRAINT;
	return IRIS_NO_ERROR;
}

/* Clients break the lines of base64 (RFC 2426 §2.4.1). */
static struct iris_str
vcard_join_lines(struct iris_arena *arena, struct iris_str text)
{
	char *joined = arena_alloc(arena, text.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++)
		if (!strchr(" \t\r\n", text.base[i]))
			joined[len++] = text.base[i];
	return (struct iris_str){ joined, len };
}

bool
vcard_photo(struct iris_arena *arena, const struct iris_element *vcard, struct iris_str *bytes_r,
	    struct iris_str *type_r)
{
	struct iris_element *photo = vcard ? element_child(vcard, "PHOTO", NS_VCARD) : NULL;
	struct iris_str text = photo ? element_child_text(photo, "BINVAL", NS_VCARD) :
				       IRIS_STR_NONE;

	if (str_is_empty(text) ||
	    !base64_decode(arena, vcard_join_lines(arena, text), bytes_r) || bytes_r->len == 0)
		return false;
	*type_r = element_child_text(photo, "TYPE", NS_VCARD);
	return true;
}

struct iris_str
vcard_photo_hash(struct iris_arena *arena, struct iris_str bytes)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	char *hash;

	if (EVP_Digest(bytes.base, bytes.len, digest, &length, EVP_sha1(), NULL) != 1)
		return IRIS_STR_NONE;
	hash = arena_alloc(arena, 2 * length);
	for (unsigned i = 0; i < length; i++) {
		hash[2 * i] = digits[digest[i] >> 4];
		hash[2 * i + 1] = digits[digest[i] & 15];
	}
	return (struct iris_str){ hash, 2 * length };
}

void
vcard_listen(const struct vcard_listener *listener)
{
	vcard_listener = listener;
}

/* --- requests --- */

static bool
vcard_in_network(const struct iris_request *request)
{
	return request->is_self || contact_sees_us(roster_find(request->user,
							       jid_bare(&request->stanza->from)));
}

static bool
vcard_is_for_server(const struct iris_request *request)
{
	const struct iris_jid *from = &request->stanza->from;

	return option_int(&vcard_self, OPT_VISIBLE_TO) == VISIBLE_TO_SERVER &&
	       !str_is_empty(jid_node(from)) && host_find(jid_domain(from)) != NULL;
}

/*
 * §3.1: an account without a vCard gives an empty element to itself, item-not-found to contacts.
 * SECURITY: to all others the same as an address that does not exist (§3.3, P5.7): who tries names
 * one by one learns nothing of people without a vCard.
 */
static enum iris_verdict
vcard_get(struct iris_request *request)
{
	bool in_network = vcard_in_network(request);

	if (!in_network && !vcard_is_for_server(request))
		return vcard_refuse(request, IRIS_SERVICE_UNAVAILABLE);
	if (!vcard_read(request->user, request->arena, &request->reply))
		return vcard_refuse(request, IRIS_INTERNAL_SERVER_ERROR);
	if (!request->reply && !request->is_self)
		return vcard_refuse(request, in_network ? IRIS_ITEM_NOT_FOUND :
							  IRIS_SERVICE_UNAVAILABLE);
	if (!request->reply)
		request->reply = element_new(request->arena, "vCard", NS_VCARD);
	return IRIS_DONE;
}

static enum iris_verdict
vcard_set(struct iris_request *request)
{
	struct iris_str photo = IRIS_STR_NONE, bytes, type;
	enum iris_condition condition;

	if (vcard_photo(request->arena, request->payload, &bytes, &type))
		photo = vcard_photo_hash(request->arena, bytes);
	condition = vcard_write(request->user, request->arena, request->payload, photo);
	if (condition != IRIS_NO_ERROR)
		return vcard_refuse(request, condition);
	if (vcard_listener)
		vcard_listener->changed(request, request->payload, photo);
	return IRIS_DONE;
}

static enum iris_verdict
vcard_account_removed(struct iris_account_removed *removed)
{
	return vault_post(&vcard_erase, removed->account.owner,
			  VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static const struct iris_feature vcard_features[] = {
	{ IRIS_DISCO_HOST, NS_VCARD },
	{ IRIS_DISCO_ACCOUNT, NS_VCARD },
	{ .var = NULL },
};

static const struct iris_iq vcard_iq[] = {
	{ IRIS_TO_ACCOUNT, IRIS_GET, "vCard", NS_VCARD, IRIS_ANYONE, vcard_get },
	{ IRIS_TO_ACCOUNT, IRIS_SET, "vCard", NS_VCARD, IRIS_SELF, vcard_set },
	{ .name = NULL },
};

static const struct iris_hook_handler vcard_hooks[] = {
	HOOK(account_removed, IRIS_NEUTRAL, vcard_account_removed),
	HOOKS_END,
};

static const char *const vcard_visible_choices[] = {
	[VISIBLE_TO_NETWORK] = "network",
	[VISIBLE_TO_SERVER] = "server",
	NULL,
};

static const struct iris_option vcard_options[] = {
	[OPT_SIZE] = { "size-max", IRIS_OPT_SIZE, "128 KiB", .min = 1024, .max = 1048576,
		       .reloadable = true,
		       .help = "The largest vCard, its photo included, that an account may keep." },
	[OPT_VISIBLE_TO] = { "visible-to", IRIS_OPT_CHOICE, "network",
			     .choices = vcard_visible_choices, .reloadable = true,
			     .help = "Who may read a vCard: the contacts who see its owner's "
				     "presence, or every account of this server." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0054 = {
	IRIS_MODULE_HEAD,
	.name = "xep0054",
	.summary = "vcard-temp",
	.xep = "XEP-0054 1.3.0",
	.self = &vcard_self,
	.options = vcard_options,
	.queries = (struct iris_query *const[]){ &vcard_load, &vcard_store, &vcard_erase, NULL },
	.features = vcard_features,
	.iq = vcard_iq,
	.hooks = vcard_hooks,
	.not_unloadable = true,
};
