/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules/unique: addresses and their names, and claims: what the table says, and that of regions
 * which ask each other in any order never two keep a name, and always one if nobody is away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_private.h"
#include "gate_private.h"
#include "modules/unique/unique_private.h"
#include "region_secret.h"
#include "scratch.h"
#include "worker_private.h"

/* --- addresses --- */

static void
test_addresses_are_prepared(void **state)
{
	static const char *const same[][2] = {
		{ "juliet@example.org", "juliet@example.org" },
		{ "Juliet.Capulet@EXAMPLE.org.", "juliet.capulet@example.org" },
		{ "o'brien+xmpp/a@example.org", "o'brien+xmpp/a@example.org" },
		{ "JÜRGEN@exämple.org", "jürgen@xn--exmple-cua.org" },
		{ "ju\xcc\x88rgen@example.org", "jürgen@example.org" },
		{ "straße@example.org", "strasse@example.org" },
		{ "\xef\xbc\xaauliet@example.org", "juliet@example.org" }, /* full-width J */
	};
	struct iris_arena *arena = arena_new();
	struct iris_str address;

	for (size_t i = 0; i < IRIS_COUNT(same); i++) {
		assert_true(unique_prepare_address(arena, str_from(same[i][0]), &address));
		assert_string_equal(address.base, same[i][1]);
		/* Once more changes nothing. */
		assert_true(unique_prepare_address(arena, address, &address));
		assert_string_equal(address.base, same[i][1]);
	}
	arena_unref(&arena);
}

static void
test_what_is_no_address(void **state)
{
	static const char *const wrong[] = {
		"", "@", "juliet", "@example.org", "juliet@", ".juliet@example.org",
		"juliet.@example.org", "juliet..capulet@example.org", "juliet@capulet@example.org",
		"juliet @example.org", "\"juliet\"@example.org", "<juliet@example.org>",
		"juliet@[192.0.2.1]", "juliet@-example.org", "juliet@example..org",
		"juliet\n@example.org", "jul\xff@example.org",
		"juliet\xef\xbc\xa0@example.org", /* a full-width @ */
		"0123456789012345678901234567890123456789012345678901234567890123x@example.org",
	};
	struct iris_arena *arena = arena_new();
	struct iris_str address, zero = IRIS_STR("juliet\0x@example.org");
	char long_text[300];

	for (size_t i = 0; i < IRIS_COUNT(wrong); i++)
		assert_false(unique_prepare_address(arena, str_from(wrong[i]), &address));
	assert_false(unique_prepare_address(arena, zero, &address));
	memset(long_text, 'a', sizeof(long_text));
	memcpy(long_text, "juliet@", 7);
	assert_false(unique_prepare_address(
		arena, (struct iris_str){ long_text, sizeof(long_text) }, &address));
	arena_unref(&arena);
}

/* --- the secret, and names --- */

#define SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define SECRET_DIGEST "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
/* HMAC(HKDF(SECRET, "iris unique e-mail 0"), "juliet@example.org"), by another program */
#define JULIET_HASH "F7TljhC0Lf5A+okxtKyZCQjSYLaOdd45RD3/Lzw631w="
#define CA "ca: 0000000000000000000000000000000000000000000000000000000000000000"

enum { EMEA, NA, HDS, NOWHERE };

static struct region_map *
map_make(const char *secret)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_arena *arena = arena_new();
	struct iris_str text = arena_printf(
		arena,
		"map: {name: t, serial: 1, issued: 2026-01-01T00:00:00Z%s%s}\n"
		"regions:\n"
		"  list:\n"
		"    - {id: emea, domains: [emea.example, pubsub.emea.example], " CA "}\n"
		"    - {id: na, domains: [na.example, pubsub.na.example], "
		"rooms: [r.na.example], "
		CA "}\n"
		"    - {id: hds, class: isolated, domains: [hds.example], " CA "}\n"
		"    - {id: later, " CA "}\n",
		secret ? ", secret: " : "", secret ? secret : "");
	struct region_map *map = region_map_parse("map", text, &report);

	assert_int_equal(report.error_count, 0);
	arena_unref(&arena);
	return map;
}

static const char *
secret_write(const char *text, mode_t mode)
{
	const char *path = scratch_path("secret");
	FILE *file;

	(void)unlink(path);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
	return path;
}

static bool
secret_fits(const struct region_map *map, unsigned own, const char *text, mode_t mode)
{
	struct iris_error error = { .message = "" };
	bool fits = region_secret_fits(map, own, str_from(secret_write(text, mode)), false, &error);

	assert_true(fits == (error.message[0] == '\0'));
	return fits;
}

static void
test_a_secret_is_the_one_that_the_map_names(void **state)
{
	struct region_map *map = map_make(SECRET_DIGEST), *without = map_make(NULL);
	struct iris_error error;

	assert_true(secret_fits(map, EMEA, SECRET "\n", 0600));
	assert_true(secret_fits(map, EMEA, SECRET, 0400));
	assert_false(secret_fits(map, EMEA, SECRET "\n", 0640));
	assert_false(secret_fits(map, EMEA, SECRET "x\n", 0600));
	assert_false(secret_fits(map, EMEA, "AAAA\n", 0600));
	assert_false(secret_fits(map, EMEA, "", 0600));
	assert_false(secret_fits(map, EMEA, "B" SECRET, 0600));
	assert_false(secret_fits(map, HDS, SECRET "\n", 0600));
	assert_false(secret_fits(without, EMEA, SECRET "\n", 0600));
	assert_false(region_secret_fits(map, EMEA, IRIS_STR("/nowhere/secret"), false, &error));
	assert_true(region_secret_fits(map, HDS, IRIS_STR_NONE, false, &error));
	region_map_free(&map);
	region_map_free(&without);
}

static void
test_a_made_secret_can_be_read(void **state)
{
	struct region_secret made, read;
	struct iris_error error;
	char *text;

	region_secret_make(&made);
	text = region_secret_text(&made);
	assert_true(region_secret_load(secret_write(text, 0600), &read, &error));
	assert_memory_equal(made.bytes, read.bytes, sizeof(read.bytes));
	assert_string_equal(made.digest, read.digest);
	free(text);
}

static void
test_names_are_keyed(void **state)
{
	struct region_map *map = map_make(SECRET_DIGEST);
	struct iris_error error;
	struct unique_name name;
	const char *text;

	gate_set_map(map, EMEA);
	/* Federated, and no secret: no name at all, rather than one that others do not know. */
	assert_int_equal(unique_make_name(IRIS_STR("juliet@example.org"), &name, &text),
			 IRIS_NOT_ALLOWED);
	assert_true(region_secret_fits(map, EMEA, str_from(secret_write(SECRET "\n", 0600)), true,
				       &error));
	assert_int_equal(unique_make_name(IRIS_STR("juliet@example.org"), &name, &text),
			 IRIS_NO_ERROR);
	assert_string_equal(name.hash, JULIET_HASH);
	assert_memory_equal(name.key, SECRET_DIGEST, REGION_SECRET_ID);
	assert_int_equal(unique_make_name(IRIS_STR("juliet@example.com"), &name, &text),
			 IRIS_NO_ERROR);
	assert_string_not_equal(name.hash, JULIET_HASH);
	region_secret_forget();
	gate_set_map(NULL, 0);
	region_map_free(&map);
}

/* Whom we ask, and who may ask us: the same. */
static void
test_peers_are_servers_of_federated_regions(void **state)
{
	struct region_map *map = map_make(NULL);
	struct iris_arena *arena = arena_new();
	struct iris_region_federation federation;
	struct iris_region_peer peer;

	gate_set_map(map, EMEA);
	assert_true(region_federation(arena, &federation));
	assert_int_equal(federation.count, 1);
	assert_true(str_is(federation.domain, "emea.example"));
	assert_true(str_is(federation.peers[0].id, "na"));
	assert_true(str_is(federation.peers[0].domain, "na.example"));
	assert_true(region_peer_find(arena, IRIS_STR("na.example"), &peer));
	assert_int_equal(peer.index, NA);
	assert_false(region_peer_find(arena, IRIS_STR("pubsub.na.example"), &peer));
	assert_false(region_peer_find(arena, IRIS_STR("r.na.example"), &peer));
	assert_false(region_peer_find(arena, IRIS_STR("emea.example"), &peer));
	assert_false(region_peer_find(arena, IRIS_STR("hds.example"), &peer));
	assert_false(region_peer_find(arena, IRIS_STR("other.example"), &peer));

	gate_set_map(map, HDS);
	assert_true(region_federation(arena, &federation));
	assert_int_equal(federation.count, 0);
	assert_false(region_peer_find(arena, IRIS_STR("na.example"), &peer));
	gate_set_map(NULL, 0);
	arena_unref(&arena);
	region_map_free(&map);
}

/* --- what the table says --- */

static const struct iris_str hash = { JULIET_HASH, UNIQUE_HASH };

static enum claim_verdict
ours(struct claims *claims, int64_t id, int64_t stamp, int64_t now)
{
	const struct claim_request request = { .hash = hash, .region = CLAIM_OURS, .id = id,
					       .stamp_ms = stamp, .now_ms = now,
					       .until_ms = now + 600 };

	return claims_make(claims, &request, IRIS_STR("m"));
}

static enum claim_verdict
theirs(struct claims *claims, const char *region, int64_t stamp, int64_t now)
{
	const struct claim_request request = { .hash = hash, .region = str_from(region),
					       .stamp_ms = stamp, .now_ms = now,
					       .until_ms = now + 60 };

	return claims_make(claims, &request, IRIS_STR("m"));
}

static void
test_who_goes_first(void **state)
{
	static const struct {
		const char *first; /* whose claim is there: "" ours; with stamp 100 */
		const char *second;
		int64_t stamp;
		enum claim_verdict verdict;
	} table[] = {
		{ "", "", 50, CLAIM_REFUSED }, /* here, the first one is first */
		{ "a", "", 50, CLAIM_REFUSED },
		{ "", "a", 99, CLAIM_MADE },
		{ "", "a", 101, CLAIM_REFUSED },
		{ "", "a", 100, CLAIM_MADE },    /* before "m" */
		{ "", "z", 100, CLAIM_REFUSED }, /* behind it */
		{ "b", "a", 99, CLAIM_MADE },
		{ "b", "a", 100, CLAIM_MADE },
		{ "a", "b", 100, CLAIM_REFUSED },
		{ "a", "aa", 100, CLAIM_REFUSED },
		{ "a", "b", 101, CLAIM_REFUSED },
		{ "a", "a", 150, CLAIM_MADE }, /* asks once more */
		{ "a", "a", 50, CLAIM_MADE },
	};

	for (size_t i = 0; i < IRIS_COUNT(table); i++) {
		struct claims *claims = claims_new(10);

		if (table[i].first[0])
			assert_int_equal(theirs(claims, table[i].first, 100, 0), CLAIM_MADE);
		else
			assert_int_equal(ours(claims, 1, 100, 0), CLAIM_MADE);
		if (table[i].second[0])
			assert_int_equal(theirs(claims, table[i].second, table[i].stamp, 1),
					 table[i].verdict);
		else
			assert_int_equal(ours(claims, 2, table[i].stamp, 1), table[i].verdict);
		assert_int_equal(claims_count(claims), 1);
		claims_free(&claims);
		assert_null(claims);
	}
}

static void
test_what_is_held_is_not_displaced(void **state)
{
	struct claims *claims = claims_new(10);

	assert_int_equal(ours(claims, 1, 100, 0), CLAIM_MADE);
	assert_false(claims_hold(claims, hash, 2, 1));
	assert_true(claims_hold(claims, hash, 1, 1));
	assert_int_equal(theirs(claims, "a", 1, 2), CLAIM_REFUSED);
	assert_int_equal(theirs(claims, "a", 1, 1000000), CLAIM_REFUSED); /* nor does it end */
	claims_drop_own(claims, hash, 1);
	assert_int_equal(theirs(claims, "a", 1, 2), CLAIM_MADE);
	claims_free(&claims);
}

static void
test_what_was_displaced_or_ended_is_not_held(void **state)
{
	struct claims *claims = claims_new(10);

	assert_int_equal(ours(claims, 1, 100, 0), CLAIM_MADE);
	assert_int_equal(theirs(claims, "a", 99, 1), CLAIM_MADE);
	assert_false(claims_hold(claims, hash, 1, 2));
	claims_drop_own(claims, hash, 1); /* and does not take the other's along */
	assert_int_equal(ours(claims, 2, 1, 2), CLAIM_REFUSED);
	assert_int_equal(ours(claims, 2, 200, 61), CLAIM_MADE); /* theirs has ended */
	assert_false(claims_hold(claims, hash, 2, 61 + 600));
	claims_free(&claims);
}

static void
test_letting_go(void **state)
{
	struct claims *claims = claims_new(10);

	assert_int_equal(theirs(claims, "a", 100, 0), CLAIM_MADE);
	claims_drop_theirs(claims, hash, IRIS_STR("b"), 100);
	claims_drop_theirs(claims, hash, IRIS_STR("a"), 99); /* of an earlier question */
	assert_int_equal(claims_count(claims), 1);
	claims_drop_theirs(claims, hash, IRIS_STR("a"), 100);
	assert_int_equal(claims_count(claims), 0);
	assert_int_equal(ours(claims, 1, 100, 0), CLAIM_MADE);
	claims_drop_theirs(claims, hash, CLAIM_OURS, 100); /* not anybody's to let go */
	assert_int_equal(claims_count(claims), 1);
	claims_free(&claims);
}

static void
test_a_full_table_takes_nothing_new(void **state)
{
	struct claims *claims = claims_new(3);
	char other[UNIQUE_HASH + 1] = JULIET_HASH;
	struct claim_request request = { .hash = { other, UNIQUE_HASH }, .region = IRIS_STR("a"),
					 .stamp_ms = 1, .until_ms = 60 };

	for (char c = 'A'; c < 'D'; c++) {
		other[0] = c;
		assert_int_equal(claims_make(claims, &request, IRIS_STR("m")), CLAIM_MADE);
	}
	assert_int_equal(ours(claims, 1, 1, 59), CLAIM_NO_ROOM);
	assert_int_equal(ours(claims, 1, 1, 60), CLAIM_MADE); /* those have ended */
	assert_int_equal(claims_count(claims), 1);
	claims_free(&claims);
}

/* --- regions that ask each other --- */

#define REGIONS 4

enum step { CLAIM, ASK, ANSWER, HOLD, KEEP, SETTLE, OVER };

struct sim_region {
	struct claims *claims;
	enum step step;
	unsigned asked;   /* whom it asks now, behind itself in the ring */
	bool promised;    /* what was asked made a claim there */
	bool kept;        /* the name is in its registry */
	int64_t stamp, id;
};

struct sim {
	struct sim_region regions[REGIONS];
	unsigned count;
	uint64_t dice;
	bool forgetful;   /* promises may be lost at any time, and regions begin anew */
};

static const char *const sim_names[REGIONS] = { "a", "b", "c", "d" };

static unsigned
sim_roll(struct sim *sim, unsigned sides)
{
	sim->dice = sim->dice * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(sim->dice >> 33) % sides;
}

static bool
sim_claim(struct sim *sim, unsigned at, unsigned who)
{
	struct sim_region *region = &sim->regions[who];
	const struct claim_request request = {
		.hash = hash,
		.region = at == who ? CLAIM_OURS : str_from(sim_names[who]),
		.id = at == who ? region->id : 0,
		.stamp_ms = region->stamp,
		.until_ms = 1,
	};

	return claims_make(sim->regions[at].claims, &request, str_from(sim_names[at])) ==
	       CLAIM_MADE;
}

/* It is over for this one, whether the name is kept or not. */
static void
sim_settle(struct sim *sim, unsigned who)
{
	struct sim_region *region = &sim->regions[who];

	claims_drop_own(region->claims, hash, region->id);
	for (unsigned i = 1; i < sim->count; i++)
		claims_drop_theirs(sim->regions[(who + i) % sim->count].claims, hash,
				   str_from(sim_names[who]), region->stamp);
	region->step = OVER;
}

/* A question is two steps there, as in the module: the claim, then the look. */
static void
sim_ask(struct sim *sim, unsigned who)
{
	struct sim_region *region = &sim->regions[who];
	unsigned at = (who + region->asked) % sim->count;

	if (region->step == ASK) {
		region->promised = sim_claim(sim, at, who);
		region->step = ANSWER;
	} else if (!region->promised || sim->regions[at].kept) {
		sim_settle(sim, who);
	} else {
		region->asked++;
		region->step = region->asked < sim->count ? ASK : HOLD;
	}
}

static void
sim_step(struct sim *sim, unsigned who)
{
	struct sim_region *region = &sim->regions[who];

	switch (region->step) {
	case CLAIM:
		region->asked = 1;
		region->step = ASK;
		if (!sim_claim(sim, who, who) || region->kept)
			sim_settle(sim, who);
		break;
	case ASK:
	case ANSWER:
		sim_ask(sim, who);
		break;
	case HOLD:
		region->step = KEEP;
		if (!claims_hold(region->claims, hash, region->id, 0))
			sim_settle(sim, who);
		break;
	case KEEP:
		region->kept = true;
		region->step = SETTLE;
		break;
	case SETTLE:
		sim_settle(sim, who);
		break;
	case OVER:
		break;
	}
}

/* What it had promised others ends, or it tries once more after it has lost. */
static void
sim_disturb(struct sim *sim, unsigned who)
{
	struct sim_region *region = &sim->regions[who];

	for (unsigned i = 0; i < sim->count; i++)
		if (i != who && sim_roll(sim, 4) == 0)
			claims_drop_theirs(region->claims, hash, str_from(sim_names[i]), INT64_MAX);
	if (region->step == OVER && !region->kept && sim_roll(sim, 8) == 0) {
		region->id++;
		region->stamp = 1 + sim_roll(sim, 5); /* clocks may be anywhere */
		region->step = CLAIM;
	}
}

static unsigned
sim_run(struct sim *sim)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < sim->count; i++)
		sim->regions[i] = (struct sim_region){ .claims = claims_new(10), .id = 1,
						       .stamp = 1 + sim_roll(sim, 3) };
	for (unsigned steps = 0; steps < 400; steps++) {
		unsigned who = sim_roll(sim, sim->count);

		if (sim->forgetful)
			sim_disturb(sim, who);
		sim_step(sim, who);
	}
	for (unsigned i = 0; i < sim->count; i++) {
		kept += sim->regions[i].kept;
		claims_free(&sim->regions[i].claims);
	}
	return kept;
}

static void
test_of_regions_that_ask_at_once_one_wins(void **state)
{
	for (unsigned count = 2; count <= REGIONS; count++)
		for (unsigned seed = 0; seed < 20000; seed++) {
			struct sim sim = { .count = count, .dice = seed };

			assert_int_equal(sim_run(&sim), 1);
		}
}

static void
test_never_two_win_whatever_is_forgotten(void **state)
{
	for (unsigned count = 2; count <= REGIONS; count++)
		for (unsigned seed = 0; seed < 20000; seed++) {
			struct sim sim = { .count = count, .dice = seed, .forgetful = true };

			assert_true(sim_run(&sim) <= 1);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_are_prepared),
		cmocka_unit_test(test_what_is_no_address),
		cmocka_unit_test(test_a_secret_is_the_one_that_the_map_names),
		cmocka_unit_test(test_a_made_secret_can_be_read),
		cmocka_unit_test(test_names_are_keyed),
		cmocka_unit_test(test_peers_are_servers_of_federated_regions),
		cmocka_unit_test(test_who_goes_first),
		cmocka_unit_test(test_what_is_held_is_not_displaced),
		cmocka_unit_test(test_what_was_displaced_or_ended_is_not_held),
		cmocka_unit_test(test_letting_go),
		cmocka_unit_test(test_a_full_table_takes_nothing_new),
		cmocka_unit_test(test_of_regions_that_ask_at_once_one_wins),
		cmocka_unit_test(test_never_two_win_whatever_is_forgotten),
	};
	int failed;

	worker_main_init();
	failed = cmocka_run_group_tests_name("unique", tests, scratch_setup, scratch_teardown);
	worker_main_free();
	return failed;
}
