/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of files: what is altered, swapped, taken from elsewhere or cut off does not open. */
#include "vault_fixture.h"

#define SEALED_SIZE (BLOB_CHUNK_SIZE + BLOB_TAG)

static struct vault_fixture fixture;
static unsigned char key[BLOB_KEY];
static char plain[BLOB_CHUNK_SIZE], sealed[3][SEALED_SIZE], out[BLOB_CHUNK_SIZE];

static int
setup(void **state)
{
	fixture_make(&fixture);
	fixture_open(&fixture);
	blob_key_make(key);
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (char)(i * 31 >> 3);
	return 0;
}

static int
teardown(void **state)
{
	vault_close();
	fixture_remove(&fixture);
	return 0;
}

/* Three chunks of object 7 of owner 1; the last one has 100 bytes. */
static void
seal_all(void)
{
	struct iris_blob *blob = blob_new(key, 1, 7, true);

	for (uint64_t i = 0; i < 3; i++)
		blob_seal(blob, i, i == 2,
			   (struct iris_str){ plain, i == 2 ? 100 : sizeof(plain) }, sealed[i]);
	blob_free(&blob);
	assert_null(blob);
}

static bool
opens(struct iris_blob *blob, unsigned which, uint64_t number, bool last)
{
	size_t len = (which == 2 ? 100 : sizeof(plain)) + BLOB_TAG;

	return blob_open(blob, number, last, (struct iris_str){ sealed[which], len }, out);
}

static void
test_round_trip(void **state)
{
	struct iris_blob *blob = blob_new(key, 1, 7, false);

	seal_all();
	/* In any order: ranges do not begin at the beginning. */
	assert_true(opens(blob, 2, 2, true));
	assert_memory_equal(out, plain, 100);
	assert_true(opens(blob, 0, 0, false));
	assert_memory_equal(out, plain, sizeof(plain));
	assert_true(opens(blob, 1, 1, false));
	assert_memory_not_equal(sealed[0], sealed[1], sizeof(plain));
	blob_free(&blob);
}

static void
test_neither_swapped_nor_cut(void **state)
{
	struct iris_blob *blob = blob_new(key, 1, 7, false);

	seal_all();
	assert_false(opens(blob, 0, 1, false)); /* at another's place */
	assert_false(opens(blob, 1, 1, true));  /* the rest was cut off */
	assert_false(opens(blob, 2, 2, false)); /* something was put behind it */
	sealed[0][5] ^= 1;
	assert_false(opens(blob, 0, 0, false));
	assert_false(blob_open(blob, 0, true, (struct iris_str){ sealed[0], 3 }, out));
	blob_free(&blob);
}

static void
test_bound_to_object_and_owner(void **state)
{
	struct iris_blob *object = blob_new(key, 1, 8, false);
	struct iris_blob *owner = blob_new(key, 2, 7, false);

	seal_all();
	assert_false(opens(object, 0, 0, false));
	assert_false(opens(owner, 0, 0, false));
	blob_free(&object);
	blob_free(&owner);
	blob_key_make(key);
	struct iris_blob *another = blob_new(key, 1, 7, false);
	assert_false(opens(another, 0, 0, false));
	blob_free(&another);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_neither_swapped_nor_cut),
		cmocka_unit_test(test_bound_to_object_and_owner),
	};

	worker_main_init();
	int failed = cmocka_run_group_tests_name("vault_blob", tests, setup, teardown);
	worker_main_free();
	return failed;
}
