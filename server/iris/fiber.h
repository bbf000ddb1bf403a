/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers: code that reads straight down while it waits.  A fiber belongs to the worker that
 * started it and never runs elsewhere.  What may change while it waits: everything that is
 * not its own; after a wait, look things up again or hold a counted reference.
 */
#ifndef IRIS_FIBER_H
#define IRIS_FIBER_H

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct iris_fiber;

/*
 * Runs fn(arg) on a fiber of this worker, now, until it ends or first waits.  `name` is a
 * string constant for `irisctl` and crash reports.  False when the worker's limit of fibers is
 * reached: the caller stops reading from whoever asked for it and tries later.
 */
IRIS_MUST_CHECK bool fiber_start(const char *name, void (*fn)(void *arg), void *arg);

struct iris_fiber *fiber_self(void);   /* NULL outside a fiber */
const char *fiber_name(void);          /* of the running one, or "loop" */
unsigned fiber_count(void);            /* live fibers of this worker */

/*
 * A one-shot event that one fiber waits for.  It lives on the waiting fiber's stack.
 *   struct iris_wait w; wait_init(&w); start something that will call wait_done(&w);
 *   if (!wait_for(&w, "vault: roster.load")) return;   // cancelled: the worker is stopping
 * wait_done() may come before wait_for(), and must come exactly once, on the home worker.
 * When wait_for returns false the event may still be outstanding: what it would touch must
 * not be on this stack; use wait_done_or_forget() protocols of the callee (vault, pool) which
 * guarantee completion before the workers stop, so that false is only returned by
 * fiber_sleep().  In short: whatever will be completed, is awaited to its end.
 */
struct iris_wait {
	struct iris_fiber *fiber; /* set while suspended */
	bool done;
};

void wait_init(struct iris_wait *wait);
void wait_for(struct iris_wait *wait, const char *what);
void wait_done(struct iris_wait *wait);

/* False when the worker is stopping: return as soon as possible. */
IRIS_MUST_CHECK bool fiber_sleep(unsigned milliseconds);

/* Between these, waiting is a bug (asserted). They nest. */
void fiber_no_wait_begin(void);
void fiber_no_wait_end(void);

/*
 * A lock between fibers of one worker, by key (a bare JID), for read-modify-write across
 * waits.  Not re-entrant; never held across home_call().  Order of waiters is kept.
 */
void fiber_lock(struct iris_str key);
void fiber_unlock(struct iris_str key);

/* Calls fn for each suspended fiber of this worker: its name, what it waits for, since when. */
void fiber_each_suspended(void (*fn)(const char *name, const char *what, int64_t waited_ms, void *arg),
			  void *arg);

#pragma GCC visibility pop
#endif
