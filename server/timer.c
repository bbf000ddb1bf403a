/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot timers on the calling worker's loop.  An event that is not needed any more goes to a
 * few spare ones, so that a timer which is started again each time it fires allocates nothing.
 */
#include <event2/event.h>

#include "worker_private.h"

#define SPARES_MAX 32u

struct spares {
	struct event *events[SPARES_MAX];
	unsigned count;
};

static _Thread_local struct spares spares;

static void
spare_put(struct event *event)
{
	if (spares.count < SPARES_MAX)
		spares.events[spares.count++] = event;
	else
		event_free(event);
}

/* Lets go of the timer first: what fn does may free or restart it. */
static void
fire(evutil_socket_t fd, short what, void *arg)
{
	struct iris_timer *timer = arg;

	spare_put(timer->event);
	timer->event = NULL;
	worker_slice_begin();
	timer->fn(timer->arg);
	worker_slice_end("timer");
}

static struct event *
event_take(struct iris_timer *timer)
{
	struct event *event;

	if (spares.count > 0) {
		event = spares.events[--spares.count];
		IRIS_ASSERT(event_assign(event, worker_base(), -1, 0, fire, timer) == 0);
		return event;
	}
	event = event_new(worker_base(), -1, 0, fire, timer);
	IRIS_ASSERT(event != NULL);
	return event;
}

void
timer_start(struct iris_timer *timer, int64_t milliseconds, void (*fn)(void *arg), void *arg)
{
	struct timeval after;

	if (milliseconds < 0)
		milliseconds = 0;
	after = (struct timeval){ .tv_sec = milliseconds / 1000,
				  .tv_usec = milliseconds % 1000 * 1000 };
	if (!timer->event)
		timer->event = event_take(timer);
	IRIS_ASSERT(event_get_base(timer->event) == worker_base());
	timer->fn = fn;
	timer->arg = arg;
	IRIS_ASSERT(event_add(timer->event, &after) == 0);
}

void
timer_stop(struct iris_timer *timer)
{
	struct event *event = timer->event;

	if (!event)
		return;
	IRIS_ASSERT(event_get_base(event) == worker_base());
	timer->event = NULL;
	(void)event_del(event);
	spare_put(event);
}

bool
timer_is_running(const struct iris_timer *timer)
{
	return timer->event != NULL;
}

void
timers_close(void)
{
	while (spares.count > 0)
		event_free(spares.events[--spares.count]);
}
