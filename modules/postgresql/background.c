/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread for what no worker asked for: the log's index, and the DNS.  It has a loop, a connection
 * and a writer like a worker's; what fails is given back at once, for the log writes it again
 * later.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "iris/log.h"
#include "modules/postgresql/postgresql_private.h"

#define CHECK_MS 250
#define LOOK_UP_PAUSE_US 1000000

static struct {
	pthread_t thread;
	bool running;
	int fd; /* an eventfd: something is in the list */
	struct event_base *base;
	struct event *wake, *check;
	struct pg_writer *writer;
	atomic_bool stopping, look_up;
	int64_t looked_up_us;
	pthread_mutex_t lock;
	struct vault_group *first, *last; /* under the lock */
} background = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
background_wake(void)
{
	const uint64_t one = 1;
	while (write(background.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
}

void
pg_background_submit(struct vault_group *group)
{
	group->sequence = 0;
	group->next = NULL;
	pthread_mutex_lock(&background.lock);
	if (background.last)
		background.last->next = group;
	else
		background.first = group;
	background.last = group;
	pthread_mutex_unlock(&background.lock);
	background_wake();
}

void
pg_background_look_up(void)
{
	atomic_store(&background.look_up, true); /* at the next check */
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&background.lock);
	struct vault_group *group = background.first;
	background.first = background.last = NULL;
	pthread_mutex_unlock(&background.lock);
	while (group) {
		struct vault_group *next = group->next;
		pg_writer_submit(background.writer, group);
		group = next;
	}
	pg_writer_pump(background.writer);
	if (atomic_load(&background.stopping))
		(void)event_base_loopbreak(background.base);
}

static void
on_check(evutil_socket_t fd, short what, void *arg)
{
	pg_writer_check(background.writer);
	if (!atomic_load(&background.look_up) ||
	    pg_now_us() - background.looked_up_us < LOOK_UP_PAUSE_US)
		return;
	atomic_store(&background.look_up, false);
	pg_address_refresh();
	background.looked_up_us = pg_now_us();
}

static void *
background_main(void *arg)
{
	(void)event_base_dispatch(background.base);
	pg_writer_stop(background.writer);
	return NULL;
}

static void
background_free(void)
{
	if (background.wake)
		event_free(background.wake);
	if (background.check)
		event_free(background.check);
	free(background.writer);
	background.wake = background.check = NULL;
	background.writer = NULL;
	if (background.base)
		event_base_free(background.base);
	background.base = NULL;
	if (background.fd >= 0)
		(void)close(background.fd);
}

/* Signals go to the main thread. */
static int
thread_create(void)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	int failure = pthread_create(&background.thread, NULL, background_main, NULL);
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return failure;
}

bool
pg_background_start(struct iris_error *error)
{
	const struct timeval every = { .tv_usec = CHECK_MS * 1000 };
	struct event_config *config = event_config_new();

	IRIS_ASSERT(config && event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0);
	background.base = event_base_new_with_config(config);
	event_config_free(config);
	background.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&background.stopping, false);
	if (!background.base || background.fd < 0) {
		background_free();
		return error_set(error, "The database: no loop for the background");
	}
	background.writer = iris_calloc(1, sizeof(*background.writer));
	background.writer->background = true;
	pg_writer_init(background.writer, PG_WRITERS - 1, background.base);
	background.wake =
		event_new(background.base, background.fd, EV_READ | EV_PERSIST, on_wake, NULL);
	background.check = event_new(background.base, -1, EV_PERSIST, on_check, NULL);
	IRIS_ASSERT(background.wake && background.check && event_add(background.wake, NULL) == 0 &&
		    event_add(background.check, &every) == 0);
	background.running = thread_create() == 0;
	if (background.running)
		return true;
	pg_writer_stop(background.writer);
	background_free();
	return error_set(error, "The database: the background's thread cannot be started");
}

void
pg_background_stop(void)
{
	if (!background.running)
		return;
	atomic_store(&background.stopping, true);
	background_wake();
	(void)pthread_join(background.thread, NULL);
	background.running = false;
	background_free();
}
