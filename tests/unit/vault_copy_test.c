/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/vault_copy.c: values that are easily lost on the way from one engine to the other and back
 * (nothing, empty, negative, larger than a batch), and keys that sort differently by their bytes
 * and by a language.  What happens when it is cut short or tampered with, tests/copy shows.
 */
#include "vault_fixture.h"

#ifdef HAVE_POSTGRESQL
#include "postgresql_cluster.h"

static struct cluster cluster;
static struct vault_fixture fixture;

static const char fill[] =
	"INSERT INTO private_xml (account, name, value) VALUES "
	"(1, 'Z', x'00'), (1, 'a', x''), (1, 'ä', x'ff'), (1, 'É', x'0a'), (1, '', x'5c'), "
	"(1, 'z b', x'27'), (-9223372036854775808, 'least', x'01'), "
	"(9223372036854775807, 'most', x'02');"
	"INSERT INTO vcard (account, value) VALUES (1, zeroblob(6000000)), (2, zeroblob(6000000)), "
	"(3, x'00');"
	"INSERT INTO roster (account, peer, state, jid, contact_name, contact_groups, request) "
	"VALUES "
	"(1, 5, 3, x'01', NULL, x'', NULL), (1, -5, 3, x'02', x'', NULL, x'03')";

static void
die(const struct iris_error *error)
{
	fprintf(stderr, "%s (%s)\n", error->message, error->detail);
	abort();
}

/* A database whose texts are sorted as in a dictionary. */
static void
database_configure(const char *name)
{
	char connect[256];
	const struct postgresql_options options = { .connect = connect,
						    .connect_timeout_ms = 10000,
						    .stall_timeout_ms = 30000 };

	postgresql_say("CREATE DATABASE ", name,
		       " ENCODING 'UTF8' TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' "
		       "LOCALE 'C'");
	(void)snprintf(connect, sizeof(connect), "%s dbname=%s", cluster.connect, name);
	postgresql_configure(&options);
}

static void
count_tables(const struct vault_copy_progress *progress, void *arg)
{
	size_t *counts = arg;

	counts[progress->step] += progress->step <= VAULT_COPY_GOES_ON ||
				  progress->step == VAULT_COPY_ENDS || progress->done;
}

static void
copy_to(const struct iris_vault_engine *to)
{
	const struct iris_vault_engine *from =
		to == &sqlite_engine ? &postgresql_engine : &sqlite_engine;
	size_t counts[VAULT_COPY_ENDS + 1] = { 0 };
	const struct vault_copy_watch watch = { count_tables, counts };
	struct iris_error error = { .message = "" };

	if (!vault_copy_with(from, to, &watch, &error))
		die(&error);
	assert_int_equal(counts[VAULT_COPY_BEGINS], 1);
	assert_int_equal(counts[VAULT_COPY_ENDS], 1);
	assert_true(counts[VAULT_COPY_ROWS] > 10);
	assert_int_equal(counts[VAULT_COPY_ROWS], counts[VAULT_COPY_COMPARES]);
}

/* All rows of a table of the file, in one piece. */
static void
table_read(const char *sql, struct vault_rows *rows_r)
{
	struct iris_error error = { .message = "" };

	*rows_r = (struct vault_rows){ .base = NULL };
	if (!sqlite_engine.open(false, &error) ||
	    !sqlite_engine.query(sql, NULL, 0, rows_r, &error))
		die(&error);
	sqlite_engine.close();
}

static void
test_there_and_back(void **state)
{
	static const char *const tables[] = {
		"SELECT * FROM private_xml ORDER BY account, name",
		"SELECT * FROM vcard ORDER BY account",
		"SELECT * FROM roster ORDER BY account, peer",
		"SELECT * FROM vault_keys ORDER BY id",
		"SELECT * FROM vault_sequences ORDER BY name",
	};
	struct vault_rows before[IRIS_COUNT(tables)], after;

	for (size_t i = 0; i < IRIS_COUNT(tables); i++)
		table_read(tables[i], &before[i]);
	database_configure("there");
	copy_to(&postgresql_engine);
	sqlite_forget(&fixture);
	sqlite_configure_fixture(&fixture);
	copy_to(&sqlite_engine);
	for (size_t i = 0; i < IRIS_COUNT(tables); i++) {
		table_read(tables[i], &after);
		assert_true(after.count > 0);
		assert_int_equal(after.len, before[i].len);
		assert_memory_equal(after.base, before[i].base, after.len);
		rows_free(&after);
		rows_free(&before[i]);
	}
	fixture_open(&fixture); /* with the same master key */
	fixture_close();
}

static void
test_same_engine(void **state)
{
	struct iris_error error = { .message = "" };

	assert_false(vault_copy_with(&sqlite_engine, &sqlite_engine, NULL, &error));
	assert_string_equal(error.message, "The data is kept by sqlite already");
}

static int
setup(void **state)
{
	fixture_make(&fixture);
	fixture_script("DROP TABLE test_rows");
	fixture_script(fill);
	return 0;
}

static int
teardown(void **state)
{
	fixture_remove(&fixture);
	postgresql_configure(NULL);
	return 0;
}
#endif

int
main(void)
{
#ifdef HAVE_POSTGRESQL
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_engine, setup, teardown),
	};

	cluster_find(&cluster);
	if (cluster.programs[0]) {
		cluster_make(&cluster);
		(void)setenv("IRIS_TEST_POSTGRESQL", cluster.connect, 1);
		worker_main_init();
		int failed = cmocka_run_group_tests_name("vault_copy", tests, NULL, NULL);
		worker_main_free();
		cluster_remove(&cluster);
		return failed;
	}
#endif
	printf("1..1\nok 1 - there is no PostgreSQL here, nothing was tested\n");
	return 0;
}
