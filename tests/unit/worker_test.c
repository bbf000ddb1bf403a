/* SPDX-License-Identifier: Apache-2.0 */
/* server/worker.c, mailbox.c, timer.c and pool.c, with a main worker and two others. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "worker_common.h"

#define MAILS 20000

static int
setup(void **state)
{
	return setup_workers(2);
}

/* --- mail --- */

struct numbered {
	struct iris_mail mail;
	int number;
};

static int next_number; /* worker 0's */

static void
take_numbered(struct iris_mail *mail)
{
	struct numbered *numbered = IRIS_CONTAINER(mail, struct numbered, mail);

	IRIS_ASSERT(worker_index() == 0 && fiber_self() == NULL);
	IRIS_ASSERT(numbered->number == next_number);
	if (++next_number == MAILS)
		worker_main_quit();
}

static void
send_numbered(void *arg)
{
	struct numbered *mails = arg;

	for (int i = 0; i < MAILS; i++) {
		mails[i].mail.fn = take_numbered;
		mails[i].number = i;
		worker_post(worker_at(0), &mails[i].mail);
	}
}

static void
send_from_worker_1(void *arg)
{
	worker_call(worker_at(1), "send", send_numbered, arg);
}

static void
test_mail_keeps_its_order(void **state)
{
	struct numbered *mails = iris_calloc(MAILS, sizeof(*mails));

	next_number = 0;
	on_fiber(send_from_worker_1, mails);
	assert_int_equal(next_number, MAILS);
	free(mails);
}

static void *
send_from_outside(void *arg)
{
	IRIS_ASSERT(worker_self() == NULL);
	IRIS_ASSERT(worker_now_ms() > 0 && worker_wall_ms() > 0);
	send_numbered(arg);
	return NULL;
}

static void
test_any_thread_may_post(void **state)
{
	struct numbered *mails = iris_calloc(MAILS, sizeof(*mails));
	pthread_t thread;

	next_number = 0;
	assert_int_equal(pthread_create(&thread, NULL, send_from_outside, mails), 0);
	worker_run_main();
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(next_number, MAILS);
	free(mails);
}

/* --- homes and calls --- */

static void
test_homes_are_spread_and_stable(void **state)
{
	unsigned homes[2] = { 0 };

	for (int i = 0; i < 1000; i++) {
		char jid[32];
		struct iris_worker *home;

		(void)snprintf(jid, sizeof(jid), "user%d@example.net", i);
		home = home_of(str_from(jid));
		assert_ptr_equal(home, home_of(str_from(jid)));
		homes[worker_index_of(home)]++;
	}
	assert_true(homes[0] > 400 && homes[1] > 400);
}

struct visit {
	struct iris_str address;
	int index;
	const char *name;
	int depth;
};

static void
be_there(void *arg)
{
	struct visit *visit = arg;

	IRIS_ASSERT(fiber_self() != NULL);
	visit->index = worker_index();
	visit->name = fiber_name();
	if (visit->depth-- > 0)
		worker_call(worker_at(1 - worker_index()), "ping-pong", be_there, visit);
}

static void
visit_homes(void *arg)
{
	for (int i = 0; i < 100; i++) {
		char jid[32];
		struct visit visit = { .depth = 0 };

		(void)snprintf(jid, sizeof(jid), "user%d@example.net", i);
		visit.address = str_from(jid);
		home_call(visit.address, "visit", be_there, &visit);
		assert_int_equal(visit.index, worker_index_of(home_of(visit.address)));
		assert_string_equal(visit.name, "visit");
		assert_string_equal(fiber_name(), "test");
	}
	worker_main_quit();
}

static void
test_home_call_runs_at_home(void **state)
{
	on_fiber(visit_homes, NULL);
}

static void
play_ping_pong(void *arg)
{
	struct visit visit = { .depth = 201 };

	worker_call(worker_at(0), "ping-pong", be_there, &visit);
	assert_int_equal(visit.depth, -1);
	assert_int_equal(visit.index, 1);
	visit = (struct visit){ .depth = 0 };
	worker_call(worker_at(WORKER_MAIN), "here", be_there, &visit);
	assert_int_equal(visit.index, WORKER_MAIN);
	assert_string_equal(visit.name, "here");
	worker_main_quit();
}

static void
test_calls_go_both_ways_and_nest(void **state)
{
	on_fiber(play_ping_pong, NULL);
}

/* --- both workers call each other with all their fibers taken --- */

static _Atomic int crossed;

static void
nothing(void *arg)
{
}

static void
cross(void *arg)
{
	worker_call(worker_at(1 - worker_index()), "cross", nothing, NULL);
	if (atomic_fetch_add(&crossed, 1) == 2 * 50 - 1)
		worker_main_quit();
}

static void
start_crossing(void *arg)
{
	if (worker_index() == WORKER_MAIN)
		return;
	for (int i = 0; i < 50; i++)
		IRIS_ASSERT(fiber_start("crossing", cross, NULL));
	IRIS_ASSERT(fiber_count() == 50 && !fiber_start("crossing", cross, NULL));
}

static void
test_calls_pass_the_limit(void **state)
{
	atomic_store(&crossed, 0);
	fiber_set_limit(50);
	workers_each(start_crossing, NULL);
	worker_run_main();
	assert_int_equal(atomic_load(&crossed), 100);
	fiber_set_limit(8000);
}

/* --- the CPU pool --- */

static void
work(void *arg)
{
	IRIS_ASSERT(worker_self() == NULL);
	for (int i = 0; i < 1000; i++)
		*(uint64_t *)arg = *(uint64_t *)arg * 3 + 1;
}

static _Atomic int working;

static void
ask_pool(void *arg)
{
	uint64_t value = 0;
	int home = worker_index();

	pool_call("work", work, &value);
	IRIS_ASSERT(value != 0 && worker_index() == home);
	if (atomic_fetch_sub(&working, 1) == 1)
		worker_main_quit();
}

static void
start_asking(void *arg)
{
	for (int i = 0; i < 100; i++)
		IRIS_ASSERT(fiber_start("asker", ask_pool, NULL));
}

static void
test_pool_call_comes_back(void **state)
{
	atomic_store(&working, 300);
	workers_each(start_asking, NULL);
	worker_run_main();
	assert_int_equal(atomic_load(&working), 0);
}

/* --- timers --- */

struct ticker {
	struct iris_timer timer, never;
	int ticks;
	int64_t began_ms;
};

static void
unwanted(void *arg)
{
	IRIS_ASSERT(arg == NULL);
}

static void
tick(void *arg)
{
	struct ticker *ticker = arg;

	assert_false(timer_is_running(&ticker->timer));
	if (++ticker->ticks < 5) {
		timer_start(&ticker->timer, 1, tick, ticker);
		return;
	}
	worker_main_quit();
}

static void
test_timers(void **state)
{
	struct ticker ticker = { .began_ms = worker_now_ms() };

	timer_stop(&ticker.never);
	timer_start(&ticker.never, 1, unwanted, &ticker);
	timer_start(&ticker.never, 3600 * 1000, unwanted, &ticker);
	assert_true(timer_is_running(&ticker.never));
	timer_start(&ticker.timer, -5, tick, &ticker);
	worker_run_main();
	assert_int_equal(ticker.ticks, 5);
	assert_true(worker_now_ms() - ticker.began_ms >= 4);
	timer_stop(&ticker.never);
	assert_false(timer_is_running(&ticker.never));
}

struct freed {
	struct iris_timer timer;
};

static void
free_itself(void *arg)
{
	free(arg);
	worker_main_quit();
}

static void
test_a_timer_may_free_what_it_is_in(void **state)
{
	struct freed *freed = iris_calloc(1, sizeof(*freed));

	timer_start(&freed->timer, 0, free_itself, freed);
	worker_run_main();
}

/* --- the end of the turn --- */

static char order[64];

static void
turn_note(struct iris_turn *turn);

static struct iris_turn first = { .fn = turn_note }, second = { .fn = turn_note },
			third = { .fn = turn_note };

static void
turn_note(struct iris_turn *turn)
{
	size_t len = strlen(order);

	(void)snprintf(order + len, sizeof(order) - len, "%d",
		       turn == &first ? 1 : turn == &second ? 2 : 3);
	if (turn == &second && len < 5) {
		worker_at_turn_end(&third);
		worker_at_turn_end(&second);
	}
}

static void
ask_for_turn_end(void *arg)
{
	worker_at_turn_end(&first);
	worker_at_turn_end(&second);
	worker_at_turn_end(&first);
	worker_at_turn_end(&third);
	worker_turn_cancel(&third);
	worker_turn_cancel(&third);
	assert_string_equal(order, "");
	worker_main_quit();
}

static void
test_turn_goes_on_until_nothing_is_left(void **state)
{
	struct iris_timer timer = { .event = NULL };

	order[0] = '\0';
	timer_start(&timer, 0, ask_for_turn_end, NULL);
	worker_run_main();
	assert_string_equal(order, "123232");
	assert_false(first.queued || second.queued || third.queued);
}

/* --- everybody, and stop --- */

static void
count_me(void *arg)
{
	IRIS_ASSERT(worker_self() != NULL && fiber_self() == NULL);
	atomic_fetch_add((_Atomic int *)arg, 1);
}

static void
test_each_reaches_all(void **state)
{
	_Atomic int reached = 0;

	workers_each(count_me, &reached);
	assert_int_equal(atomic_load(&reached), 3);
	assert_int_equal(worker_count(), 2);
	assert_int_equal(worker_index(), WORKER_MAIN);
}

static _Atomic int drained;

static void
count_drained(struct iris_mail *mail)
{
	free(mail);
	atomic_fetch_add(&drained, 1);
}

static void
bounce(struct iris_mail *mail)
{
	mail->fn = count_drained;
	worker_post(worker_at(1 - worker_index()), mail);
}

static void
linger(void *arg)
{
	struct iris_mail *mail = iris_calloc(1, sizeof(*mail));
	uint64_t value = 0;

	while (fiber_sleep(1000))
		;
	pool_call("work", work, &value);
	worker_call(worker_at(0), "linger", nothing, NULL);
	mail->fn = bounce;
	worker_post(worker_at(1), mail);
}

static void
start_lingering(void *arg)
{
	for (int i = 0; i < 20; i++)
		IRIS_ASSERT(fiber_start("lingering", linger, NULL));
}

static void
test_stop_drains(void **state)
{
	atomic_store(&drained, 0);
	workers_each(start_lingering, NULL);
	workers_stop();
	assert_true(worker_is_stopping());
	assert_int_equal(atomic_load(&drained), 60);
	assert_int_equal(worker_count(), 0);
}

static void
test_without_workers_main_is_home(void **state)
{
	workers_stop();
	assert_ptr_equal(home_of(IRIS_STR("romeo@example.net")), worker_at(WORKER_MAIN));
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown_workers)
	const struct CMUnitTest tests[] = {
		TEST(test_mail_keeps_its_order),
		TEST(test_any_thread_may_post),
		TEST(test_homes_are_spread_and_stable),
		TEST(test_home_call_runs_at_home),
		TEST(test_calls_go_both_ways_and_nest),
		TEST(test_calls_pass_the_limit),
		TEST(test_pool_call_comes_back),
		TEST(test_timers),
		TEST(test_a_timer_may_free_what_it_is_in),
		TEST(test_turn_goes_on_until_nothing_is_left),
		TEST(test_each_reaches_all),
		TEST(test_stop_drains),
		TEST(test_without_workers_main_is_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
