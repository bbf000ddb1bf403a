/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the process drives its workers (main.c, boot.c), and what fiber.c, worker.c, mailbox.c,
 * timer.c and pool.c share.
 */
#ifndef IRIS_WORKER_PRIVATE_H
#define IRIS_WORKER_PRIVATE_H

#include <stdatomic.h>

#include "iris/fiber.h"
#include "iris/metrics.h"
#include "iris/worker.h"

/* --- for boot.c: all on the main thread, outside any fiber --- */

void worker_main_init(void); /* the calling thread becomes the main worker */
/* The very last, when no thread is left that may post: frees main's loop and all mailboxes. */
void worker_main_free(void);
/* Starts `count` threads, 0 for one per core.  Afterwards worker_count() tells how many. */
IRIS_MUST_CHECK bool workers_start(unsigned count, struct iris_error *error);
/*
 * Ends all fibers, those of main too: fiber_sleep() returns false, everything else is awaited
 * to its end.  Then goes on in rounds until no worker has mail, and joins.  Asserts after ten
 * seconds.
 */
void workers_stop(void);
/* Runs fn(arg) on every worker at once, outside a fiber, and on main; returns when all are done. */
void workers_each(void (*fn)(void *arg), void *arg);
unsigned worker_configured_count(void); /* the option `count` of section `worker` */

void worker_run_main(void);  /* the main loop, until worker_main_quit() */
void worker_main_quit(void); /* any thread */

void fiber_set_limit(unsigned per_worker); /* before workers start */

IRIS_MUST_CHECK bool pool_start(unsigned threads, struct iris_error *error); /* 0: half the cores */
void pool_stop(void); /* no job may be left */

enum { WORKER_METRIC_FIBERS, WORKER_METRIC_FIBERS_REFUSED, WORKER_METRIC_SLOW_TURNS };
extern struct iris_metric worker_metrics[];

/* --- fiber.c for worker.c: the calling worker's fibers --- */

void fibers_open(void);
void fibers_close(void); /* none may be alive */
/* A fiber beyond the limit, for what a fiber elsewhere waits for; false: no memory map left. */
IRIS_MUST_CHECK bool fiber_start_reserved(const char *name, void (*fn)(void *arg), void *arg);
bool fibers_run_ready(void);    /* false when none was ready */
void fibers_wake_sleepers(void);
const char *fiber_rename(const char *name); /* of the running fiber; returns the name before */
bool fiber_holds_lock(void);

/* --- mailbox.c: many senders, one receiver, no lock --- */

struct mailbox {
	_Atomic(struct iris_mail *) newest;
	int fd; /* an eventfd, written when the first mail comes into an empty box */
};

IRIS_MUST_CHECK bool mailbox_open(struct mailbox *box); /* errno says why not */
void mailbox_close(struct mailbox *box);
void mailbox_put(struct mailbox *box, struct iris_mail *mail); /* any thread */
void mailbox_wake(struct mailbox *box);                        /* any thread */
struct iris_mail *mailbox_take(struct mailbox *box);           /* all, oldest first */

/* --- timer.c --- */

void timers_close(void); /* the calling worker's spare events */

/* --- worker.c for those that run other people's code: who takes long within a turn? --- */

void worker_slice_begin(void);
void worker_slice_end(const char *name);

#endif
