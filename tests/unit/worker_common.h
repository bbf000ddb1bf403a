/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that need a main worker and a few others. */
#ifndef TESTS_WORKER_COMMON_H
#define TESTS_WORKER_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker_private.h"

static inline int
setup_workers(unsigned count)
{
	struct iris_error error;

	worker_main_init();
	return pool_start(2, &error) && (count == 0 || workers_start(count, &error)) ? 0 : -1;
}

static inline int
teardown_workers(void **state)
{
	workers_stop();
	pool_stop();
	worker_main_free();
	return 0;
}

/* Runs fn on a fiber of main, and the main loop until worker_main_quit(). */
static inline void
on_fiber(void (*fn)(void *arg), void *arg)
{
	assert_true(fiber_start("test", fn, arg));
	worker_run_main();
}

#endif
