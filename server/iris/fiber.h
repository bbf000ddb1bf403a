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
/*
 * The same for what may be refused: leaves a quarter of the limit to streams.  Who makes others
 * work (requests, messages to many accounts) must not keep everybody from signing in.
 */
IRIS_MUST_CHECK bool fiber_start_spare(const char *name, void (*fn)(void *arg), void *arg);

struct iris_fiber *fiber_self(void);   /* NULL outside a fiber */
const char *fiber_name(void);          /* of the running one, or "loop" */
unsigned fiber_count(void);            /* live fibers of this worker */

/*
 * A one-shot event that one fiber waits for.  It lives on the waiting fiber's stack.
 *   struct iris_wait w; wait_init(&w); start something that will call wait_done(&w);
 *   wait_for(&w, "vault: roster.load");
 * wait_done() may come before wait_for(), and must come exactly once, on the worker of the fiber.
 * Called from the loop it runs the fiber at once; called inside another fiber, the waiting one
 * runs when that has ended or waits itself, still in this turn.
 * There is no cancelling: what will be completed is awaited to its end, also while the worker is
 * stopping, so what the other side writes may lie on the waiting stack.  Whoever offers a wait
 * (vault, pool, a call to another worker) sees to it that wait_done() comes, in bounded time.
 * Only fiber_sleep() is cut short when the worker stops.
 */
struct iris_wait {
	struct iris_fiber *fiber; /* set while suspended */
	bool done;
};

void wait_init(struct iris_wait *wait);
void wait_for(struct iris_wait *wait, const char *what); /* fiber only; `what` is a constant */
void wait_done(struct iris_wait *wait);

/* False when the worker is stopping: return as soon as possible. */
IRIS_MUST_CHECK bool fiber_sleep(unsigned milliseconds);

/* Between these, waiting is a bug (asserted). They nest. */
void fiber_no_wait_begin(void);
void fiber_no_wait_end(void);

/*
 * Is what is handled now in transit, so that nothing of it is kept (iris/stanza.h)?  Who begins
 * with a stanza or a delivery says so, by its mark; what goes on from there has it, too: fibers
 * that are started, over all their waits, calls to other workers and all other mail, stanzas that
 * are made.
 * Timers, the end of a turn and of a ticket have not: what they do with a stanza later begins anew.
 */
bool transit_is_on(void);
/* Sets it, either way; returns what to give to transit_end(), in the same fiber or turn. */
IRIS_MUST_CHECK bool transit_begin(bool transit);
void transit_end(bool before);
/* At the start of a fiber that goes on with the business of all, whoever gave the occasion. */
void transit_leave(void);

/*
 * A lock between fibers of one worker, by key (a bare JID), for read-modify-write across
 * waits.  Not re-entrant; never held across home_call().  Order of waiters is kept.
 */
void fiber_lock(struct iris_str key);
void fiber_unlock(struct iris_str key);

/* Calls fn for each suspended fiber of this worker: its name, what it waits for, since when. */
void fiber_each_suspended(void (*fn)(const char *name, const char *what, int64_t waited_ms,
				     void *arg),
			  void *arg);

#pragma GCC visibility pop
#endif
