/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of notices: statements, and what reads and writes with them.  At the home of the bubble,
 * whose writes are in order.  A row is upserted by whoever owes something anew, which gives it
 * another generation, and removed by who has done what it read, if it still is what was read.
 */
#include "modules/bubbles/notices_private.h"

/*
 * What is owed twice is owed once: the stronger kind, from the beginning; the id and the name are
 * those of the first. A later `due` wins: who means to change something is waited for.
 */
struct iris_query notice_query_put = {
	.name = "bubbles.notice_put", .table = "bubble_notices", .key = "room_key member_key",
	.write = true,
	.bare = true, /* addresses, and what the bubble was called before */
	.sql = "INSERT INTO bubble_notices (room_key, member_key, room, owner, kind, outside, due, "
	       "address, member, former, tries, generation) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 1) "
	       "ON CONFLICT (room_key, member_key) DO UPDATE SET "
	       "kind = CASE WHEN excluded.kind < bubble_notices.kind THEN excluded.kind "
	       "ELSE bubble_notices.kind END, "
	       "outside = CASE WHEN excluded.outside > bubble_notices.outside "
	       "THEN excluded.outside ELSE bubble_notices.outside END, "
	       "due = excluded.due, tries = 0, generation = bubble_notices.generation + 1",
	.params = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT }, { "room", IRIS_INT },
		    { "owner", IRIS_INT }, { "kind", IRIS_INT }, { "outside", IRIS_INT },
		    { "due", IRIS_INT }, { "address", IRIS_SEALED }, { "member", IRIS_SEALED },
		    { "former", IRIS_SEALED } },
};
struct iris_query notice_query_due = {
	.name = "bubbles.notices_due", .table = "bubble_notices",
	.sql = "SELECT member_key, owner FROM bubble_notices WHERE room_key = $1 AND due <= $2 "
	       "ORDER BY member_key LIMIT $3",
	.params = { { "room_key", IRIS_INT }, { "due", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "member_key", IRIS_INT }, { "owner", IRIS_INT } },
};
struct iris_query notice_query_open = {
	.name = "bubbles.notice_open", .table = "bubble_notices", .key = "room_key member_key",
	.sql = "SELECT room_key, member_key, room, kind, outside, tries, generation, address, "
	       "member, former FROM bubble_notices WHERE room_key = $1 AND member_key = $2",
	.params = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT } },
	.columns = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT }, { "room", IRIS_INT },
		     { "kind", IRIS_INT }, { "outside", IRIS_INT }, { "tries", IRIS_INT },
		     { "generation", IRIS_INT }, { "address", IRIS_SEALED },
		     { "member", IRIS_SEALED }, { "former", IRIS_SEALED } },
};
struct iris_query notice_query_rooms = {
	.name = "bubbles.notice_rooms", .table = "bubble_notices",
	.sql = "SELECT room_key, member_key, owner FROM bubble_notices "
	       "WHERE room_key > $1 AND due <= $2 ORDER BY room_key, member_key LIMIT 1",
	.params = { { "after", IRIS_INT }, { "due", IRIS_INT } },
	.columns = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT },
		     { "owner", IRIS_INT } },
};
struct iris_query notice_query_done = {
	.name = "bubbles.notice_done", .table = "bubble_notices", .write = true,
	.sql = "DELETE FROM bubble_notices WHERE room_key = $1 AND member_key = $2 "
	       "AND generation = $3",
	.params = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT },
		    { "generation", IRIS_INT } },
};
struct iris_query notice_query_put_off = {
	.name = "bubbles.notice_put_off", .table = "bubble_notices", .write = true,
	.sql = "UPDATE bubble_notices SET due = $4, tries = tries + 1 "
	       "WHERE room_key = $1 AND member_key = $2 AND generation = $3",
	.params = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT },
		    { "generation", IRIS_INT }, { "due", IRIS_INT } },
};
struct iris_query notice_query_force = {
	.name = "bubbles.notice_force", .table = "bubble_notices", .write = true,
	.sql = "UPDATE bubble_notices SET former = NULL WHERE room_key = $1 AND member_key = $2",
	.params = { { "room_key", IRIS_INT }, { "member_key", IRIS_INT } },
};
struct iris_query notice_query_wake = {
	.name = "bubbles.notices_wake", .table = "bubble_notices", .write = true,
	.sql = "UPDATE bubble_notices SET due = 0 WHERE due > 0",
};
struct iris_query notice_query_deleted = {
	.name = "bubbles.notices_deleted", .table = "bubble_notices", .write = true,
	.sql = "UPDATE bubble_notices SET due = 0 WHERE room_key = $1 AND kind = 1",
	.params = { { "room_key", IRIS_INT } },
};
struct iris_query notice_query_forget = {
	.name = "bubbles.notices_forget", .table = "bubble_notices", .write = true,
	.sql = "DELETE FROM bubble_notices WHERE member_key = $1",
	.params = { { "member_key", IRIS_INT } },
};

static int64_t
member_key(const struct iris_jid *member)
{
	return jid_is_none(member) ? 0 : vault_peer_id(jid_bare(member));
}

static struct iris_str
bare_text(const struct iris_jid *jid)
{
	return jid_is_none(jid) ? IRIS_STR_NONE : jid_bare(jid);
}

void
notice_values_make(const struct notice *notice, int64_t due, struct notice_values *values_r)
{
	*values_r = (struct notice_values){ {
		value_int(vault_peer_id(jid_bare(&notice->address))),
		value_int(member_key(&notice->member)),
		value_int(notice->room),
		value_int(notice->owner),
		value_int(notice->kind),
		value_int(notice->is_outside),
		value_int(due),
		value_str(jid_bare(&notice->address)),
		value_str(bare_text(&notice->member)),
		value_str(notice->former),
	} };
}

bool
notice_post(const struct notice *notice, int64_t due)
{
	struct notice_values values;

	notice_values_make(notice, due, &values);
	return vault_post(&notice_query_put, notice->owner, values.values, NULL) == IRIS_VAULT_OK;
}

static struct notice
notice_from(const struct iris_rows *rows, iris_owner owner)
{
	struct notice notice = {
		.room = row_value(rows, 0, 2)->number,
		.owner = owner,
		.kind = (enum notice_kind)row_value(rows, 0, 3)->number,
		.is_outside = row_value(rows, 0, 4)->number != 0,
		.tries = (unsigned)row_value(rows, 0, 5)->number,
		.generation = row_value(rows, 0, 6)->number,
		.address = jid_from_prepared(row_value(rows, 0, 7)->bytes),
		.former = row_value(rows, 0, 9)->bytes,
	};

	if (row_value(rows, 0, 1)->number != 0)
		notice.member = jid_from_prepared(row_value(rows, 0, 8)->bytes);
	return notice;
}

/* Rows of one owner, in one trip. Those that are gone meanwhile are left out. */
static bool
notices_open(int64_t room_key, const struct iris_rows *keys, size_t first, size_t end,
	     struct notice_list *list)
{
	iris_owner owner = (iris_owner)row_value(keys, first, 1)->number;
	struct iris_question questions[NOTICE_PAGE];
	struct iris_value params[NOTICE_PAGE][2];

	for (size_t i = first; i < end; i++) {
		params[i - first][0] = value_int(room_key);
		params[i - first][1] = value_int(row_value(keys, i, 0)->number);
		questions[i - first] =
			(struct iris_question){ &notice_query_open, params[i - first], { 0 } };
	}
	if (vault_ask(questions, end - first, owner, list->arena) != IRIS_VAULT_OK)
		return false;
	for (size_t i = first; i < end; i++)
		if (questions[i - first].rows.count > 0)
			list->notices[list->count++] =
				notice_from(&questions[i - first].rows, owner);
	return true;
}

bool
notice_rows_due(const struct iris_jid *address, struct notice_list *list)
{
	int64_t key = vault_peer_id(jid_bare(address));
	struct iris_rows rows;
	bool opened = true;

	list->count = 0;
	if (vault_read(&notice_query_due, 0,
		       VALUES(value_int(key), value_int(worker_wall_ms()),
			      value_int(NOTICE_PAGE)),
		       list->arena, &rows) != IRIS_VAULT_OK)
		return false;
	list->is_full = rows.count == NOTICE_PAGE;
	for (size_t first = 0, end; first < rows.count && opened; first = end) {
		for (end = first + 1; end < rows.count && row_value(&rows, end, 1)->number ==
							       row_value(&rows, first, 1)->number;)
			end++;
		opened = notices_open(key, &rows, first, end, list);
	}
	return opened;
}

bool
notice_done(const struct notice *notice)
{
	return vault_post(&notice_query_done, notice->owner,
			  VALUES(value_int(vault_peer_id(jid_bare(&notice->address))),
				 value_int(member_key(&notice->member)),
				 value_int(notice->generation)),
			  NULL) == IRIS_VAULT_OK;
}

bool
notice_put_off(const struct notice *notice, int64_t due)
{
	return vault_post(&notice_query_put_off, notice->owner,
			  VALUES(value_int(vault_peer_id(jid_bare(&notice->address))),
				 value_int(member_key(&notice->member)),
				 value_int(notice->generation), value_int(due)),
			  NULL) == IRIS_VAULT_OK;
}

bool
notices_deleted(const struct iris_jid *address)
{
	return vault_post(&notice_query_deleted, IRIS_OWNER_DEFAULT,
			  VALUES(value_int(vault_peer_id(jid_bare(address)))),
			  NULL) == IRIS_VAULT_OK;
}

bool
notice_force(const struct notice *notice)
{
	return vault_write(&notice_query_force, notice->owner,
			   VALUES(value_int(vault_peer_id(jid_bare(&notice->address))),
				  value_int(member_key(&notice->member))),
			   NULL) == IRIS_VAULT_OK;
}

/* What cannot be opened (its company's keys are gone) is passed over. */
static struct iris_jid
address_of(const struct iris_rows *keys, struct iris_arena *arena)
{
	struct iris_rows rows;

	if (vault_read(&notice_query_open, (iris_owner)row_value(keys, 0, 2)->number,
		       VALUES(*row_value(keys, 0, 0), *row_value(keys, 0, 1)), arena,
		       &rows) != IRIS_VAULT_OK ||
	    rows.count == 0)
		return IRIS_JID_NONE;
	return jid_from_prepared(row_value(&rows, 0, 7)->bytes);
}

bool
notice_rows_next(int64_t *after_key, struct iris_arena *arena, struct iris_jid *address_r)
{
	struct iris_rows rows;

	do {
		if (vault_read(&notice_query_rooms, 0,
			       VALUES(value_int(*after_key), value_int(worker_wall_ms())), arena,
			       &rows) != IRIS_VAULT_OK)
			return false;
		*address_r = IRIS_JID_NONE;
		if (rows.count == 0)
			return true;
		*after_key = row_value(&rows, 0, 0)->number;
		*address_r = address_of(&rows, arena);
	} while (jid_is_none(address_r));
	return true;
}
