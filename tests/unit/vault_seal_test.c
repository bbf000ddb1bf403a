/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing and keys: what a record is bound to, what the master key file must be. */
#include <fcntl.h>
#include <sys/stat.h>

#include "vault_fixture.h"

static struct vault_fixture fixture;

static int
setup(void **state)
{
	fixture_make(&fixture);
	fixture_open(&fixture);
	return 0;
}

static int
teardown(void **state)
{
	vault_close();
	fixture_remove(&fixture);
	return 0;
}

static const struct iris_value row_one = { .type = IRIS_INT, .number = 1 };
static const struct iris_value row_two = { .type = IRIS_INT, .number = 2 };
static const struct iris_value row_text = { .type = IRIS_TEXT, .bytes = { "\0\0\0\0\0\0\0\1", 8 } };

static struct seal_binding
binding_of(const struct iris_value *const *row)
{
	return (struct seal_binding){ .table = IRIS_STR("log"),
				      .column = IRIS_STR("body"),
				      .row = row,
				      .row_count = 1,
				      .owner = 1 };
}

static bool
opens(const struct seal_binding *binding, struct iris_str record)
{
	char plain[256];
	return seal_open_record(binding, record, plain);
}

static void
test_round_trip(void **state)
{
	const struct iris_value *row[] = { &row_one };
	struct seal_binding binding = binding_of(row);
	const struct iris_str plain = IRIS_STR("Wherefore art thou, Romeo?");
	char record[256], again[256], out[256];
	struct iris_str sealed = { record, plain.len + SEAL_OVERHEAD };

	assert_true(seal_record(&binding, plain, record));
	assert_memory_equal(record, "XE\1\1", 4);
	assert_null(memmem(record, sealed.len, plain.base, 8));
	assert_true(seal_open_record(&binding, sealed, out));
	assert_memory_equal(out, plain.base, plain.len);
	assert_true(seal_record(&binding, plain, again));
	assert_memory_not_equal(record, again, sealed.len); /* another nonce */

	sealed.len = SEAL_OVERHEAD;
	assert_true(seal_record(&binding, IRIS_STR(""), record));
	assert_true(seal_open_record(&binding, sealed, out));
}

static void
test_bound_to_its_place(void **state)
{
	const struct iris_value *row[] = { &row_one }, *other_row[] = { &row_two },
				*text_row[] = { &row_text };
	struct seal_binding binding = binding_of(row), other;
	char record[64];
	const struct iris_str sealed = { record, 5 + SEAL_OVERHEAD };

	assert_true(seal_record(&binding, IRIS_STR("plain"), record));
	assert_true(opens(&binding, sealed));
	other = binding_of(other_row);
	assert_false(opens(&other, sealed));
	other = binding_of(text_row); /* the same bytes, of another type */
	assert_false(opens(&other, sealed));
	other = binding;
	other.table = IRIS_STR("lo");
	other.column = IRIS_STR("gbody"); /* the same letters, cut elsewhere */
	assert_false(opens(&other, sealed));
	other = binding;
	other.row_count = 0;
	assert_false(opens(&other, sealed));
}

static void
test_altered(void **state)
{
	const struct iris_value *row[] = { &row_one };
	struct seal_binding binding = binding_of(row);
	char record[64];
	const struct iris_str sealed = { record, 5 + SEAL_OVERHEAD };

	assert_true(seal_record(&binding, IRIS_STR("plain"), record));
	for (size_t i = 0; i < sealed.len; i++) {
		record[i] ^= 1;
		assert_false(opens(&binding, sealed));
		record[i] ^= 1;
	}
	for (size_t len = 0; len < sealed.len; len++)
		assert_false(opens(&binding, (struct iris_str){ record, len }));
	assert_true(opens(&binding, sealed));
}

static void
test_long_key_fields(void **state)
{
	static char text[70000];
	struct iris_value value = { .type = IRIS_TEXT, .bytes = { text, 3000 } };
	const struct iris_value *row[] = { &value };
	struct seal_binding binding = binding_of(row);
	char record[64];

	memset(text, 'x', sizeof(text));
	assert_true(seal_record(&binding, IRIS_STR("plain"), record));
	assert_true(opens(&binding, (struct iris_str){ record, 5 + SEAL_OVERHEAD }));
	text[2999] = 'y';
	assert_false(opens(&binding, (struct iris_str){ record, 5 + SEAL_OVERHEAD }));
	value.bytes.len = sizeof(text); /* longer than its length prefix */
	assert_false(seal_record(&binding, IRIS_STR("plain"), record));
}

static void
create_owner(void *arg)
{
	CHECK(vault_owner_create(IRIS_STR("Capulet & Daughter"), arg) == IRIS_VAULT_OK);
}

static void
rotate_owner(void *arg)
{
	CHECK(vault_owner_rotate(*(iris_owner *)arg) == IRIS_VAULT_OK);
}

static void
erase_owner(void *arg)
{
	CHECK(vault_owner_erase(*(iris_owner *)arg) == IRIS_VAULT_OK);
}

static void
test_owners_and_their_keys(void **state)
{
	const struct iris_value *row[] = { &row_one };
	struct seal_binding binding = binding_of(row), other = binding_of(row);
	char record[64], newer[64];
	const struct iris_str sealed = { record, 5 + SEAL_OVERHEAD },
			      sealed_newer = { newer, sealed.len };

	other.owner = 77;
	assert_false(seal_record(&other, IRIS_STR("plain"), record));
	fixture_run(create_owner, &other.owner);
	assert_int_equal(other.owner, 2);
	assert_true(seal_record(&other, IRIS_STR("plain"), record));
	assert_true(opens(&other, sealed));
	assert_false(opens(&binding, sealed)); /* another company's key does not fit */

	fixture_run(rotate_owner, &other.owner);
	assert_true(seal_record(&other, IRIS_STR("plain"), newer));
	assert_memory_not_equal(record + 4, newer + 4, 4); /* under another key … */
	assert_true(opens(&other, sealed)); /* … and what was sealed before still opens */

	fixture_close();
	fixture_open(&fixture);
	assert_true(opens(&other, sealed) && opens(&other, sealed_newer));

	fixture_run(erase_owner, &other.owner);
	assert_false(opens(&other, sealed) || opens(&other, sealed_newer));
	assert_false(seal_record(&other, IRIS_STR("plain"), record));
	fixture_close();
	fixture_open(&fixture);
	assert_false(opens(&other, sealed) || opens(&other, sealed_newer));
	iris_owner next = 0;
	fixture_run(create_owner, &next);
	assert_int_equal(next, 3); /* ids are not used again */
	fixture_run(fixture_drain, NULL);
	fixture_assert();
}

/* --- the master key --- */

static bool
reopens(struct iris_error *error)
{
	bool ok;

	vault_close();
	ok = vault_open_with(&fixture.options, error);
	if (ok)
		vault_close();
	return ok;
}

static void
key_write(const char *text, mode_t mode)
{
	(void)unlink(fixture.key);
	int fd = open(fixture.key, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void
test_master_key(void **state)
{
	static const char zeros[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	char text[65] = "";
	struct iris_error error;
	struct stat st;
	int fd = open(fixture.key, O_RDONLY);

	assert_int_equal(read(fd, text, 64), 64);
	close(fd);
	assert_int_equal(stat(fixture.key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0400);
	assert_true(reopens(&error));

	key_write(text, 0600);
	assert_true(reopens(&error));
	key_write(text, 0640);
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "others than its owner"));
	/* As systemd gives it: an access list for the service's user. */
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", fixture.dir, 1), 0);
	key_write(text, 0440);
	assert_true(reopens(&error));
	key_write(text, 0444);
	assert_false(reopens(&error));
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	key_write(text, 0440);
	assert_false(reopens(&error));
	key_write(zeros, 0400);
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "not the master key"));
	text[63] = '\0';
	key_write(text, 0400);
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "size"));
	(void)unlink(fixture.key);
	assert_false(reopens(&error));
	assert_non_null(strstr(error.detail, fixture.key));
}

static void
test_wrong_region(void **state)
{
	struct iris_error error;

	fixture.options.region = "hds";
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "another region"));
	fixture.options.region = "test";
	assert_true(reopens(&error));
}

static void
test_altered_key_row(void **state)
{
	struct iris_error error;

	vault_close();
	fixture_script("UPDATE vault_keys SET owner = 5 WHERE owner = 1");
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "does not open"));
	fixture_assert();
}

static void
test_schema_version(void **state)
{
	struct iris_error error;

	vault_close();
	fixture_script(
		"INSERT INTO schema_migrations (number, name, applied) VALUES (9999, 'later', 0)");
	assert_false(reopens(&error));
	assert_non_null(strstr(error.message, "newer version"));
	fixture_script("DELETE FROM schema_migrations");
	assert_false(reopens(&error));
	assert_string_equal(error.hint, "irisctl init");
	fixture_script(
		"INSERT INTO schema_migrations (number, name, applied) VALUES (1, 'vault', 0)");
	if (vault_migrations[1].number) { /* there are more than the vault's own */
		assert_false(reopens(&error));
		assert_string_equal(error.hint, "irisctl db upgrade");
	}
	assert_false(vault_init_with(&fixture.options, "again", &error));
	fixture_assert();
}

static void
test_peer_ids(void **state)
{
	int64_t romeo = vault_peer_id(IRIS_STR("romeo@montague.example"));

	assert_true(romeo > 0);
	assert_int_equal(romeo, vault_peer_id(IRIS_STR("romeo@montague.example")));
	assert_int_not_equal(romeo, vault_peer_id(IRIS_STR("juliet@capulet.example")));
	vault_close();
	fixture_open(&fixture);
	assert_int_equal(romeo, vault_peer_id(IRIS_STR("romeo@montague.example")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
		TEST(test_round_trip),
		TEST(test_bound_to_its_place),
		TEST(test_altered),
		TEST(test_long_key_fields),
		TEST(test_owners_and_their_keys),
		TEST(test_master_key),
		TEST(test_wrong_region),
		TEST(test_altered_key_row),
		TEST(test_schema_version),
		TEST(test_peer_ids),
	};

	worker_main_init();
	int failed = cmocka_run_group_tests_name("vault_seal", tests, NULL, NULL);
	worker_main_free();
	return failed;
}
