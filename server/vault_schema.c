/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema: which migrations ran (table schema_migrations), running those that are missing,
 * refusing to start when the store and the program do not fit.  Main thread, blocking.
 * Does not know what the migrations contain; see schemas/sql/README.md.
 */
#include <stdlib.h>
#include <time.h>

#include "vault_private.h"

/* --- rows of blocking queries --- */

void
rows_read_begin(struct rows_reader *reader, const struct vault_rows *rows)
{
	reader->at = rows->base;
	reader->end = rows->base ? rows->base + rows->len : NULL;
}

struct iris_value
rows_read(struct rows_reader *reader)
{
	struct iris_value value = { .type = IRIS_TYPE_NONE };
	IRIS_ASSERT(reader->at < reader->end);
	char kind = *reader->at++;

	if (kind == 'n')
		return value;
	memcpy(&value.number, reader->at, sizeof(value.number));
	reader->at += sizeof(value.number);
	value.type = IRIS_INT;
	if (kind == 'i')
		return value;
	value.type = IRIS_BLOB;
	value.bytes = (struct iris_str){ reader->at, (size_t)value.number };
	value.number = 0;
	reader->at += value.bytes.len;
	return value;
}

bool
schema_read_int(const struct iris_vault_engine *engine, const char *sql, int64_t *value_r,
		struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	bool ok = engine->query(sql, NULL, 0, &rows, error);

	if (ok && rows.count != 1)
		ok = error_set(error, "The vault's own tables are damaged"),
		error_detail(error, "%s: %zu rows instead of 1", sql, rows.count);
	if (ok) {
		struct rows_reader reader;
		rows_read_begin(&reader, &rows);
		*value_r = rows_read(&reader).number;
	}
	rows_free(&rows);
	return ok;
}

/* --- the dialect's words --- */

static const char *
dialect_word(const struct vault_dialect *dialect, struct iris_str word)
{
	if (str_is(word, "id"))
		return dialect->id;
	if (str_is(word, "bytes"))
		return dialect->bytes;
	if (str_is(word, "int"))
		return dialect->integer;
	if (str_is(word, "table"))
		return dialect->table;
	if (str_is(word, "narrow"))
		return dialect->narrow;
	if (str_is(word, "monthly"))
		return dialect->monthly;
	return NULL;
}

/* malloc'ed; NULL when a word in braces is unknown. */
static char *
dialect_translate(const struct vault_dialect *dialect, const char *sql)
{
	size_t cap = strlen(sql) * 8 + 1, len = 0; /* no word grows more than eightfold */
	char *out = iris_malloc(cap);

	while (*sql) {
		const char *end = *sql == '{' ? strchr(sql, '}') : NULL;
		if (!end) {
			out[len++] = *sql++;
			continue;
		}
		const char *word = dialect_word(
			dialect, (struct iris_str){ sql + 1, (size_t)(end - sql - 1) });
		if (!word) {
			free(out);
			return NULL;
		}
		size_t word_len = strlen(word);
		IRIS_ASSERT(len + word_len < cap);
		memcpy(out + len, word, word_len);
		len += word_len;
		sql = end + 1;
	}
	out[len] = '\0';
	return out;
}

static bool
schema_script(const struct iris_vault_engine *engine, const char *sql, struct iris_error *error)
{
	char *translated = dialect_translate(engine->dialect, sql);

	if (!translated)
		return error_set(error, "A migration has an unknown word in braces");
	bool ok = engine->script(translated, error);
	free(translated);
	return ok;
}

/* --- what ran, what is missing --- */

static const struct vault_migration *
migration_find(int64_t number)
{
	for (const struct vault_migration *m = vault_migrations; m->number; m++)
		if (m->number == number)
			return m;
	return NULL;
}

/*
 * applied[i] tells whether vault_migrations[i] ran; fails for one that this program does not know.
 */
static bool
schema_load_applied(const struct iris_vault_engine *engine, bool *applied, size_t count,
		    struct iris_error *error)
{
	struct vault_rows rows = { .base = NULL };
	struct rows_reader reader;
	bool ok = engine->query("SELECT number FROM schema_migrations ORDER BY number", NULL, 0,
				&rows, error);

	memset(applied, 0, count * sizeof(*applied));
	rows_read_begin(&reader, &rows);
	for (size_t i = 0; ok && i < rows.count; i++) {
		int64_t number = rows_read(&reader).number;
		const struct vault_migration *m = migration_find(number);
		if (m) {
			applied[m - vault_migrations] = true;
			continue;
		}
		ok = error_set(error, "The store was written by a newer version of this program");
		error_detail(error, "it has migration %04d, which this version does not know",
			     (int)number);
		error_hint(error, "Install that version again; a store is never taken back");
	}
	rows_free(&rows);
	return ok;
}

static size_t
migration_count(void)
{
	size_t count = 0;
	while (vault_migrations[count].number)
		count++;
	return count;
}

bool
schema_is_absent(const struct iris_vault_engine *engine, bool *absent_r, struct iris_error *error)
{
	int64_t count;
	/* The one table that must exist before anything can be asked of it. */
	if (!schema_script(engine,
			   "CREATE TABLE IF NOT EXISTS schema_migrations (number {int} NOT NULL "
			   "PRIMARY KEY, "
			   "name TEXT NOT NULL, applied {int} NOT NULL) {table}",
			   error) ||
	    !schema_read_int(engine, "SELECT count(*) FROM schema_migrations", &count, error))
		return false;
	*absent_r = count == 0;
	return true;
}

bool
schema_check_version(const struct iris_vault_engine *engine, struct iris_error *error)
{
	size_t count = migration_count(), missing = 0;
	bool *applied = iris_calloc(count + 1, sizeof(*applied)), absent = false;
	bool ok = schema_is_absent(engine, &absent, error) &&
		  schema_load_applied(engine, applied, count, error);

	for (size_t i = 0; ok && i < count; i++)
		missing += !applied[i];
	free(applied);
	if (ok && absent) {
		ok = error_set(error, "The store is empty");
		error_hint(error, "irisctl init");
	} else if (ok && missing) {
		ok = error_set(error, "The store's schema is older than this program");
		error_detail(error, "%zu of %zu migrations have not run", missing, count);
		error_hint(error, "irisctl db upgrade");
	}
	return ok;
}

bool
schema_check(const struct iris_vault_engine *engine, struct iris_error *error)
{
	return schema_check_version(engine, error) && copy_check_finished(engine, error);
}

static bool
migration_run(const struct iris_vault_engine *engine, const struct vault_migration *m,
	      struct iris_error *error)
{
	const struct iris_value row[] = { value_int(m->number), value_str(str_from(m->name)),
					  value_int((int64_t)time(NULL) * 1000) };
	struct iris_error ignored;

	if (!engine->script("BEGIN", error))
		return false;
	if (schema_script(engine, m->sql, error) &&
	    engine->query(
		    "INSERT INTO schema_migrations (number, name, applied) VALUES ($1, $2, $3)",
		    row, IRIS_COUNT(row), NULL, error) &&
	    engine->script("COMMIT", error))
		return true;
	struct iris_error cause = *error;
	(void)engine->script("ROLLBACK", &ignored);
	error_set(error, "Migration %04u_%s failed: %.180s", m->number, m->name, cause.message);
	error_detail(error, "%.500s", cause.detail);
	return error_hint(error, "The store is unchanged");
}

bool
schema_upgrade(const struct iris_vault_engine *engine, unsigned *applied_r,
	       struct iris_error *error)
{
	size_t count = migration_count();
	bool *applied = iris_calloc(count + 1, sizeof(*applied)), absent;
	bool ok = schema_is_absent(engine, &absent, error) &&
		  schema_load_applied(engine, applied, count, error);

	*applied_r = 0;
	for (size_t i = 0; ok && i < count; i++)
		if (applied[i] && strcmp(vault_migrations[i].name, "copy") == 0)
			ok = copy_check_finished(engine, error);
	for (size_t i = 0; ok && i < count; i++) {
		if (applied[i])
			continue;
		ok = migration_run(engine, &vault_migrations[i], error);
		*applied_r += ok;
	}
	free(applied);
	return ok;
}
