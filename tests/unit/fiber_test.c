/* SPDX-License-Identifier: Apache-2.0 */
/* server/fiber.c, on the main worker. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sanitizers.h"
#include "worker_common.h"

static char trace[256];

static void
note(const char *text)
{
	size_t len = strlen(trace);

	IRIS_ASSERT(str_copy_to(trace + len, sizeof(trace) - len, str_from(text)));
	IRIS_ASSERT(str_copy_to(trace + strlen(trace), 2, IRIS_STR(" ")));
}

static int
setup(void **state)
{
	trace[0] = '\0';
	fiber_set_limit(8000);
	return setup_workers(0);
}

static void
wait_noting(void *arg)
{
	note("begin");
	errno = 77;
	wait_for(arg, "the test");
	note(errno == 77 ? "end" : "errno");
}

static void
count_suspended(const char *name, const char *what, int64_t waited_ms, void *arg)
{
	assert_string_equal(name, "waiter");
	assert_string_equal(what, "the test");
	assert_true(waited_ms >= 0);
	++*(int *)arg;
}

static void
test_suspend_and_resume(void **state)
{
	struct iris_wait wait;
	int suspended = 0;

	wait_init(&wait);
	assert_string_equal(fiber_name(), "loop");
	assert_null(fiber_self());
	assert_true(fiber_start("waiter", wait_noting, &wait));
	assert_string_equal(trace, "begin ");
	assert_int_equal(fiber_count(), 1);
	fiber_each_suspended(count_suspended, &suspended);
	assert_int_equal(suspended, 1);
	errno = 5;
	wait_done(&wait);
	assert_string_equal(trace, "begin end ");
	assert_int_equal(fiber_count(), 0);
}

static void
test_done_before_wait_does_not_suspend(void **state)
{
	struct iris_wait wait;

	wait_init(&wait);
	wait_done(&wait);
	assert_true(fiber_start("waiter", wait_noting, &wait));
	assert_int_equal(fiber_count(), 0);
}

static void
finish_other(void *arg)
{
	note(fiber_name());
	wait_done(arg);
	note("not-nested");
	worker_main_quit();
}

static void
test_done_inside_a_fiber_is_queued(void **state)
{
	struct iris_wait wait;

	wait_init(&wait);
	assert_true(fiber_start("waiter", wait_noting, &wait));
	assert_true(fiber_start("finisher", finish_other, &wait));
	assert_string_equal(trace, "begin finisher not-nested ");
	worker_run_main();
	assert_string_equal(trace, "begin finisher not-nested end ");
}

static void
start_nested(void *arg)
{
	note("outer");
	assert_true(fiber_start("waiter", wait_noting, arg));
	note(fiber_name());
}

static void
test_a_fiber_starts_another(void **state)
{
	struct iris_wait wait;

	wait_init(&wait);
	assert_true(fiber_start("starter", start_nested, &wait));
	assert_string_equal(trace, "outer begin starter ");
	wait_done(&wait);
	assert_string_equal(trace, "outer begin starter end ");
}

static void
test_limit(void **state)
{
	struct iris_wait waits[3];

	fiber_set_limit(2);
	for (int i = 0; i < 3; i++) {
		wait_init(&waits[i]);
		assert_int_equal(fiber_start("waiter", wait_noting, &waits[i]), i < 2);
	}
	wait_done(&waits[0]);
	assert_true(fiber_start("waiter", wait_noting, &waits[2]));
	wait_done(&waits[1]);
	wait_done(&waits[2]);
}

/* What may be refused does not take the last quarter, which is for those that may not. */
static void
test_spare_fibers(void **state)
{
	struct iris_wait waits[4];

	fiber_set_limit(4);
	for (int i = 0; i < 4; i++) {
		wait_init(&waits[i]);
		if (i < 3)
			assert_true(fiber_start_spare("waiter", wait_noting, &waits[i]));
	}
	assert_false(fiber_start_spare("waiter", wait_noting, &waits[3]));
	assert_true(fiber_start("waiter", wait_noting, &waits[3]));
	for (int i = 0; i < 4; i++)
		wait_done(&waits[i]);
}

static void
use_stack(void *arg)
{
	volatile char deep[3000];

	memset((void *)deep, 1, sizeof(deep));
	*(unsigned *)arg += deep[17];
}

static void
test_stacks_are_used_again(void **state)
{
	enum { AT_ONCE = 1000 };
	struct iris_wait *waits = iris_calloc(AT_ONCE, sizeof(*waits));
	unsigned sum = 0;

	for (int i = 0; i < 10000; i++)
		assert_true(fiber_start("short", use_stack, &sum));
	assert_int_equal(sum, 10000);
	for (int round = 0; round < 10; round++) {
		trace[0] = '\0';
		for (int i = 0; i < AT_ONCE; i++) {
			wait_init(&waits[i]);
			assert_true(fiber_start("waiter", wait_noting, &waits[i]));
			trace[0] = '\0';
		}
		for (int i = 0; i < AT_ONCE; i++) {
			wait_done(&waits[i]);
			trace[0] = '\0';
		}
	}
	assert_int_equal(fiber_count(), 0);
	free(waits);
}

struct locker {
	const char *name;
	struct iris_wait wait;
};

static void
hold_lock(void *arg)
{
	struct locker *locker = arg;
	char key[] = "romeo@example.net";

	fiber_lock(str_from(key));
	note(locker->name);
	wait_for(&locker->wait, "the test");
	fiber_unlock(str_from(key));
	if (strcmp(locker->name, "c") == 0)
		worker_main_quit();
}

static void
test_lock_keeps_the_order(void **state)
{
	struct locker lockers[] = { { .name = "a" }, { .name = "b" }, { .name = "c" } };

	for (size_t i = 0; i < IRIS_COUNT(lockers); i++)
		assert_true(fiber_start(lockers[i].name, hold_lock, &lockers[i]));
	assert_string_equal(trace, "a ");
	wait_done(&lockers[1].wait);
	wait_done(&lockers[2].wait);
	assert_string_equal(trace, "a ");
	wait_done(&lockers[0].wait);
	worker_run_main();
	assert_string_equal(trace, "a b c ");
	assert_int_equal(fiber_count(), 0);
}

static void
sleep_briefly(void *arg)
{
	*(bool *)arg = fiber_sleep(1);
	worker_main_quit();
}

static void
test_sleep_ends_by_itself(void **state)
{
	bool slept = false;

	on_fiber(sleep_briefly, &slept);
	assert_true(slept);
}

static void
sleep_for_ever(void *arg)
{
	int *cancelled = arg;

	*cancelled += !fiber_sleep(3600 * 1000);
	*cancelled += !fiber_sleep(3600 * 1000);
}

static void
test_stop_cuts_sleep_short(void **state)
{
	int cancelled = 0;

	assert_true(fiber_start("sleeper", sleep_for_ever, &cancelled));
	workers_stop();
	assert_int_equal(cancelled, 2);
}

/* What the child writes to stderr; it must not end by itself. */
static void
dies_saying(void (*fn)(void), const char *text)
{
	char said[2048] = "";
	int pipe_fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(pipe_fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)dup2(pipe_fds[1], STDERR_FILENO);
		(void)signal(SIGABRT, SIG_DFL);
		fn();
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	while ((n = read(pipe_fds[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)n;
	(void)close(pipe_fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
	if (!strstr(said, text))
		print_error("said: %s\n", said);
	assert_non_null(strstr(said, text));
}

static void
wait_where_forbidden(void *arg)
{
	struct iris_wait wait;

	wait_init(&wait);
	fiber_no_wait_begin();
	wait_for(&wait, "nothing");
}

static void
start_wait_where_forbidden(void)
{
	(void)!fiber_start("stubborn", wait_where_forbidden, NULL);
}

static void
test_waiting_where_forbidden_dies(void **state)
{
	dies_saying(start_wait_where_forbidden, "in fiber \"stubborn\"");
}

static volatile int depth_wanted = 1000000;

static int
recurse(volatile char *above, int depth)
{
	volatile char frame[512];

	frame[0] = *above;
	if (depth < depth_wanted)
		frame[1] = (char)recurse(frame, depth + 1);
	return frame[0] + frame[1];
}

static void
overflow(void *arg)
{
	volatile char top = 0;

	(void)recurse(&top, 0);
}

static void
start_overflow(void)
{
	worker_main_free();
	worker_main_init(); /* cmocka has put its own handlers in place of ours */
	(void)!fiber_start("greedy", overflow, NULL);
}

/* The sanitizers find it themselves, in their own words. */
static void
test_overflow_names_the_fiber(void **state)
{
	if (!SAN_ADDRESS && !SAN_THREAD)
		dies_saying(start_overflow, "fiber stack overflow in \"greedy\"");
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown_workers)
	const struct CMUnitTest tests[] = {
		TEST(test_suspend_and_resume),
		TEST(test_done_before_wait_does_not_suspend),
		TEST(test_done_inside_a_fiber_is_queued),
		TEST(test_a_fiber_starts_another),
		TEST(test_limit),
		TEST(test_spare_fibers),
		TEST(test_stacks_are_used_again),
		TEST(test_lock_keeps_the_order),
		TEST(test_sleep_ends_by_itself),
		TEST(test_stop_cuts_sleep_short),
		TEST(test_waiting_where_forbidden_dies),
		TEST(test_overflow_names_the_fiber),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
