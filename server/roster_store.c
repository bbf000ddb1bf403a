/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rosters in the vault: who is whose contact, under what name, and what they asked is sealed under
 * the key of the owner's company; a row is found by the keyed hash of the contact's address.
 */
#include "im_private.h"

enum { /* of the column `state`; kept for good: never change a value */
	STATE_SUBSCRIPTION = 3,
	STATE_ASK = 4,
	STATE_APPROVED = 8,
	STATE_PENDING_IN = 16,
	STATE_IN_ROSTER = 32,
};

enum { LOAD_VERSION, LOAD_PEER, LOAD_STATE, LOAD_JID, LOAD_NAME, LOAD_GROUPS, LOAD_REQUEST };

/* One trip for all: the version is in each row, and in one without a contact when there is none. */
static struct iris_query load = {
	.name = "roster.load",
	.table = "roster",
	.sql = "SELECT v.version, r.peer, r.state, r.jid, r.contact_name, r.contact_groups, "
	       "r.request FROM (SELECT COALESCE(MAX(version), 0) AS version FROM roster_version "
	       "WHERE account = $1) v LEFT JOIN roster r ON r.account = $1",
	.key = "account peer",
	.params = { { "account", IRIS_INT } },
	.columns = { { "version", IRIS_INT },
		     { "peer", IRIS_INT },
		     { "state", IRIS_INT },
		     { "jid", IRIS_SEALED },
		     { "contact_name", IRIS_SEALED },
		     { "contact_groups", IRIS_SEALED },
		     { "request", IRIS_SEALED } },
};

static struct iris_query save = {
	.name = "roster.save",
	.table = "roster",
	.sql = "INSERT INTO roster (account, peer, state, jid, contact_name, contact_groups, "
	       "request) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account, peer) DO UPDATE SET "
	       "state = excluded.state, jid = excluded.jid, contact_name = excluded.contact_name, "
	       "contact_groups = excluded.contact_groups, request = excluded.request",
	.key = "account peer",
	.write = true,
	.params = { { "account", IRIS_INT },
		    { "peer", IRIS_INT },
		    { "state", IRIS_INT },
		    { "jid", IRIS_SEALED },
		    { "contact_name", IRIS_SEALED },
		    { "contact_groups", IRIS_SEALED },
		    { "request", IRIS_SEALED } },
};

/*
 * The same without the words of whoever asked: those stay while they are waited for. The rest is an
 * address, a state, and what the user calls the contact.
 */
static struct iris_query save_state = {
	.name = "roster.save_state",
	.table = "roster",
	.sql = "INSERT INTO roster (account, peer, state, jid, contact_name, contact_groups) "
	       "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account, peer) DO UPDATE SET "
	       "state = excluded.state, jid = excluded.jid, contact_name = excluded.contact_name, "
	       "contact_groups = excluded.contact_groups, "
	       "request = CASE WHEN (excluded.state & 16) = 0 THEN NULL ELSE roster.request END",
	.key = "account peer",
	.write = true,
	.bare = true,
	.params = { { "account", IRIS_INT },
		    { "peer", IRIS_INT },
		    { "state", IRIS_INT },
		    { "jid", IRIS_SEALED },
		    { "contact_name", IRIS_SEALED },
		    { "contact_groups", IRIS_SEALED } },
};

static struct iris_query save_version = {
	.name = "roster.save_version",
	.table = "roster_version",
	.sql = "INSERT INTO roster_version (account, version) VALUES ($1, $2) "
	       "ON CONFLICT (account) DO UPDATE SET version = excluded.version",
	.write = true,
	.params = { { "account", IRIS_INT }, { "version", IRIS_INT } },
};

static struct iris_query drop = {
	.name = "roster.drop",
	.table = "roster",
	.sql = "DELETE FROM roster WHERE account = $1 AND peer = $2",
	.write = true,
	.params = { { "account", IRIS_INT }, { "peer", IRIS_INT } },
};

static struct iris_query drop_all = {
	.name = "roster.drop_all",
	.table = "roster",
	.sql = "DELETE FROM roster WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

static struct iris_query drop_version = {
	.name = "roster.drop_version",
	.table = "roster_version",
	.sql = "DELETE FROM roster_version WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

struct iris_query *const roster_queries[] = {
	&load, &save, &save_state, &save_version, &drop, &drop_all, &drop_version, NULL,
};

/* --- groups: one sealed value, their names with a NUL behind each --- */

static struct iris_str
groups_pack(struct iris_arena *arena, char *const *groups)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	for (; groups && *groups; groups++) {
		strbuf_add(&buf, str_from(*groups));
		strbuf_add_char(&buf, '\0');
	}
	return buf.len ? strbuf_str(&buf) : IRIS_STR_NONE;
}

static char *const *
groups_unpack(struct iris_arena *arena, struct iris_str packed)
{
	const char *at = packed.base;
	size_t count = 0, i = 0;
	char **groups;

	for (size_t k = 0; k < packed.len; k++)
		count += packed.base[k] == '\0';
	if (count == 0)
		return NULL;
	groups = arena_alloc(arena, (count + 1) * sizeof(*groups));
	for (; i < count && at < packed.base + packed.len; i++) {
		groups[i] = (char *)at;
		at += strlen(at) + 1;
	}
	return groups;
}

/* --- reading --- */

static struct iris_str
row_bytes(const struct iris_rows *rows, size_t row, unsigned column)
{
	const struct iris_value *value = row_value(rows, row, column);

	return value->type == IRIS_TYPE_NONE ? IRIS_STR_NONE : value->bytes;
}

static void
load_row(struct iris_arena *arena, const struct iris_rows *rows, size_t row,
	 struct iris_roster *roster)
{
	int64_t state = row_value(rows, row, LOAD_STATE)->number;
	struct roster_change change = {
		.jid = jid_from_prepared(row_bytes(rows, row, LOAD_JID)),
		.subscription = (enum iris_subscription)(state & STATE_SUBSCRIPTION),
		.ask = state & STATE_ASK,
		.approved = state & STATE_APPROVED,
		.pending_in = state & STATE_PENDING_IN,
		.in_roster = state & STATE_IN_ROSTER,
		.name = row_bytes(rows, row, LOAD_NAME),
		.groups = groups_unpack(arena, row_bytes(rows, row, LOAD_GROUPS)),
		.request = row_bytes(rows, row, LOAD_REQUEST),
	};

	if (!jid_is_none(&change.jid))
		roster_put(roster, &change);
}

static bool
roster_take(struct iris_user *user, const struct iris_rows *rows)
{
	struct iris_arena *arena = arena_new();

	user->roster = roster_new();
	if (rows->count > 0)
		user->roster->version = row_value(rows, 0, LOAD_VERSION)->number;
	for (size_t i = 0; i < rows->count; i++) {
		if (row_value(rows, i, LOAD_PEER)->type != IRIS_TYPE_NONE)
			load_row(arena, rows, i, user->roster);
	}
	arena_unref(&arena);
	return true;
}

const struct iris_user_rows roster_rows[] = { { &load, roster_take }, { .query = NULL } };

/* --- writing --- */

static int64_t
state_pack(const struct roster_change *change)
{
	return (int64_t)change->subscription | (change->ask ? STATE_ASK : 0) |
	       (change->approved ? STATE_APPROVED : 0) |
	       (change->pending_in ? STATE_PENDING_IN : 0) |
	       (change->in_roster ? STATE_IN_ROSTER : 0);
}

/* What is asked in transit is not kept; that somebody asked, is (iris/vault.h, `bare`). */
static void
batch_add_contact(struct iris_batch *batch, struct iris_value id, struct iris_value peer,
		  const struct roster_change *change, struct iris_arena *arena)
{
	struct iris_value state = value_int(state_pack(change));
	struct iris_value jid = value_str(jid_bare(&change->jid)), name = value_str(change->name);
	struct iris_value groups = value_str(groups_pack(arena, change->groups));

	if (str_is_none(change->request) || transit_is_on())
		batch_add(batch, &save_state, VALUES(id, peer, state, jid, name, groups));
	else
		batch_add(batch, &save,
			  VALUES(id, peer, state, jid, name, groups, value_str(change->request)));
}

enum iris_vault_result
roster_post(const struct iris_account *account, const struct roster_change *change, int64_t version,
	    struct iris_ticket *ticket)
{
	struct iris_batch *batch = batch_new(account->owner);
	struct iris_arena *arena = arena_new();
	struct iris_value id = value_int(account->id);
	struct iris_value peer = value_int(vault_peer_id(jid_bare(&change->jid)));
	enum iris_vault_result result;

	if (change->in_roster || change->pending_in)
		batch_add_contact(batch, id, peer, change, arena);
	else
		batch_add(batch, &drop, VALUES(id, peer));
	if (change->visible)
		batch_add(batch, &save_version, VALUES(id, value_int(version)));
	result = batch_post(&batch, ticket);
	arena_unref(&arena);
	return result;
}

bool
roster_erase(const struct iris_account *account)
{
	struct iris_batch *batch = batch_new(account->owner);
	struct iris_value id = value_int(account->id);

	batch_add(batch, &drop_all, VALUES(id));
	batch_add(batch, &drop_version, VALUES(id));
	return batch_post(&batch, NULL) == IRIS_VAULT_OK;
}
