/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `key list|rotate|destroy` (P7.3), for operators.  On a fiber of the worker where the command came
 * in.  What they do is done in vault_keys.c and vault_reseal.c.
 */
#include "iris/log.h"
#include "vault_private.h"

#define LIST_PAGE "200"
#define LIST_MAX 1000

static const char *const key_states[] = { "?", "seals", "opens", "destroyed" };

static struct iris_query key_list_query = {
	.name = "vault.key_list",
	.table = "vault_keys",
	.sql = "SELECT k.id, k.owner, coalesce(o.name, ''), k.purpose, k.state, k.created "
	       "FROM vault_keys k LEFT JOIN vault_owners o ON o.owner = k.owner "
	       "WHERE k.id > $1 ORDER BY k.id LIMIT $2",
	.params = { { "after", IRIS_INT }, { "limit", IRIS_INT } },
	.columns = { { "id", IRIS_INT },
		     { "owner", IRIS_INT },
		     { "name", IRIS_TEXT },
		     { "purpose", IRIS_TEXT },
		     { "state", IRIS_INT },
		     { "created", IRIS_INT } },
};

bool
key_commands_open(struct iris_error *error)
{
	return statement_register(&key_list_query, error);
}

static void
refuse(struct iris_command_call *call, enum iris_condition condition, const char *text)
{
	call->refusal = (struct iris_refusal){ .condition = condition, .text = text };
}

/* True: the vault did it. */
static bool
succeeded(struct iris_command_call *call, enum iris_vault_result result)
{
	switch (result) {
	case IRIS_VAULT_OK:
		return true;
	case IRIS_VAULT_BUSY:
		refuse(call, IRIS_RESOURCE_CONSTRAINT,
		       "Keys are being changed already; try again in a moment");
		break;
	case IRIS_VAULT_REFUSED:
		refuse(call, IRIS_ITEM_NOT_FOUND, "There is no owner with this number");
		break;
	case IRIS_VAULT_ERASED:
		refuse(call, IRIS_GONE, "The keys of this owner were destroyed");
		break;
	case IRIS_VAULT_FAILED:
		refuse(call, IRIS_INTERNAL_SERVER_ERROR, "The keys could not be written");
		break;
	}
	return false;
}

/* --- key list --- */

enum { LIST_AFTER, LIST_LIMIT };

static const struct iris_command_field list_fields[] = {
	{ "after", IRIS_FIELD_INT, .fallback = "0", .label = "Go on behind this key" },
	{ "limit", IRIS_FIELD_INT, .fallback = LIST_PAGE, .label = "How many" },
	{ .name = NULL },
};

static void
list_add(struct iris_command_call *call, const struct iris_value *row)
{
	int64_t state = row[4].number;
	bool known = state > 0 && state < (int64_t)IRIS_COUNT(key_states);

	command_row(call, (struct iris_str[]){
				  arena_printf(call->arena, "%lld", (long long)row[0].number),
				  arena_printf(call->arena, "%lld", (long long)row[1].number),
				  row[2].bytes, row[3].bytes,
				  str_from(key_states[known ? state : 0]),
				  datetime_format(call->arena, row[5].number) });
}

static void
key_list(struct iris_command_call *call)
{
	static const char *const columns[] = { "key",	"owner", "name", "purpose",
					       "state", "made",	 NULL };
	int64_t after, limit;
	struct iris_rows rows;

	if (!str_to_int(call->values[LIST_AFTER], 0, UINT32_MAX, &after) ||
	    !str_to_int(call->values[LIST_LIMIT], 1, LIST_MAX, &limit)) {
		refuse(call, IRIS_BAD_REQUEST, "after and limit are numbers, limit 1 to 1000");
		return;
	}
	if (!succeeded(call, vault_read(&key_list_query, VAULT_OWNER_REGION,
					VALUES(value_int(after), value_int(limit)), call->arena,
					&rows)))
		return;
	command_table(call, columns);
	for (size_t i = 0; i < rows.count; i++)
		list_add(call, row_value(&rows, i, 0));
	if ((int64_t)rows.count == limit)
		call->note = IRIS_STR("There may be more; go on with --after");
}

/* --- key rotate --- */

enum { ROTATE_OWNER, ROTATE_MASTER };

static const struct iris_command_field rotate_fields[] = {
	{ "owner", IRIS_FIELD_INT, .label = "Number of the owner (key list)" },
	{ "master", IRIS_FIELD_TEXT,
	  .label = "File with the new master key; it is made when it is not there" },
	{ .name = NULL },
};

static bool
owner_read(struct iris_command_call *call, struct iris_str text, iris_owner *owner_r)
{
	int64_t number;

	if (!str_to_int(text, 1, UINT32_MAX, &number)) {
		refuse(call, IRIS_BAD_REQUEST, "The owner is a number");
		return false;
	}
	*owner_r = (iris_owner)number;
	return true;
}

static void
rotate_master(struct iris_command_call *call, struct iris_str path)
{
	struct iris_error error;
	struct iris_str text = arena_copy_str(call->arena, path);

	if (text.base[0] != '/') {
		refuse(call, IRIS_BAD_REQUEST, "Name the file with its whole path");
		return;
	}
	enum iris_vault_result result = vault_master_change(text.base, &error);
	if (result == IRIS_VAULT_FAILED && error.message[0])
		refuse(call, IRIS_INTERNAL_SERVER_ERROR,
		       arena_printf(call->arena, "%s (%s)", error.message, error.detail).base);
	else if (succeeded(call, result))
		call->note = arena_printf(call->arena,
					  "All keys are wrapped with the key in %s. Set vault: "
					  "master-key: to it before the next start, and keep the "
					  "former one with the backups made until now.",
					  text.base);
}

static void
key_rotate(struct iris_command_call *call)
{
	iris_owner owner;

	if (!str_is_empty(call->values[ROTATE_MASTER])) {
		rotate_master(call, call->values[ROTATE_MASTER]);
		return;
	}
	if (str_is_empty(call->values[ROTATE_OWNER])) {
		refuse(call, IRIS_BAD_REQUEST, "Name an owner, or --master and a file");
		return;
	}
	if (!owner_read(call, call->values[ROTATE_OWNER], &owner) ||
	    !succeeded(call, vault_owner_rotate(owner)))
		return;
	reseal_begin();
	call->note = IRIS_STR("What is written from now on is sealed with the new key; what is "
			      "there is being sealed anew.");
}

/* --- key destroy --- */

static const struct iris_command_field destroy_fields[] = {
	{ "owner", IRIS_FIELD_INT, .required = true, .positional = true,
	  .label = "Number of the owner (key list)" },
	{ .name = NULL },
};

static void
key_destroy(struct iris_command_call *call)
{
	struct iris_error error = { .message = "" };
	iris_owner owner;

	if (!owner_read(call, call->values[0], &owner))
		return;
	if (owner == IRIS_OWNER_DEFAULT) {
		refuse(call, IRIS_NOT_ALLOWED,
		       "This is the region's own company, and your account is of it: to be rid of "
		       "it, stop the server and destroy the master key");
		return;
	}
	enum iris_vault_result result = vault_owner_erase(owner);
	if (result != IRIS_VAULT_ERASED && !succeeded(call, result))
		return;
	LOG(IRIS_LOG_NOTICE, "vault", "keys-destroyed", LOG_INT("owner", owner));
	call->note = IRIS_STR("Nothing of this owner can be read any more, except from backups "
			      "that have its keys, with the master key of their time.");
	if (keys_scrub(&error))
		return;
	LOG(IRIS_LOG_WARNING, "vault", "keys-not-scrubbed", LOG_CSTR("reason", error.message),
	    LOG_CSTR("detail", error.detail));
	call->note = IRIS_STR("Nothing of this owner can be read any more; but the keys, wrapped, "
			      "may still lie in the store's files: see the log. Say it once "
			      "more to try that again.");
}

static const struct iris_command command_key_list = {
	"key", "list", "List the keys that data is sealed with", IRIS_ROLE_OPERATOR,
	.fields = list_fields, .run = key_list,
};
static const struct iris_command command_key_rotate = {
	"key", "rotate", "Give an owner a new key, or the region a new master key",
	IRIS_ROLE_OPERATOR, .fields = rotate_fields, .run = key_rotate,
};
static const struct iris_command command_key_destroy = {
	"key", "destroy", "Destroy the keys of an owner: its data cannot be read any more",
	IRIS_ROLE_OPERATOR, .dangerous = true, .fields = destroy_fields, .run = key_destroy,
};

const struct iris_command *const vault_key_commands[] = {
	&command_key_list, &command_key_rotate, &command_key_destroy, NULL,
};
