/* SPDX-License-Identifier: Apache-2.0 */
/* modules/accounts: password.c, credentials.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "modules/accounts/accounts_private.h"

static void
test_rules(void **state)
{
	static const struct password_rules strict = { 12, 4 }, loose = { 8, 1 };
	static const struct { const char *password; bool strict, loose;
	} rows[] = {
		{ "Wherefore-1-art", true, true },
		{ "Wherefore-1", false, true },	    /* 11 characters */
		{ "wherefore-1-art", false, true }, /* no upper case */
		{ "WHEREFORE-1-ART", false, true },
		{ "Wherefore-art-thou", false, true }, /* no digit */
		{ "Wherefore1art1thou", false, true }, /* nothing special */
		{ "Wherefore1\xc3\xa4rt\xc3\xbc", true,
		  true }, /* 14 characters, umlauts are special */
		{ "", false, false },
		{ "1234567", false, false },
		{ "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", false, false }, /* 8 bytes, 4 characters */
		{ "Aa1-567890123456789012345678901234567890123456789012345678901234", true,
		  true }, /* 64 */
		{ "Aa1-5678901234567890123456789012345678901234567890123456789012345", false,
		  false },
	};

	for (size_t i = 0; i < IRIS_COUNT(rows); i++) {
		assert_int_equal(password_refusal(str_from(rows[i].password), &strict) == NULL,
				 rows[i].strict);
		assert_int_equal(password_refusal(str_from(rows[i].password), &loose) == NULL,
				 rows[i].loose);
	}
}

static const struct credential_hash *
hash_named(const char *mechanism)
{
	for (size_t i = 0; i < CREDENTIAL_HASHES; i++)
		if (strcmp(credential_hash_at(i)->mechanism, mechanism) == 0)
			return credential_hash_at(i);
	fail();
	return NULL;
}

/*
 * Password and salts of the examples in RFC 5802 §5 and RFC 7677 §3; the keys were computed with
 * Python.
 */
static void
test_derivation(void **state)
{
	static const struct { const char *mechanism, *salt, *stored, *server;
	} rows[] = {
		{ "SCRAM-SHA-1", "QSXCR+Q6sek8bf92",
		  "6dlGYMOdZcOPutkcNY8U2g7vK9Y=", "D+CSWLOshSulAsxiupA+qs2/fTE=" },
		{ "SCRAM-SHA-256",
		  "W22ZaJ0SNY7soEsUEjb6gQ==", "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
		  "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=" },
	};

	for (size_t i = 0; i < IRIS_COUNT(rows); i++) {
		struct iris_arena *arena = arena_new();
		const struct credential_hash *hash = hash_named(rows[i].mechanism);
		struct iris_scram scram;
		struct iris_str salt;

		assert_true(base64_decode(arena, str_from(rows[i].salt), &salt));
		assert_true(credential_derive(arena, hash, IRIS_STR("pencil"), salt, 4096, &scram));
		assert_true(str_is(base64_encode(arena, scram.stored_key), rows[i].stored));
		assert_true(str_is(base64_encode(arena, scram.server_key), rows[i].server));
		assert_true(credential_matches(hash, &scram, IRIS_STR("pencil")));
		assert_false(credential_matches(hash, &scram, IRIS_STR("pencils")));
		arena_unref(&arena);
	}
}

static void
test_records(void **state)
{
	for (size_t i = 0; i < CREDENTIAL_HASHES; i++) {
		struct iris_arena *arena = arena_new();
		const struct credential_hash *hash = credential_hash_at(i);
		struct iris_scram scram, read;
		struct iris_str record;
		char *bytes;

		assert_true(credential_derive(arena, hash, IRIS_STR("secret"),
					      IRIS_STR("0123456789abcdef"), 4100, &scram));
		record = credential_encode(arena, &scram);
		assert_true(credential_decode(record, hash, &read));
		assert_int_equal(read.iterations, 4100);
		assert_true(str_equal(read.salt, scram.salt) &&
			    str_equal(read.stored_key, scram.stored_key) &&
			    str_equal(read.server_key, scram.server_key) &&
			    str_is(read.mechanism, hash->mechanism));
		for (size_t len = 0; len < record.len; len++) /* cut anywhere */
			assert_false(credential_decode((struct iris_str){ record.base, len }, hash,
						       &read));
		assert_false(credential_decode(
			record, credential_hash_at((i + 1) % CREDENTIAL_HASHES), &read));
		bytes = (char *)(uintptr_t)arena_copy_str(arena, record).base;
		memset(bytes + 1, 0, 4); /* no iterations */
		assert_false(
			credential_decode((struct iris_str){ bytes, record.len }, hash, &read));
		memset(bytes + 1, 0x7f, 4); /* too many */
		assert_false(
			credential_decode((struct iris_str){ bytes, record.len }, hash, &read));
		arena_unref(&arena);
	}
}

static void
test_made_up_verifiers(void **state)
{
	struct iris_arena *arena = arena_new();
	const struct credential_hash *hash = hash_named("SCRAM-SHA-256");
	struct iris_scram one, again, other, real;

	credential_make_up(arena, hash, IRIS_STR("seed of nobody"), 10000, &one);
	credential_make_up(arena, hash, IRIS_STR("seed of nobody"), 10000, &again);
	credential_make_up(arena, hash, IRIS_STR("seed of noone"), 10000, &other);
	assert_true(credential_derive(arena, hash, IRIS_STR("x"), IRIS_STR("0123456789abcdef"),
				      10000, &real));
	assert_true(str_equal(one.salt, again.salt) && str_equal(one.stored_key, again.stored_key));
	assert_false(str_equal(one.salt, other.salt));
	assert_int_equal(one.salt.len, real.salt.len);
	assert_int_equal(one.stored_key.len, real.stored_key.len);
	assert_int_equal(one.iterations, real.iterations);
	assert_false(credential_matches(hash, &one, IRIS_STR("")));
	arena_unref(&arena);
}

/* RFC 5803 §3; the keys are those of RFC 7677 §3. */
static void
test_parsed_verifiers(void **state)
{
	static const char good[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
				   "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
				   ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
	static const char *const bad[] = {
		"",
		"SCRAM-SHA-256",
		"SCRAM-SHA-256$4096:$:",
		"SCRAM-SHA-256$4096:W22Z$W22Z:W22Z",
		"SCRAM-SHA-256$4095:W22ZaJ0SNY7soEsUEjb6gQ==$"
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
		/* fewer rounds than RFC 7677 asks */
		":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"SCRAM-MD5$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
		":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
		":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", /* keys of another length */
	};
	struct iris_arena *arena = arena_new();
	struct iris_scram scram;

	assert_true(credential_parse(arena, str_from(good), &scram));
	assert_true(credential_matches(hash_named("SCRAM-SHA-256"), &scram, IRIS_STR("pencil")));
	assert_false(credential_matches(hash_named("SCRAM-SHA-256"), &scram, IRIS_STR("pen")));
	for (size_t i = 0; i < IRIS_COUNT(bad); i++)
		assert_false(credential_parse(arena, str_from(bad[i]), &scram));
	arena_unref(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_derivation),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_made_up_verifiers),
		cmocka_unit_test(test_parsed_verifiers),
	};

	return cmocka_run_group_tests_name("password", tests, NULL, NULL);
}
