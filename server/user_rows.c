/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the modules keep of an account, read in one trip to the vault when its user is loaded: a
 * sign-in costs as many trips as it has steps, not as many as there are modules.  The table is made
 * on the main thread; the reading is done on a fiber of the user's home.
 */
#include <stdlib.h>

#include "im_private.h"
#include "module_private.h"

struct user_rows_list {
	size_t count;
	const struct iris_user_rows *entries[];
};

static _Atomic(struct user_rows_list *) published;

static void *
user_rows_build(const struct module_set *set, struct iris_error *error)
{
	struct user_rows_list *list;
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct iris_user_rows *rows = set->modules[i]->user_rows;

		/* The users who are there already would lack them. */
		if (rows && !set->modules[i]->not_unloadable) {
			error_set(error, "the module %s keeps rows of users, but can be unloaded",
				  set->modules[i]->name);
			return NULL;
		}
		for (; rows && rows->query; rows++)
			count++;
	}
	list = iris_calloc(1, sizeof(*list) + count * sizeof(list->entries[0]));
	for (size_t i = 0; i < set->count; i++)
		for (const struct iris_user_rows *rows = set->modules[i]->user_rows;
		     rows && rows->query; rows++)
			list->entries[list->count++] = rows;
	return list;
}

static void *
user_rows_swap(void *table)
{
	return atomic_exchange(&published, table);
}

bool
user_rows_load(struct iris_user *user)
{
	const struct user_rows_list *list = atomic_load(&published);
	const struct iris_value id = value_int(user->account.id);
	struct iris_arena *arena = arena_new();
	struct iris_question *questions =
		arena_alloc(arena, (list ? list->count : 0) * sizeof(*questions));
	size_t count = list ? list->count : 0;

	/* The list stays: its modules cannot go while the server runs. */
	for (size_t i = 0; i < count; i++)
		questions[i] = (struct iris_question){ list->entries[i]->query, &id, { 0 } };
	bool ok = vault_ask(questions, count, user->account.owner, arena) == IRIS_VAULT_OK;
	for (size_t i = 0; ok && i < count; i++)
		ok = list->entries[i]->take(user, &questions[i].rows);
	arena_unref(&arena);
	return ok;
}

const struct module_table user_rows_table = { "rows of users", user_rows_build, user_rows_swap,
					      free };
