/* SPDX-License-Identifier: Apache-2.0 */
/* xep/xep0484_token.c: the messages of HT-SHA-256-*. The hashes were computed with Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "xep/xep0484_token.h"

static void
assert_hex(struct iris_str bytes, const char *hex)
{
	char text[2 * HT_HASH_SIZE + 1];

	assert_int_equal(bytes.len, HT_HASH_SIZE);
	for (size_t i = 0; i < bytes.len; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", (unsigned char)bytes.base[i]);
	assert_string_equal(text, hex);
}

static void
test_hashes(void **state)
{
	struct iris_arena *arena = arena_new();

	assert_hex(ht_hash(arena, IRIS_STR("a-token"), "Initiator", IRIS_STR("")),
		   "24befcc07b1c8041f935b6dea4670203754f02eac8206a142bb2c0e2f7d6237a");
	assert_hex(ht_hash(arena, IRIS_STR("a-token"), "Responder", IRIS_STR("cb")),
		   "94b0107711290d5430183cdef03ca442954654db318679720f95a637061d533d");
	arena_unref(&arena);
}

static void
test_messages(void **state)
{
	struct iris_arena *arena = arena_new();
	struct iris_str right = arena_copy_str(
		arena, (struct iris_str){ "juliet\0"
					  "0123456789abcdef0123456789abcdef",
					  39 });
	struct ht_message message;

	assert_true(ht_parse(right, &message));
	assert_true(str_is(message.username, "juliet"));
	assert_true(str_is(message.hash, "0123456789abcdef0123456789abcdef"));
	for (size_t len = 0; len < right.len; len++)
		assert_false(ht_parse((struct iris_str){ right.base, len }, &message));
	assert_false(ht_parse((struct iris_str){ right.base + 6, right.len - 6 },
			      &message)); /* no name */
	assert_false(ht_parse((struct iris_str){ "juliet\0"
						 "0123456789abcdef0123456789abcdefx",
						 40 },
			      &message));
	arena_unref(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_messages),
	};

	return cmocka_run_group_tests_name("ht", tests, NULL, NULL);
}
