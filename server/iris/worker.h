/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers: one thread and one event loop each.  Everything with state has a home worker and is
 * touched there only; between workers goes mail.  The main thread is a worker too (signals,
 * reload, the operators' HTTP endpoint), with index WORKER_MAIN, but homes nothing.
 */
#ifndef IRIS_WORKER_H
#define IRIS_WORKER_H

#include <sys/queue.h>

#include "iris/base.h"

#pragma GCC visibility push(default) /* for plug-ins */

struct event_base;
struct iris_worker;

#define WORKER_MAIN (-1)
#define WORKER_LIMIT 64

struct iris_worker *worker_self(void);            /* NULL on threads that are no workers */
int worker_index(void);                           /* of the calling thread */
unsigned worker_count(void);                      /* without the main one */
struct iris_worker *worker_at(int index);         /* WORKER_MAIN or 0 .. count-1 */
int worker_index_of(const struct iris_worker *worker);
struct event_base *worker_base(void);             /* the calling worker's loop */
bool worker_is_stopping(void);

int64_t worker_now_ms(void);   /* monotonic, read once a turn */
int64_t worker_wall_ms(void);  /* Unix time in milliseconds, read once a turn */

/* Where the state of this address (bare JID, domain) lives. */
struct iris_worker *home_of(struct iris_str address);

/*
 * Mail: embedded in what is sent; fn runs on the receiving worker, outside any fiber, and owns
 * the mail from then on.  Any thread may post.  Order between one sender and one receiver is kept.
 */
struct iris_mail {
	struct iris_mail *next;
	void (*fn)(struct iris_mail *mail);
	bool transit; /* the worker's: transit_is_on() of who posted it, and while fn runs */
};

void worker_post(struct iris_worker *to, struct iris_mail *mail);

/*
 * Runs fn(arg) on a fiber at the address's home and waits for its end (fiber only; no fiber
 * lock may be held).  On the same worker it is a plain call.
 */
void home_call(struct iris_str address, const char *name, void (*fn)(void *arg), void *arg);
void worker_call(struct iris_worker *worker, const char *name, void (*fn)(void *arg), void *arg);
/* Runs fn(arg) on a thread of the CPU pool and waits for its end (fiber only). */
void pool_call(const char *name, void (*fn)(void *arg), void *arg);

/* One-shot timers of the calling worker; zero-initialised before the first start. */
struct iris_timer {
	struct event *event;
	void (*fn)(void *arg);
	void *arg;
};

void timer_start(struct iris_timer *timer, int64_t milliseconds, void (*fn)(void *arg), void *arg);
void timer_stop(struct iris_timer *timer); /* also frees its event; safe when not started */
bool timer_is_running(const struct iris_timer *timer);

/*
 * Work for the end of this turn of the loop (flush output, free a parser).  An entry runs once
 * per worker_at_turn_end(); asking again while it waits does nothing.  Entries may be added by
 * entries: the end of a turn goes on until none is left.  Those that are `late` run when nobody
 * else has anything left to do: what is collected until then leaves together.
 */
struct iris_turn {
	TAILQ_ENTRY(iris_turn) link;
	bool queued, late;
	void (*fn)(struct iris_turn *turn);
};

void worker_at_turn_end(struct iris_turn *turn);
void worker_turn_cancel(struct iris_turn *turn);

#pragma GCC visibility pop
#endif
