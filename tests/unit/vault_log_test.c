/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log against a model: random appends, late ones too, random questions, with the index filled
 * at random moments and the vault closed and opened in between; entries are rewritten, removed,
 * and grow too old, while a clock of the test's own runs through the months.  IRIS_TEST_SEED
 * repeats a run.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "vault_fixture.h"

#define READERS 12
#define PEERS 4
#define ENTRIES_MAX 20000
#define HELD 8
#define DAY_MS INT64_C(86400000)
#define KEEP_MS (40 * DAY_MS)

struct model_entry {
	int64_t id, reader, peer;
	unsigned flags, body;
};

static struct vault_fixture fixture;
static struct model_entry model[ENTRIES_MAX]; /* ascending by id */
static size_t model_count;
static struct model_entry held[HELD];         /* have an id, and are not appended yet */
static uint64_t seed;
/* An hour into November 2026: back to a month before the first one there are no parts. */
static _Atomic int64_t clock_ms = 1793494800000;

static int64_t
clock_read(void)
{
	return atomic_load(&clock_ms);
}

static uint32_t
draw(uint32_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % below;
}

static struct iris_str
body_of(unsigned number, char *buf, size_t size)
{
	int len = snprintf(buf, size, "body %u, %.*s", number, (int)(number % 60),
			   "............................................................");
	return (struct iris_str){ buf, (size_t)len };
}

static void
model_insert(const struct model_entry *entry)
{
	size_t at = model_count++;

	IRIS_ASSERT(model_count <= ENTRIES_MAX);
	for (; at > 0 && model[at - 1].id > entry->id; at--)
		model[at] = model[at - 1];
	model[at] = *entry;
}

/* Mostly within a second, seldom by days; sometimes back. */
static void
clock_move(void)
{
	int64_t step = draw(1000);

	if (draw(150) == 0)
		step = draw(6) * DAY_MS;
	else if (draw(20) == 0)
		step = -step;
	atomic_fetch_add(&clock_ms, step);
}

static struct model_entry
entry_draw(void)
{
	clock_move();
	return (struct model_entry){
		.id = vault_next_id(IRIS_SEQ_LOG),
		.reader = 1 + draw(READERS),
		.peer = 1 + draw(PEERS),
		.flags = draw(8),
		.body = draw(100000),
	};
}

static struct iris_log_entry
log_entry_of(const struct model_entry *entry, char *buf, size_t size)
{
	return (struct iris_log_entry){
		.id = entry->id,
		.owner = 1,
		.reader = entry->reader,
		.peer = entry->peer,
		.flags = entry->flags,
		.body = body_of(entry->body, buf, size),
	};
}

static void
append(const struct model_entry *entry)
{
	char buf[128];
	const struct iris_log_entry log = log_entry_of(entry, buf, sizeof(buf));

	CHECK(log_append(&log, NULL) == IRIS_VAULT_OK);
	model_insert(entry);
}

static void
model_remove(size_t at)
{
	memmove(&model[at], &model[at + 1], (--model_count - at) * sizeof(model[0]));
}

static void
rewrite_one(void)
{
	struct model_entry *entry = &model[draw((uint32_t)model_count)];
	char buf[128];

	entry->body = draw(100000);
	struct iris_log_entry log = log_entry_of(entry, buf, sizeof(buf));
	CHECK(log_rewrite(&log, NULL) == IRIS_VAULT_OK);
	log.reader++; /* of somebody else: nothing happens */
	log.body = IRIS_STR("not theirs");
	CHECK(log_rewrite(&log, NULL) == IRIS_VAULT_OK);
}

static void
remove_some(void)
{
	struct iris_log_entry logs[4];
	size_t count = 0;
	char buf[128];

	for (; count < IRIS_COUNT(logs) && model_count > 0; count++) {
		size_t at = draw((uint32_t)model_count);
		logs[count] = log_entry_of(&model[at], buf, sizeof(buf));
		model_remove(at);
	}
	CHECK(log_remove(logs, count, NULL) == IRIS_VAULT_OK);
}

/* A read sees every write that was posted before. */
static void
committed_wait(void)
{
	const struct iris_log_query query = { .reader = 1, .limit = 1 };
	struct iris_arena *arena = arena_new();
	struct iris_log_page page;

	CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK);
	arena_unref(&arena);
}

/* With parts they stay, unseen, until all of their month may go. */
static void
expire_some(void)
{
	size_t limit = 1 + draw(40), expected = 0, removed;
	int64_t horizon = log_horizon();

	while (!parts_are_dropped() && model_count > 0 && model[0].id < horizon &&
	       expected < limit) {
		model_remove(0);
		expected++;
	}
	/* Leaps are this clock's way; but what is on its way must be there before months go. */
	committed_wait();
	age_trust();
	CHECK(log_expire(limit, &removed) == IRIS_VAULT_OK);
	CHECK(removed == expected);
}

static void
change_some(void)
{
	if (model_count == 0)
		return;
	if (draw(2))
		rewrite_one();
	if (draw(6) == 0)
		remove_some();
	if (draw(20) == 0 && model_count > 0)
		expire_some();
}

static void
append_some(void)
{
	for (uint32_t i = draw(30); i > 0; i--) {
		struct model_entry entry = entry_draw();
		if (draw(6) == 0) { /* this one is late: one that was held comes in its place */
			struct model_entry *place = &held[draw(HELD)], late = *place;
			*place = entry;
			entry = late;
		}
		if (entry.id)
			append(&entry);
	}
}

static bool
model_matches(const struct iris_log_query *query, const struct model_entry *entry)
{
	return entry->reader == query->reader && (!query->peer || entry->peer == query->peer) &&
	       entry->id > query->after_id && (!query->before_id || entry->id < query->before_id) &&
	       entry->id >= log_horizon() && log_id_time_ms(entry->id) >= query->from_ms &&
	       (!query->until_ms || log_id_time_ms(entry->id) <= query->until_ms) &&
	       (entry->flags & query->flags_all) == query->flags_all;
}

static void
compare_page(const struct iris_log_query *query, const struct iris_log_page *page)
{
	static const struct model_entry *found[ENTRIES_MAX];
	size_t count = 0, first;

	for (size_t i = 0; i < model_count; i++)
		if (model_matches(query, &model[i]))
			found[count++] = &model[i];
	bool more = count > query->limit;
	first = more && query->backwards ? count - query->limit : 0;
	count = more ? query->limit : count;
	CHECK(page->more == more);
	CHECK(page->count == count);
	for (size_t i = 0; i < count && i < page->count; i++) {
		const struct model_entry *expected = found[first + i];
		char buf[128];
		CHECK(page->entries[i].id == expected->id);
		CHECK(page->entries[i].peer == expected->peer);
		CHECK(page->entries[i].flags == expected->flags && page->entries[i].owner == 1);
		CHECK(str_equal(page->entries[i].body, body_of(expected->body, buf, sizeof(buf))));
	}
}

static int64_t
draw_bound_id(void)
{
	return model_count == 0 || draw(2) ? 0 : model[draw((uint32_t)model_count)].id;
}

static int64_t
draw_time(void)
{
	return model_count == 0 || draw(3) ?
		       0 :
		       log_id_time_ms(model[draw((uint32_t)model_count)].id) + draw(3) - 1;
}

static void
ask(void)
{
	struct iris_arena *arena = arena_new();
	struct iris_log_query query = {
		.reader = 1 + draw(READERS + 1),
		.peer = draw(2) ? 1 + draw(PEERS) : 0,
		.after_id = draw_bound_id(),
		.before_id = draw_bound_id(),
		.from_ms = draw_time(),
		.until_ms = draw_time(),
		.flags_all = draw(3) ? 0 : draw(8),
		.limit = draw(40),
		.backwards = draw(2),
	};
	struct iris_log_page page;

	CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK);
	compare_page(&query, &page);
	arena_unref(&arena);
}

static void
run_rounds(void *arg)
{
	log_keep_for(KEEP_MS);
	for (int round = 0; round < 150 && check_failures == 0; round++) {
		append_some();
		change_some();
		if (draw(10) == 0)
			vault_log_index_now();
		for (uint32_t i = draw(5); i > 0; i--)
			ask();
	}
}

static void
test_against_model(void **state)
{
	for (int life = 0; life < 6 && check_failures == 0; life++) {
		fixture_open(&fixture);
		fixture_run(run_rounds, NULL);
		fixture_close();
	}
	fixture_assert();
}

static void *
fill_all_the_time(void *arg)
{
	atomic_bool *stop = arg;

	while (!atomic_load(stop))
		vault_log_index_now();
	return NULL;
}

static void
test_index_is_filled_meanwhile(void **state)
{
	atomic_bool stop = false;
	pthread_t thread;

	fixture_open(&fixture);
	assert_int_equal(pthread_create(&thread, NULL, fill_all_the_time, &stop), 0);
	fixture_run(run_rounds, NULL);
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	fixture_close();
	fixture_assert();
}

static void
run_check_all(void *arg)
{
	log_keep_for(KEEP_MS);
	for (int64_t reader = 1; reader <= READERS; reader++) {
		struct iris_arena *arena = arena_new();
		const struct iris_log_query query = { .reader = reader, .limit = ENTRIES_MAX };
		struct iris_log_page page;
		CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK);
		compare_page(&query, &page);
		arena_unref(&arena);
	}
}

/* The index is gone but for what it says of itself: what is missing is found in the log. */
static void
test_tail_is_rebuilt(void **state)
{
	fixture_script("DELETE FROM log_reader; DELETE FROM log_peer; UPDATE log_state SET "
		       "indexed_upto = 0");
	fixture_open(&fixture);
	fixture_run(run_check_all, NULL);
	vault_log_index_now();
	fixture_run(run_check_all, NULL);
	fixture_close();
	fixture_open(&fixture); /* and now all of it from the index */
	assert_int_equal(metric_value(&vault_metrics[VAULT_METRIC_TAIL]), 0);
	fixture_run(run_check_all, NULL);
	fixture_close();
	fixture_assert();
}

static void
run_failed_append(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_log_entry entry = { .id = vault_next_id(IRIS_SEQ_LOG),
					.owner = 1,
					.reader = 777,
					.peer = 1,
					.body = IRIS_STR("first") };
	const struct iris_log_query query = { .reader = 777, .limit = 10 };
	struct iris_log_page page;

	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	entry.reader = 778; /* the same id: refused by the engine */
	CHECK(log_append(&entry, NULL) == IRIS_VAULT_OK);
	CHECK(log_read(&query, 1, arena, &page) == IRIS_VAULT_OK && page.count == 1 && !page.more);
	const struct iris_log_query other = { .reader = 778, .limit = 10 };
	CHECK(log_read(&other, 1, arena, &page) == IRIS_VAULT_OK && page.count == 0 && !page.more);
	CHECK(log_read(&query, 99, arena, &page) == IRIS_VAULT_REFUSED);
	arena_unref(&arena);
}

static void
test_failed_append_leaves_nothing(void **state)
{
	fixture_open(&fixture);
	fixture_run(run_failed_append, NULL);
	fixture_close();
	fixture_assert();
}

static int
group_setup(void **state)
{
	const char *given = getenv("IRIS_TEST_SEED");

	seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
	fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
	worker_main_init();
	metrics_register(vault_metrics, VAULT_METRIC_COUNT);
	ids_set_clock(clock_read);
	fixture_make(&fixture);
	return 0;
}

static int
group_teardown(void **state)
{
	metrics_unregister(vault_metrics, VAULT_METRIC_COUNT);
	fixture_remove(&fixture);
	worker_main_free();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_index_is_filled_meanwhile),
		cmocka_unit_test(test_tail_is_rebuilt),
		cmocka_unit_test(test_failed_append_leaves_nothing),
	};

	return cmocka_run_group_tests_name("vault_log", tests, group_setup, group_teardown);
}
