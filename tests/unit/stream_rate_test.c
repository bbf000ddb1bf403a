/* SPDX-License-Identifier: Apache-2.0 */
/* server/stream_rate.c: the bucket, on a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stream_private.h"

#define SECOND INT64_C(1000000)
#define RATE 10
#define BURST 20

static int64_t paid, now;

/* How many may be sent at once now. */
static int
send_all(void)
{
	int sent = 0;

	while (rate_wait_us(paid, now, RATE, BURST) == 0) {
		paid = rate_count(paid, now, RATE);
		sent++;
	}
	return sent;
}

static void
test_burst_then_rate(void **state)
{
	paid = 0;
	now = 1000 * SECOND;
	assert_int_equal(send_all(), BURST);
	assert_int_equal(rate_wait_us(paid, now, RATE, BURST), SECOND / RATE);
	now += SECOND / RATE - 1;
	assert_int_equal(send_all(), 0);
	now += 1;
	assert_int_equal(send_all(), 1);
	now += SECOND;
	assert_int_equal(send_all(), RATE);
}

/* However long somebody was silent, no more than a burst is saved. */
static void
test_silence_saves_a_burst(void **state)
{
	now += 3600 * SECOND;
	assert_int_equal(send_all(), BURST);
	now += BURST * SECOND / RATE / 2;
	assert_int_equal(send_all(), BURST / 2);
}

/* Who waits as long as told has sent in the end what the rate allows, whatever the steps. */
static void
test_what_is_told_is_enough(void **state)
{
	int64_t began;
	int sent = 0;

	now += 3600 * SECOND;
	began = now;
	while (now - began < 60 * SECOND) {
		sent += send_all();
		now += rate_wait_us(paid, now, RATE, BURST);
	}
	assert_int_equal(sent, BURST + 60 * RATE - 1);
}

static void
test_the_largest(void **state)
{
	int64_t fast = rate_count(0, 7, 1000000);

	assert_int_equal(fast, 8);
	assert_int_equal(rate_wait_us(fast, 7, 1000000, 1), 1);
	assert_int_equal(rate_wait_us(0, 7, 1, 1000000), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_then_rate),
		cmocka_unit_test(test_silence_saves_a_burst),
		cmocka_unit_test(test_what_is_told_is_enough),
		cmocka_unit_test(test_the_largest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
