/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0401 0.6: invitations in memory and in the vault: see xep0401_tokens.h. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/sha.h>

#include "xep/xep0401_invitations.h"
#include "xep/xep0401_tokens.h"

struct invites { /* of a loaded user */
	struct iris_hash by_token;
};

struct iris_query invite_query_load = {
	.name = "invite.load", .table = "invitations", .key = "token",
	.sql = "SELECT token, rights, created_ms, expires_ms, name FROM invitations "
	       "WHERE account = $1",
	.params = { { "account", IRIS_INT } },
	.columns = { { "token", IRIS_TEXT }, { "rights", IRIS_INT }, { "created_ms", IRIS_INT },
		     { "expires_ms", IRIS_INT }, { "name", IRIS_SEALED } },
};

struct iris_query invite_query_store = {
	.name = "invite.store", .table = "invitations", .key = "token", .write = true,
	.sql = "INSERT INTO invitations (token, owner, account, rights, created_ms, expires_ms, "
	       "name_key, inviter, name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	.params = { { "token", IRIS_TEXT }, { "owner", IRIS_INT }, { "account", IRIS_INT },
		    { "rights", IRIS_INT }, { "created_ms", IRIS_INT },
		    { "expires_ms", IRIS_INT }, { "name_key", IRIS_INT },
		    { "inviter", IRIS_SEALED }, { "name", IRIS_SEALED } },
};

struct iris_query invite_query_drop = {
	.name = "invite.drop", .table = "invitations", .write = true,
	.sql = "DELETE FROM invitations WHERE token = $1",
	.params = { { "token", IRIS_TEXT } },
};

struct iris_query invite_query_erase = {
	.name = "invite.erase", .table = "invitations", .write = true,
	.sql = "DELETE FROM invitations WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

struct iris_query invite_query_expire = {
	.name = "invite.expire", .table = "invitations", .write = true,
	.sql = "DELETE FROM invitations WHERE expires_ms < $1",
	.params = { { "before", IRIS_INT } },
};

struct iris_query invite_query_owner = {
	.name = "invite.owner", .table = "invitations",
	.sql = "SELECT owner FROM invitations WHERE token = $1",
	.params = { { "token", IRIS_TEXT } },
	.columns = { { "owner", IRIS_INT } },
};

struct iris_query invite_query_record = {
	.name = "invite.record", .table = "invitations", .key = "token",
	.sql = "SELECT token, rights, expires_ms, inviter, name FROM invitations WHERE token = $1",
	.params = { { "token", IRIS_TEXT } },
	.columns = { { "token", IRIS_TEXT }, { "rights", IRIS_INT }, { "expires_ms", IRIS_INT },
		     { "inviter", IRIS_SEALED }, { "name", IRIS_SEALED } },
};

struct iris_query invite_query_reserved = {
	.name = "invite.reserved", .table = "invitations",
	.sql = "SELECT COUNT(*) FROM invitations WHERE name_key = $1 AND expires_ms > $2 "
	       "AND token <> $3",
	.params = { { "name_key", IRIS_INT }, { "now", IRIS_INT }, { "token", IRIS_TEXT } },
	.columns = { { "count", IRIS_INT } },
};

void
invite_hash(struct iris_str secret, char token_r[INVITE_TOKEN_SIZE])
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)(secret.base ? secret.base : ""), secret.len, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(token_r + 2 * i, 3, "%02x", digest[i]);
}

/* --- in memory --- */

static struct invites *
invites_of(struct iris_user *user)
{
	return *user_slot(user, &invitations_self);
}

static struct invite *
invite_add(struct invites *invites, struct iris_str token, struct iris_str name)
{
	struct invite *invite = iris_calloc(1, sizeof(*invite) + name.len);

	IRIS_ASSERT(str_copy_to(invite->token, sizeof(invite->token), token));
	if (name.base) {
		memcpy(invite + 1, name.base, name.len);
		invite->name = (struct iris_str){ (char *)(invite + 1), name.len };
	}
	hash_insert(&invites->by_token, &invite->node, str_from(invite->token));
	return invite;
}

static void
invite_forget(struct invites *invites, struct invite *invite)
{
	hash_remove(&invites->by_token, &invite->node);
	free(invite);
}

bool
invites_user_take(struct iris_user *user, const struct iris_rows *rows)
{
	struct invites *invites = iris_calloc(1, sizeof(*invites));

	*user_slot(user, &invitations_self) = invites;
	for (size_t i = 0; i < rows->count; i++) {
		struct invite *invite = invite_add(invites, row_value(rows, i, 0)->bytes,
						   row_value(rows, i, 4)->bytes);

		invite->rights = (unsigned)row_value(rows, i, 1)->number;
		invite->created_ms = row_value(rows, i, 2)->number;
		invite->expires_ms = row_value(rows, i, 3)->number;
	}
	return true;
}

enum iris_verdict
invites_user_unload(struct iris_user *user)
{
	struct invites *invites = invites_of(user);

	if (!invites)
		return IRIS_PASS;
	HASH_FOREACH(node, &invites->by_token)
		invite_forget(invites, IRIS_CONTAINER(node, struct invite, node));
	hash_free(&invites->by_token);
	free(invites);
	*user_slot(user, &invitations_self) = NULL;
	return IRIS_PASS;
}

/* Those whose time is over make room; what is not dropped now is when the next one is made. */
static void
invites_expire(struct iris_user *user)
{
	struct invites *invites = invites_of(user);

	HASH_FOREACH(node, &invites->by_token) {
		struct invite *invite = IRIS_CONTAINER(node, struct invite, node);

		if (invite->expires_ms > worker_wall_ms() - INVITE_GRACE_MS || invite->claimed)
			continue;
		if (vault_post(&invite_query_drop, user->account.owner,
			       VALUES(value_str(str_from(invite->token))), NULL) == IRIS_VAULT_OK)
			invite_forget(invites, invite);
	}
}

/* --- at home --- */

enum iris_condition
invite_make(struct iris_user *inviter, struct invite_record *record, struct iris_arena *arena,
	    struct iris_str *secret_r)
{
	const struct iris_account *account = &inviter->account;
	int64_t now = worker_wall_ms();
	char token[INVITE_TOKEN_SIZE];
	struct invite *invite;

	invites_expire(inviter);
	if (invites_of(inviter)->by_token.count >=
	    (size_t)option_int(&invitations_self, INVITE_OPT_ACCOUNT_MAX))
		return IRIS_RESOURCE_CONSTRAINT;
	*secret_r = random_id(arena, INVITE_SECRET_LEN * 6);
	record->expires_ms = now + option_int(&invitations_self, INVITE_OPT_EXPIRY);
	invite_hash(*secret_r, token);
	if (vault_write(&invite_query_store, account->owner,
			VALUES(value_str(str_from(token)), value_int(account->owner),
			       value_int(account->id), value_int(record->rights), value_int(now),
			       value_int(record->expires_ms),
			       value_int(str_is_none(record->name) ? 0 :
								     vault_peer_id(record->name)),
			       value_str(jid_bare(&inviter->jid)), value_str(record->name)),
			NULL) != IRIS_VAULT_OK)
		return IRIS_RESOURCE_CONSTRAINT;
	invite = invite_add(invites_of(inviter), str_from(token), record->name);
	invite->rights = record->rights;
	invite->created_ms = now;
	invite->expires_ms = record->expires_ms;
	return IRIS_NO_ERROR;
}

struct invite *
invite_find(struct iris_user *inviter, const char *token)
{
	struct invites *invites = invites_of(inviter);
	struct iris_hash_node *node =
		invites ? hash_find(&invites->by_token, str_from(token)) : NULL;

	return node ? IRIS_CONTAINER(node, struct invite, node) : NULL;
}

bool
invite_use(struct iris_user *inviter, struct invite **invite_p)
{
	struct invite *invite = *invite_p;

	if (vault_post(&invite_query_drop, inviter->account.owner,
		       VALUES(value_str(str_from(invite->token))), NULL) != IRIS_VAULT_OK)
		return false;
	*invite_p = NULL;
	invite_forget(invites_of(inviter), invite);
	return true;
}

bool
invite_revoke(struct iris_user *inviter, struct invite *invite)
{
	char token[INVITE_TOKEN_SIZE];
	bool gone;

	memcpy(token, invite->token, sizeof(token));
	invite->claimed = true; /* nobody uses it, nor frees it, in the meantime */
	user_hold(inviter);
	gone = vault_write(&invite_query_drop, inviter->account.owner,
			   VALUES(value_str(str_from(token))), NULL) == IRIS_VAULT_OK;
	invite = invite_find(inviter, token);
	if (invite && gone)
		invite_forget(invites_of(inviter), invite);
	else if (invite)
		invite->claimed = false;
	user_release(&inviter);
	return gone;
}

void
invite_each(struct iris_user *inviter, void (*fn)(const struct invite *invite, void *arg),
	    void *arg)
{
	HASH_FOREACH(node, &invites_of(inviter)->by_token)
		fn(IRIS_CONTAINER(node, struct invite, node), arg);
}

/* --- anywhere --- */

/* Whose key opens the row is read first. */
bool
invite_look_up(const char *token, struct iris_arena *arena, struct invite_record *record_r)
{
	struct iris_value key = value_str(str_from(token));
	struct iris_rows rows;

	if (vault_read(&invite_query_owner, 0, &key, arena, &rows) != IRIS_VAULT_OK ||
	    rows.count == 0)
		return false;
	if (vault_read(&invite_query_record, (iris_owner)row_value(&rows, 0, 0)->number, &key,
		       arena, &rows) != IRIS_VAULT_OK ||
	    rows.count == 0)
		return false;
	*record_r = (struct invite_record){
		.rights = (unsigned)row_value(&rows, 0, 1)->number,
		.expires_ms = row_value(&rows, 0, 2)->number,
		.inviter = jid_from_prepared(row_value(&rows, 0, 3)->bytes),
		.name = row_value(&rows, 0, 4)->bytes,
	};
	return true;
}

/* Unknown (the vault failed) is reserved. */
bool
invite_is_reserved(const struct iris_jid *jid, const char *token)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	bool reserved = vault_read(&invite_query_reserved, 0,
				   VALUES(value_int(vault_peer_id(jid_bare(jid))),
					  value_int(worker_wall_ms()),
					  value_str(token ? str_from(token) : IRIS_STR(""))),
				   arena, &rows) != IRIS_VAULT_OK ||
			row_value(&rows, 0, 0)->number > 0;

	arena_unref(&arena);
	return reserved;
}
