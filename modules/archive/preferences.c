/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an account wants kept (XEP-0441 §2): a default, and addresses that are treated otherwise.
 * Home worker of the account.  One sealed row for each account that has changed anything; its text
 * is a line for the default, and "+address" or "-address" lines.  Loaded with the user.
 * It does not speak the protocol: xep/xep0441_mam_prefs.c does.
 */
#include <stdlib.h>

#include "modules/archive/archive_private.h"

struct prefs_rule {
	struct iris_hash_node node;
	bool always;
	char jid[];
};

static const char *const prefs_names[] = {
	[ARCHIVE_ALWAYS] = "always",
	[ARCHIVE_NEVER] = "never",
	[ARCHIVE_ROSTER] = "roster",
};

struct iris_query archive_prefs_load_query = {
	.name = "archive.prefs_load",
	.table = "archive_prefs",
	.key = "account",
	.sql = "SELECT account, value FROM archive_prefs WHERE account = $1",
	.params = { { "asked", IRIS_INT } },
	.columns = { { "account", IRIS_INT }, { "value", IRIS_SEALED } },
};
struct iris_query archive_prefs_store_query = {
	.name = "archive.prefs_store",
	.table = "archive_prefs",
	.key = "account",
	.write = true,
	.sql = "INSERT INTO archive_prefs (account, value) VALUES ($1, $2) "
	       "ON CONFLICT (account) DO UPDATE SET value = excluded.value",
	.params = { { "account", IRIS_INT }, { "value", IRIS_SEALED } },
};
struct iris_query archive_prefs_erase_query = {
	.name = "archive.prefs_erase",
	.table = "archive_prefs",
	.write = true,
	.sql = "DELETE FROM archive_prefs WHERE account = $1",
	.params = { { "account", IRIS_INT } },
};

/* --- in memory --- */

static void
prefs_add(struct archive_prefs *prefs, struct iris_str jid, bool always)
{
	struct prefs_rule *rule;
	struct iris_hash_node *node = hash_find(&prefs->rules, jid);

	if (node) {
		rule = IRIS_CONTAINER(node, struct prefs_rule, node);
		rule->always = rule->always && always;
		return;
	}
	rule = iris_calloc(1, sizeof(*rule) + jid.len);
	rule->always = always;
	memcpy(rule->jid, jid.base, jid.len);
	hash_insert(&prefs->rules, &rule->node, (struct iris_str){ rule->jid, jid.len });
}

void
archive_prefs_free(struct archive_prefs *prefs)
{
	HASH_FOREACH(node, &prefs->rules) {
		hash_remove(&prefs->rules, node);
		free(IRIS_CONTAINER(node, struct prefs_rule, node));
	}
	hash_free(&prefs->rules);
	*prefs = (struct archive_prefs){ .fallback = ARCHIVE_ALWAYS };
}

/* §2.3.1: an address with a resource is compared as it is, one without after stripping. */
bool
archive_prefs_allow(const struct iris_user *user, const struct archive_prefs *prefs,
		    const struct iris_jid *peer)
{
	struct iris_hash_node *node = hash_find(&prefs->rules, jid_full(peer));

	if (!node)
		node = hash_find(&prefs->rules, jid_bare(peer));
	if (node)
		return IRIS_CONTAINER(node, struct prefs_rule, node)->always;
	if (prefs->fallback != ARCHIVE_ROSTER)
		return prefs->fallback == ARCHIVE_ALWAYS;
	/* Notes to oneself are from nobody who could be in a roster. */
	const struct iris_contact *contact = roster_find(user, jid_bare(peer));
	return (contact && contact->in_roster) || jid_bare_equal(peer, &user->jid);
}

/* --- in the vault --- */

static void
prefs_parse(struct archive_prefs *prefs, struct iris_str text)
{
	while (text.len > 0) {
		const char *end = memchr(text.base, '\n', text.len);
		struct iris_str line = { text.base, end ? (size_t)(end - text.base) : text.len };
		struct iris_str jid = { line.base + 1, line.len - 1 };

		text.base += line.len + (end ? 1 : 0);
		text.len -= line.len + (end ? 1 : 0);
		if (line.len > 1 && (line.base[0] == '+' || line.base[0] == '-')) {
			prefs_add(prefs, jid, line.base[0] == '+');
			continue;
		}
		for (size_t i = 0; i < IRIS_COUNT(prefs_names); i++)
			if (str_is(line, prefs_names[i]))
				prefs->fallback = (enum archive_default)i;
	}
}

static struct iris_str
prefs_write(struct iris_arena *arena, const struct archive_prefs *prefs)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	strbuf_printf(&text, "%s\n", prefs_names[prefs->fallback]);
	HASH_FOREACH(node, &prefs->rules)
		strbuf_printf(&text, "%c%.*s\n",
			      IRIS_CONTAINER(node, struct prefs_rule, node)->always ? '+' : '-',
			      IRIS_STR_FMT(node->key));
	return strbuf_str(&text);
}

bool
archive_prefs_take(struct iris_user *user, const struct iris_rows *rows)
{
	if (rows->count > 0)
		prefs_parse(&archive_of(user)->prefs, row_value(rows, 0, 1)->bytes);
	return true;
}

/* --- what plug-ins call --- */

enum archive_default
archive_prefs_get(struct iris_user *user, void (*fn)(struct iris_str jid, bool always, void *arg),
		  void *arg)
{
	const struct archive_prefs *prefs = &archive_of(user)->prefs;

	HASH_FOREACH(node, &prefs->rules)
		fn(node->key, IRIS_CONTAINER(node, struct prefs_rule, node)->always, arg);
	return prefs->fallback;
}

enum iris_vault_result
archive_prefs_set(struct iris_user *user, enum archive_default fallback,
		  const struct iris_str *always, size_t always_count, const struct iris_str *never,
		  size_t never_count)
{
	struct archive_prefs prefs = { .fallback = fallback }, *held = &archive_of(user)->prefs;
	struct iris_arena *arena = arena_new();
	enum iris_vault_result result;

	for (size_t i = 0; i < always_count; i++)
		prefs_add(&prefs, always[i], true);
	for (size_t i = 0; i < never_count; i++)
		prefs_add(&prefs, never[i], false);
	user_hold(user);
	result = vault_write(&archive_prefs_store_query, user->account.owner,
			     VALUES(value_int(user->account.id),
				    value_str(prefs_write(arena, &prefs))), NULL);
	arena_unref(&arena);
	if (result == IRIS_VAULT_OK) {
		archive_prefs_free(held);
		*held = prefs;
	} else {
		archive_prefs_free(&prefs);
	}
	user_release(&user);
	return result;
}
