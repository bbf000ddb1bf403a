/* SPDX-License-Identifier: Apache-2.0 */
/* server/hash.c */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "iris/hash.h"

#define MANY 10000

struct thing {
	struct iris_hash_node node;
	char name[16];
	bool seen;
};

static struct thing *
things_make(struct iris_hash *hash)
{
	struct thing *things = iris_calloc(MANY, sizeof(*things));

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(things[i].name, sizeof(things[i].name), "name%d", i);
		hash_insert(hash, &things[i].node, str_from(things[i].name));
	}
	return things;
}

static void
test_find_insert_remove(void **state)
{
	struct iris_hash hash = { .count = 0 };
	struct thing *things;

	assert_null(hash_find(&hash, IRIS_STR("name1")));
	assert_null(hash_first(&hash));
	things = things_make(&hash);
	assert_int_equal(hash.count, MANY);
	assert_true(hash.bucket_count >= MANY);
	for (int i = 0; i < MANY; i++)
		assert_ptr_equal(hash_find(&hash, str_from(things[i].name)), &things[i].node);
	assert_null(hash_find(&hash, IRIS_STR("name")));
	for (int i = 0; i < MANY; i += 2)
		hash_remove(&hash, &things[i].node);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(hash_find(&hash, str_from(things[i].name)) != NULL, i % 2);
	HASH_FOREACH (node, &hash)
		hash_remove(&hash, node);
	hash_free(&hash);
	free(things);
}

static void
test_walk_sees_each_once_while_removing(void **state)
{
	struct iris_hash hash = { .count = 0 };
	struct thing *things = things_make(&hash);
	int seen = 0;

	HASH_FOREACH (node, &hash) {
		struct thing *thing = IRIS_CONTAINER(node, struct thing, node);

		assert_false(thing->seen);
		thing->seen = true;
		seen++;
		if (seen % 3 > 0)
			hash_remove(&hash, node);
	}
	assert_int_equal(seen, MANY);
	assert_int_equal(hash.count, MANY / 3);
	HASH_FOREACH (node, &hash)
		hash_remove(&hash, node);
	hash_free(&hash);
	free(things);
}

static void
test_table_shrinks_when_it_is_used_again(void **state)
{
	struct iris_hash hash = { .count = 0 };
	struct thing *things = things_make(&hash), *one = &things[0];
	size_t before = hash.bucket_count;

	HASH_FOREACH (node, &hash)
		hash_remove(&hash, node);
	for (int i = 0; i < 20; i++) {
		hash_insert(&hash, &one->node, str_from(one->name));
		hash_remove(&hash, &one->node);
	}
	assert_true(hash.bucket_count < before / 16);
	hash_free(&hash);
	free(things);
}

static void *
hash_elsewhere(void *arg)
{
	*(uint64_t *)arg = hash_bytes("romeo@example.net", 17);
	return NULL;
}

static void
test_same_in_all_threads(void **state)
{
	uint64_t there = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, hash_elsewhere, &there), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(there == hash_bytes("romeo@example.net", 17));
	assert_true(there != hash_bytes("romeo@example.net", 16));
	assert_true(hash_bytes("", 0) == hash_bytes(NULL, 0));
}

static void
test_bits_are_spread(void **state)
{
	unsigned buckets[64] = { 0 };

	for (int i = 0; i < 64000; i++)
		buckets[hash_bytes(&i, sizeof(i)) % 64]++;
	for (int i = 0; i < 64; i++)
		assert_in_range(buckets[i], 800, 1200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_insert_remove),
		cmocka_unit_test(test_walk_sees_each_once_while_removing),
		cmocka_unit_test(test_table_shrinks_when_it_is_used_again),
		cmocka_unit_test(test_same_in_all_threads),
		cmocka_unit_test(test_bits_are_spread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
