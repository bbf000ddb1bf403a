/* SPDX-License-Identifier: Apache-2.0 */
/* server/metrics.c */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "iris/metrics.h"

static struct iris_metric metrics[] = {
	{ "iris_b_total", "type=\"chat\"", IRIS_COUNTER, "Lines\nand \\ more.", 0 },
	{ "iris_a", NULL, IRIS_GAUGE, "A gauge.", 0 },
	{ "iris_b_total", "type=\"normal\"", IRIS_COUNTER, "Lines\nand \\ more.", 0 },
};

static void
test_nothing_happens_before_registration(void **state)
{
	metric_add(&metrics[0], 5);
	assert_int_equal(metric_value(&metrics[0]), 0);
}

static void *
count(void *arg)
{
	for (int i = 0; i < 10000; i++) {
		metric_add(&metrics[0], 1);
		metric_add(&metrics[1], i % 2 ? 1 : -1);
	}
	return NULL;
}

static void
test_threads_are_summed_also_when_they_are_gone(void **state)
{
	pthread_t threads[4];
	int64_t seen = 0;

	metrics_register(metrics, IRIS_COUNT(metrics));
	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < 100; i++) {
		int64_t value = metric_value(&metrics[0]);

		assert_true(value >= seen);
		seen = value;
	}
	for (size_t i = 0; i < IRIS_COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	(void)count(NULL);
	assert_int_equal(metric_value(&metrics[0]), 50000);
	assert_int_equal(metric_value(&metrics[1]), 0);
	metrics_unregister(metrics, IRIS_COUNT(metrics));
}

static int64_t
ask(void)
{
	return 42;
}

static void
test_a_gauge_that_is_asked(void **state)
{
	static struct iris_metric asked[] = {
		{ .name = "iris_asked", .kind = IRIS_GAUGE, .help = "Asked.", .value = ask },
	};
	size_t len;

	metrics_register(asked, 1);
	assert_int_equal(metric_value(asked), 42);
	char *text = metrics_render(&len);
	assert_non_null(strstr(text, "\niris_asked 42\n"));
	free(text);
	metrics_unregister(asked, 1);
}

static void
test_a_slot_used_again_starts_at_zero(void **state)
{
	metrics_register(metrics, IRIS_COUNT(metrics));
	metric_add(&metrics[0], 3);
	metrics_unregister(metrics, IRIS_COUNT(metrics));
	assert_int_equal(metrics[0].slot, 0);
	metrics_register(metrics, IRIS_COUNT(metrics));
	assert_int_equal(metric_value(&metrics[0]), 0);
	metric_add(&metrics[0], 4);
	assert_int_equal(metric_value(&metrics[0]), 4);
	metrics_unregister(metrics, IRIS_COUNT(metrics));
}

static void
test_text_for_prometheus(void **state)
{
	char *text;
	size_t len;

	metrics_register(metrics, IRIS_COUNT(metrics));
	metric_add(&metrics[0], 7);
	metric_add(&metrics[1], -2);
	text = metrics_render(&len);
	assert_string_equal(text, "# HELP iris_a A gauge.\n"
				  "# TYPE iris_a gauge\n"
				  "iris_a -2\n"
				  "# HELP iris_b_total Lines\\nand \\\\ more.\n"
				  "# TYPE iris_b_total counter\n"
				  "iris_b_total{type=\"chat\"} 7\n"
				  "iris_b_total{type=\"normal\"} 0\n");
	assert_int_equal(len, strlen(text));
	free(text);
	metrics_unregister(metrics, IRIS_COUNT(metrics));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_happens_before_registration),
		cmocka_unit_test(test_threads_are_summed_also_when_they_are_gone),
		cmocka_unit_test(test_a_gauge_that_is_asked),
		cmocka_unit_test(test_a_slot_used_again_starts_at_zero),
		cmocka_unit_test(test_text_for_prometheus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
