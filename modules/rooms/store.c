/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of modules/rooms, and what reads and writes with them; at the room's home.
 * Addresses, configurations, subjects, nicks and reasons are sealed under the key of the company
 * that owns the room: so a room is first found by a keyed hash of its address, and read then.
 */
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"

/* --- a room --- */

static struct iris_query room_find = {
	.name = "rooms.find", .table = "rooms",
	.sql = "SELECT id, owner FROM rooms WHERE jid_key = $1",
	.params = { { "jid_key", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT } },
};

static struct iris_query room_load = {
	.name = "rooms.load", .table = "rooms", .key = "id",
	.sql = "SELECT id, created, version, config, subject, subject_set FROM rooms "
	       "WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "created", IRIS_INT }, { "version", IRIS_INT },
		     { "config", IRIS_SEALED }, { "subject", IRIS_SEALED },
		     { "subject_set", IRIS_INT } },
};

static struct iris_query room_insert = {
	.name = "rooms.insert", .table = "rooms", .key = "id", .write = true,
	.sql = "INSERT INTO rooms (id, owner, jid_key, host_key, is_public, created, version, "
	       "jid, config, subject_set) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
	.params = { { "id", IRIS_INT }, { "owner", IRIS_INT }, { "jid_key", IRIS_INT },
		    { "host_key", IRIS_INT }, { "is_public", IRIS_INT }, { "created", IRIS_INT },
		    { "version", IRIS_INT }, { "jid", IRIS_SEALED }, { "config", IRIS_SEALED } },
};

static struct iris_query room_update_config = {
	.name = "rooms.configure", .table = "rooms", .key = "id", .write = true,
	.sql = "UPDATE rooms SET config = $2, is_public = $3 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "config", IRIS_SEALED }, { "is_public", IRIS_INT } },
};

static struct iris_query room_update_subject = {
	.name = "rooms.subject", .table = "rooms", .key = "id", .write = true,
	.sql = "UPDATE rooms SET subject = $2, subject_set = $3 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "subject", IRIS_SEALED }, { "subject_set", IRIS_INT } },
};

static struct iris_query room_update_version = {
	.name = "rooms.version", .table = "rooms", .write = true,
	.sql = "UPDATE rooms SET version = $2 WHERE id = $1",
	.params = { { "id", IRIS_INT }, { "version", IRIS_INT } },
};

static struct iris_query room_delete = {
	.name = "rooms.delete", .table = "rooms", .write = true,
	.sql = "DELETE FROM rooms WHERE id = $1",
	.params = { { "id", IRIS_INT } },
};

/* --- who belongs to it --- */

static struct iris_query affiliations_load = {
	.name = "rooms.affiliations", .table = "room_affiliations", .key = "room jid_key",
	.sql = "SELECT room, jid_key, affiliation, version, jid, nick, reason "
	       "FROM room_affiliations WHERE room = $1",
	.params = { { "room", IRIS_INT } },
	.columns = { { "room", IRIS_INT }, { "jid_key", IRIS_INT }, { "affiliation", IRIS_INT },
		     { "version", IRIS_INT }, { "jid", IRIS_SEALED }, { "nick", IRIS_SEALED },
		     { "reason", IRIS_SEALED } },
};

static struct iris_query affiliation_set = {
	.name = "rooms.affiliation_set", .table = "room_affiliations", .key = "room jid_key",
	.write = true,
	.sql = "INSERT INTO room_affiliations (room, jid_key, owner, affiliation, version, jid, "
	       "nick, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
	       "ON CONFLICT (room, jid_key) DO UPDATE SET affiliation = excluded.affiliation, "
	       "version = excluded.version, jid = excluded.jid, nick = excluded.nick, "
	       "reason = excluded.reason",
	.params = { { "room", IRIS_INT }, { "jid_key", IRIS_INT }, { "owner", IRIS_INT },
		    { "affiliation", IRIS_INT }, { "version", IRIS_INT }, { "jid", IRIS_SEALED },
		    { "nick", IRIS_SEALED }, { "reason", IRIS_SEALED } },
};

static struct iris_query affiliation_delete = {
	.name = "rooms.affiliation_delete", .table = "room_affiliations", .write = true,
	.sql = "DELETE FROM room_affiliations WHERE room = $1 AND jid_key = $2",
	.params = { { "room", IRIS_INT }, { "jid_key", IRIS_INT } },
};

static struct iris_query affiliations_delete = {
	.name = "rooms.affiliations_delete", .table = "room_affiliations", .write = true,
	.sql = "DELETE FROM room_affiliations WHERE room = $1",
	.params = { { "room", IRIS_INT } },
};

static struct iris_query affiliations_owned = {
	.name = "rooms.owned", .table = "room_affiliations",
	.sql = "SELECT COUNT(*) FROM room_affiliations WHERE jid_key = $1 AND affiliation = $2",
	.params = { { "jid_key", IRIS_INT }, { "affiliation", IRIS_INT } },
	.columns = { { "count", IRIS_INT } },
};

/* The rooms of an address, from this one on. */
static struct iris_query affiliations_of = {
	.name = "rooms.of", .table = "room_affiliations",
	.sql = "SELECT a.room, r.owner, a.affiliation FROM room_affiliations a "
	       "JOIN rooms r ON r.id = a.room "
	       "WHERE a.jid_key = $1 AND a.room > $2 ORDER BY a.room LIMIT $3",
	.params = { { "jid_key", IRIS_INT }, { "after", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "room", IRIS_INT }, { "owner", IRIS_INT }, { "affiliation", IRIS_INT } },
};

/* --- what may be seen of a service: public rooms, and those one belongs to --- */

#define LIST_PUBLIC(range_, order_)                                                          \
	"SELECT id, owner FROM (SELECT id, owner FROM rooms WHERE host_key = $1 "            \
	"AND is_public = 1 AND id " range_ " $2 ORDER BY id " order_ " LIMIT $4) AS p "
#define LIST_OWN(range_, order_)                                                             \
	"SELECT id, owner FROM (SELECT r.id, r.owner FROM room_affiliations a "              \
	"JOIN rooms r ON r.id = a.room WHERE a.jid_key = $3 AND a.affiliation >= 2 "         \
	"AND r.host_key = $1 AND r.id " range_ " $2 ORDER BY r.id " order_ " LIMIT $4) AS o "
#define LIST(range_, order_)                                                                 \
	LIST_PUBLIC(range_, order_) "UNION " LIST_OWN(range_, order_)                        \
	"ORDER BY id " order_ " LIMIT $4"
#define LIST_FIELDS                                                                          \
	.params = { { "host_key", IRIS_INT }, { "from", IRIS_INT }, { "jid_key", IRIS_INT }, \
		    { "limit", IRIS_INT } },                                                 \
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT } }

static struct iris_query list_after = {
	.name = "rooms.list_after", .table = "rooms", .sql = LIST(">", "ASC"), LIST_FIELDS,
};

static struct iris_query list_before = {
	.name = "rooms.list_before", .table = "rooms", .sql = LIST("<", "DESC"), LIST_FIELDS,
};

static struct iris_query list_hidden = {
	.name = "rooms.list_hidden", .table = "rooms",
	.sql = "SELECT id, owner FROM rooms WHERE host_key = $1 AND is_public = 0 AND id > $2 "
	       "ORDER BY id LIMIT $3",
	.params = { { "host_key", IRIS_INT }, { "after", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "owner", IRIS_INT } },
};

static struct iris_query list_open = {
	.name = "rooms.list_open", .table = "rooms", .key = "id",
	.sql = "SELECT id, jid, config FROM rooms WHERE id = $1",
	.params = { { "id", IRIS_INT } },
	.columns = { { "id", IRIS_INT }, { "jid", IRIS_SEALED }, { "config", IRIS_SEALED } },
};

struct iris_query *const rooms_queries[] = {
	&room_find, &room_load, &room_insert, &room_update_config, &room_update_subject,
	&room_update_version, &room_delete, &affiliations_load, &affiliation_set,
	&affiliation_delete, &affiliations_delete, &affiliations_owned, &affiliations_of,
	&list_after, &list_before, &list_hidden, &list_open,
	&room_vcard_load_query, &room_vcard_hashes_query, &room_vcard_store_query,
	&room_vcard_drop_query, &erasure_insert_query, &erasure_next_query, &erasure_end_query,
	NULL,
};

/* --- loading --- */

/* The subject as it was sent to all; one that cannot be read is none. */
static struct iris_stanza *
subject_from(struct iris_str xml)
{
	struct iris_stanza *stanza, *compact;
	const char *condition = NULL;
	struct iris_arena *arena;
	struct iris_element *root;

	if (str_is_empty(xml))
		return NULL;
	arena = arena_new();
	root = element_parse(arena, xml);
	stanza = root ? stanza_from_element(arena, root, &condition) : NULL;
	if (!stanza) {
		arena_unref(&arena);
		return NULL;
	}
	compact = stanza_compact(stanza);
	stanza_unref(&stanza);
	return compact;
}

static void
take_affiliations(struct room *room, const struct iris_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		int64_t affiliation = row_value(rows, i, 2)->number;
		struct iris_jid jid = jid_from_prepared(row_value(rows, i, 4)->bytes);

		if (affiliation >= ROOM_OUTCAST && affiliation < ROOM_AFFILIATION_COUNT)
			room_affiliate_set(room, &jid, (enum room_affiliation)affiliation,
					   row_value(rows, i, 5)->bytes,
					   row_value(rows, i, 6)->bytes,
					   row_value(rows, i, 3)->number);
	}
}

static bool
load_room(struct room *room, struct iris_arena *arena, bool *exists_r)
{
	const struct iris_value *id = VALUES(value_int(room->id));
	struct iris_question questions[] = { { &room_load, id, { 0 } },
					     { &affiliations_load, id, { 0 } },
					     { &room_vcard_hashes_query, id, { 0 } } };
	const struct iris_rows *rows = &questions[0].rows;

	if (vault_ask(questions, IRIS_COUNT(questions), room->owner, arena) != IRIS_VAULT_OK)
		return false;
	*exists_r = rows->count > 0;
	if (rows->count == 0)
		return true;
	room->created_ms = row_value(rows, 0, 1)->number;
	room->version = row_value(rows, 0, 2)->number;
	room_config_init(&room->config, row_value(rows, 0, 3)->bytes);
	room->subject.message = subject_from(row_value(rows, 0, 4)->bytes);
	room->subject.time_ms = row_value(rows, 0, 5)->number;
	take_affiliations(room, &questions[1].rows);
	if (questions[2].rows.count > 0)
		room_vcard_take(room, row_value(&questions[2].rows, 0, 1)->bytes);
	return true;
}

bool
store_room_load(struct room *room, bool *exists_r)
{
	int64_t key = vault_peer_id(jid_bare(&room->jid));
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	bool loaded;

	*exists_r = false;
	loaded = vault_read(&room_find, 0, VALUES(value_int(key)), arena, &rows) == IRIS_VAULT_OK;
	if (loaded && rows.count > 0) {
		room->id = row_value(&rows, 0, 0)->number;
		room->owner = (iris_owner)row_value(&rows, 0, 1)->number;
		loaded = load_room(room, arena, exists_r);
	}
	arena_unref(&arena);
	return loaded;
}

/* --- writing --- */

static void
batch_add_affiliate(struct iris_batch *batch, const struct room *room,
		    const struct room_affiliate_change *item, int64_t version)
{
	int64_t key = vault_peer_id(jid_bare(&item->jid));

	if (item->after == ROOM_NONE && str_is_empty(item->nick))
		batch_add(batch, &affiliation_delete,
			  VALUES(value_int(room->id), value_int(key)));
	else
		batch_add(batch, &affiliation_set,
			  VALUES(value_int(room->id), value_int(key), value_int(room->owner),
				 value_int(item->after), value_int(version),
				 value_str(jid_bare(&item->jid)), value_str(item->nick),
				 value_str(item->reason)));
}

bool
store_room_insert(struct room *room)
{
	struct iris_batch *batch = batch_new(room->owner);
	struct iris_arena *arena = arena_new();

	batch_add(batch, &room_insert,
		  VALUES(value_int(room->id), value_int(room->owner),
			 value_int(vault_peer_id(jid_bare(&room->jid))),
			 value_int(vault_peer_id(jid_domain(&room->jid))),
			 value_int(room->config.numbers[ROOM_CONFIG_PUBLIC] != 0),
			 value_int(room->created_ms), value_int(room->version),
			 value_str(jid_bare(&room->jid)),
			 value_str(room_config_write(arena, &room->config))));
	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		batch_add_affiliate(batch, room,
				    &(struct room_affiliate_change){
					    .jid = affiliate->jid,
					    .after = affiliate->affiliation,
					    .nick = str_from(affiliate->nick),
					    .reason = str_from(affiliate->reason) },
				    affiliate->version);
	}
	arena_unref(&arena);
	return batch_write(&batch) == IRIS_VAULT_OK;
}

bool
store_room_configure(struct room *room, const struct room_config *config)
{
	struct iris_arena *arena = arena_new();
	bool stored = vault_write(&room_update_config, room->owner,
				  VALUES(value_int(room->id),
					 value_str(room_config_write(arena, config)),
					 value_int(config->numbers[ROOM_CONFIG_PUBLIC] != 0)),
				  NULL) == IRIS_VAULT_OK;

	arena_unref(&arena);
	return stored;
}

bool
store_room_subject(const struct room *room, struct iris_str xml, int64_t time_ms,
		   struct iris_ticket *ticket)
{
	return vault_post(&room_update_subject, room->owner,
			  VALUES(value_int(room->id), value_str(xml), value_int(time_ms)),
			  ticket) == IRIS_VAULT_OK;
}

bool
store_room_change(const struct room_change *change, int64_t version)
{
	const struct room *room = change->room;
	struct iris_batch *batch = batch_new(room->owner);

	for (size_t i = 0; i < change->count; i++)
		batch_add_affiliate(batch, room, &change->items[i], version);
	batch_add(batch, &room_update_version,
		  VALUES(value_int(room->id), value_int(version)));
	return batch_write(&batch) == IRIS_VAULT_OK;
}

/* --- going --- */

/* All rows at once, so that the name is free; what was said follows (erasure.c). */
bool
store_room_erase(const struct room *room)
{
	const struct iris_value *id = VALUES(value_int(room->id));
	struct iris_batch *batch = batch_new(room->owner);

	batch_add(batch, &affiliations_delete, id);
	batch_add(batch, &room_vcard_drop_query, id);
	batch_add(batch, &room_delete, id);
	erasure_add(batch, room);
	if (batch_write(&batch) != IRIS_VAULT_OK)
		return false;
	erasures_wake();
	return true;
}

/* --- finding several --- */

int64_t
store_rooms_owned(const struct iris_jid *bare)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	int64_t count = -1;

	if (vault_read(&affiliations_owned, 0,
		       VALUES(value_int(vault_peer_id(jid_bare(bare))), value_int(ROOM_OWNER)),
		       arena, &rows) == IRIS_VAULT_OK)
		count = row_value(&rows, 0, 0)->number;
	arena_unref(&arena);
	return count;
}

/* One trip for those of one company that stand together. */
static bool
listed_open(struct iris_arena *arena, struct room_listed *rooms, size_t count)
{
	struct iris_question *questions = arena_alloc(arena, count * sizeof(*questions));
	struct iris_value *ids = arena_alloc(arena, count * sizeof(*ids));

	for (size_t first = 0, end; first < count; first = end) {
		for (end = first; end < count && rooms[end].owner == rooms[first].owner; end++) {
			ids[end] = value_int(rooms[end].id);
			questions[end] = (struct iris_question){ &list_open, &ids[end], { 0 } };
		}
		if (vault_ask(&questions[first], end - first, rooms[first].owner, arena) !=
		    IRIS_VAULT_OK)
			return false;
		for (size_t i = first; i < end; i++) {
			const struct iris_rows *rows = &questions[i].rows;

			if (rows->count == 0) /* gone meanwhile */
				continue;
			rooms[i].jid = jid_from_prepared(row_value(rows, 0, 1)->bytes);
			rooms[i].config = row_value(rows, 0, 2)->bytes;
		}
	}
	return true;
}

static enum iris_vault_result
list_read(const struct room_list_query *query, struct iris_arena *arena, struct iris_rows *rows_r)
{
	int64_t host = vault_peer_id(jid_domain(&query->service->jid));
	int64_t limit = (int64_t)query->limit;

	if (query->hidden)
		return vault_read(&list_hidden, 0,
				  VALUES(value_int(host), value_int(query->from),
					 value_int(limit)),
				  arena, rows_r);
	return vault_read(query->backwards ? &list_before : &list_after, 0,
			  VALUES(value_int(host), value_int(query->from),
				 value_int(vault_peer_id(jid_bare(&query->asker))),
				 value_int(limit)),
			  arena, rows_r);
}

bool
store_rooms_list(const struct room_list_query *query, struct iris_arena *arena,
		 struct room_listed **rooms_r, size_t *count_r)
{
	struct iris_rows rows;
	struct room_listed *rooms;

	if (list_read(query, arena, &rows) != IRIS_VAULT_OK)
		return false;
	*rooms_r = rooms = arena_alloc(arena, rows.count * sizeof(*rooms));
	*count_r = rows.count;
	for (size_t i = 0; i < rows.count; i++) {
		struct room_listed *room =
			&rooms[query->backwards ? rows.count - 1 - i : i];

		room->id = row_value(&rows, i, 0)->number;
		room->owner = (iris_owner)row_value(&rows, i, 1)->number;
	}
	return listed_open(arena, rooms, rows.count);
}

bool
store_room_find(const struct iris_jid *bare, int64_t *id_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	bool read = vault_read(&room_find, 0, VALUES(value_int(vault_peer_id(jid_bare(bare)))),
			       arena, &rows) == IRIS_VAULT_OK;

	*id_r = read && rows.count > 0 ? row_value(&rows, 0, 0)->number : 0;
	arena_unref(&arena);
	return read;
}

bool
store_rooms_of(const struct iris_jid *bare, int64_t after, struct iris_arena *arena,
	       struct room_listed *rooms_r, size_t limit, size_t *count_r)
{
	struct iris_rows rows;

	if (vault_read(&affiliations_of, 0,
		       VALUES(value_int(vault_peer_id(jid_bare(bare))), value_int(after),
			      value_int((int64_t)limit)),
		       arena, &rows) != IRIS_VAULT_OK)
		return false;
	*count_r = rows.count;
	for (size_t i = 0; i < rows.count; i++)
		rooms_r[i] = (struct room_listed){
			.id = row_value(&rows, i, 0)->number,
			.owner = (iris_owner)row_value(&rows, i, 1)->number,
			.affiliation = (enum room_affiliation)row_value(&rows, i, 2)->number,
		};
	return listed_open(arena, rooms_r, rows.count);
}
