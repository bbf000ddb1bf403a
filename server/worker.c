/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers and their turn: events, mail, fibers that became ready, the end of the turn.  Each
 * loop belongs to its thread alone and has no locks; others reach it by mail only.
 */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "iris/hash.h"
#include "iris/module.h"
#include "worker_private.h"

#define SLOW_TURN_MS 50
#define STOP_LIMIT_MS 10000
#define STOP_ROUND_MS 2

TAILQ_HEAD(turn_list, iris_turn);

struct iris_worker {
	int index;
	pthread_t thread;
	struct event_base *base;
	struct event *wake;
	struct mailbox mailbox;
	bool has_mailbox; /* also when its thread is gone, until worker_main_free() */
	struct turn_list turn_end, turn_late;
	int64_t now_ms, wall_ms; /* 0: not read in this turn */
	/* Of this turn, by the coarse clock: */
	int64_t turn_began_ms, slice_began_ms, longest_ms;
	const char *longest;
	uint64_t mail_count, mail_seen; /* handled; and at the last round of stopping */
	bool quit;                      /* of the thread's own loop */
};

/* Static, so that a pointer to a worker is good as long as the process. */
static struct iris_worker workers[WORKER_LIMIT];
static struct iris_worker main_worker = { .index = WORKER_MAIN };
static _Atomic unsigned count;
static _Atomic bool stopping, main_quit;
static _Thread_local struct iris_worker *self;

struct iris_metric worker_metrics[] = {
	[WORKER_METRIC_FIBERS] = { "iris_fibers", NULL, IRIS_GAUGE, "Fibers that run or wait.", 0 },
	[WORKER_METRIC_FIBERS_REFUSED] = { "iris_fibers_refused_total", NULL, IRIS_COUNTER,
					   "Fibers not started for the limit or for memory.", 0 },
	[WORKER_METRIC_SLOW_TURNS] = { "iris_worker_slow_turns_total", NULL, IRIS_COUNTER,
				       "Turns of a worker's loop that took longer than 50 ms.", 0 },
	{ .name = NULL },
};

/* --- who and when --- */

struct iris_worker *
worker_self(void)
{
	return self;
}

int
worker_index(void)
{
	IRIS_ASSERT(self != NULL);
	return self->index;
}

unsigned
worker_count(void)
{
	return atomic_load_explicit(&count, memory_order_relaxed);
}

struct iris_worker *
worker_at(int index)
{
	if (index == WORKER_MAIN)
		return &main_worker;
	IRIS_ASSERT(index >= 0 && (unsigned)index < worker_count());
	return &workers[index];
}

int
worker_index_of(const struct iris_worker *worker)
{
	return worker->index;
}

struct event_base *
worker_base(void)
{
	IRIS_ASSERT(self != NULL);
	return self->base;
}

bool
worker_is_stopping(void)
{
	return atomic_load_explicit(&stopping, memory_order_relaxed);
}

static int64_t
clock_ms(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t
worker_now_ms(void)
{
	if (!self)
		return clock_ms(CLOCK_MONOTONIC);
	if (self->now_ms == 0)
		self->now_ms = clock_ms(CLOCK_MONOTONIC);
	return self->now_ms;
}

int64_t
worker_wall_ms(void)
{
	if (!self)
		return clock_ms(CLOCK_REALTIME);
	if (self->wall_ms == 0)
		self->wall_ms = clock_ms(CLOCK_REALTIME);
	return self->wall_ms;
}

/* Where there are no workers (tools, tests) main does their work. */
struct iris_worker *
home_of(struct iris_str address)
{
	unsigned n = worker_count();

	return n > 0 ? &workers[hash_bytes(address.base, address.len) % n] : &main_worker;
}

/* --- the turn --- */

/* A few nanoseconds each: the coarse clock is a read of shared memory. */
void
worker_slice_begin(void)
{
	self->slice_began_ms = clock_ms(CLOCK_MONOTONIC_COARSE);
	if (self->turn_began_ms == 0)
		self->turn_began_ms = self->slice_began_ms;
}

void
worker_slice_end(const char *name)
{
	int64_t now = clock_ms(CLOCK_MONOTONIC_COARSE);

	if (now - self->slice_began_ms >= self->longest_ms) {
		self->longest_ms = now - self->slice_began_ms;
		self->longest = name;
	}
	self->slice_began_ms = now;
}

static void
watch_turn(struct iris_worker *worker)
{
	int64_t took;

	if (worker->turn_began_ms == 0)
		return;
	took = clock_ms(CLOCK_MONOTONIC_COARSE) - worker->turn_began_ms;
	if (took > SLOW_TURN_MS) {
		metric_add(&worker_metrics[WORKER_METRIC_SLOW_TURNS], 1);
		LOG(IRIS_LOG_WARNING, "worker", "slow-turn", LOG_INT("worker", worker->index),
		    LOG_INT("ms", took), LOG_CSTR("longest", worker->longest),
		    LOG_INT("longest_ms", worker->longest_ms));
	}
}

static void
run_mail(struct iris_worker *worker)
{
	struct iris_mail *mail = mailbox_take(&worker->mailbox);

	while (mail) {
		struct iris_mail *next = mail->next;

		worker->mail_count++;
		worker_slice_begin();
		bool before = transit_begin(mail->transit);
		mail->fn(mail);
		transit_end(before);
		worker_slice_end("mail");
		mail = next;
	}
}

static bool
run_turn_end(struct turn_list *list)
{
	struct iris_turn *turn = TAILQ_FIRST(list);
	bool any = turn != NULL;

	for (; turn; turn = TAILQ_FIRST(list)) {
		worker_turn_cancel(turn);
		worker_slice_begin();
		turn->fn(turn);
		worker_slice_end("end of turn");
	}
	return any;
}

static void
run_rest(struct iris_worker *worker)
{
	bool any;

	do {
		any = fibers_run_ready();
		any = run_turn_end(&worker->turn_end) || any;
		any = any || run_turn_end(&worker->turn_late);
	} while (any);
}

static void
run_turn(struct iris_worker *worker)
{
	run_rest(worker); /* what was asked for before there was a turn */
	worker->now_ms = worker->wall_ms = 0;
	worker->turn_began_ms = worker->longest_ms = 0;
	IRIS_ASSERT(event_base_loop(worker->base, EVLOOP_ONCE) >= 0);
	run_mail(worker);
	run_rest(worker);
	IRIS_ASSERT(!transit_is_on());
	watch_turn(worker);
}

static struct turn_list *
turn_list_of(const struct iris_turn *turn)
{
	return turn->late ? &self->turn_late : &self->turn_end;
}

void
worker_at_turn_end(struct iris_turn *turn)
{
	IRIS_ASSERT(self != NULL && turn->fn != NULL);
	if (turn->queued)
		return;
	turn->queued = true;
	TAILQ_INSERT_TAIL(turn_list_of(turn), turn, link);
}

void
worker_turn_cancel(struct iris_turn *turn)
{
	if (!turn->queued)
		return;
	turn->queued = false;
	TAILQ_REMOVE(turn_list_of(turn), turn, link);
}

/* --- mail and calls --- */

void
worker_post(struct iris_worker *to, struct iris_mail *mail)
{
	mail->transit = transit_is_on();
	mailbox_put(&to->mailbox, mail);
}

/* Lies on the stack of the fiber that waits. */
struct call {
	struct iris_mail mail; /* there, and back */
	struct iris_wait wait;
	struct iris_worker *from;
	const char *name;
	void (*fn)(void *arg);
	void *arg;
};

static void
call_returned(struct iris_mail *mail)
{
	struct call *call = IRIS_CONTAINER(mail, struct call, mail);

	wait_done(&call->wait);
}

static void
call_run(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	call->mail.fn = call_returned;
	worker_post(call->from, &call->mail); /* the call is gone from here on */
}

/*
 * The limit does not count here: a fiber of the caller has passed it already, and two workers at
 * their limits would wait for each other for ever.  With no memory map left, try in the next turn.
 */
static void
call_arrived(struct iris_mail *mail)
{
	struct call *call = IRIS_CONTAINER(mail, struct call, mail);

	if (!fiber_start_reserved(call->name, call_run, call))
		worker_post(self, mail);
}

static void
call_here(const char *name, void (*fn)(void *arg), void *arg)
{
	const char *before = fiber_rename(name);

	fn(arg);
	(void)fiber_rename(before);
}

void
worker_call(struct iris_worker *worker, const char *name, void (*fn)(void *arg), void *arg)
{
	struct call call = { .mail.fn = call_arrived, .from = self, .name = name, .fn = fn,
			     .arg = arg };

	/* A lock over a call could close a ring of waiters across workers. */
	IRIS_ASSERT(fiber_self() != NULL && !fiber_holds_lock());
	if (worker == self) {
		call_here(name, fn, arg);
		return;
	}
	worker_post(worker, &call.mail);
	wait_for(&call.wait, name);
}

void
home_call(struct iris_str address, const char *name, void (*fn)(void *arg), void *arg)
{
	worker_call(home_of(address), name, fn, arg);
}

/* --- start --- */

/* The edge is enough: run_mail() looks after every turn. */
static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
}

static bool
loop_open(struct iris_worker *worker)
{
	struct event_config *config = event_config_new();

	IRIS_ASSERT(config != NULL);
	IRIS_ASSERT(event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0);
	worker->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!worker->base)
		return false;
	if (!worker->has_mailbox)
		worker->has_mailbox = mailbox_open(&worker->mailbox);
	if (!worker->has_mailbox) {
		event_base_free(worker->base);
		worker->base = NULL;
		return false;
	}
	worker->wake = event_new(worker->base, worker->mailbox.fd, EV_READ | EV_ET | EV_PERSIST,
				 on_wake, NULL);
	IRIS_ASSERT(worker->wake != NULL && event_add(worker->wake, NULL) == 0);
	TAILQ_INIT(&worker->turn_end);
	TAILQ_INIT(&worker->turn_late);
	worker->mail_count = worker->mail_seen = 0;
	worker->quit = false;
	return true;
}

/* Who posted a last mail may still be about to wake: mailboxes stay open longer than loops. */
static void
loop_close(struct iris_worker *worker)
{
	IRIS_ASSERT(TAILQ_EMPTY(&worker->turn_end) && TAILQ_EMPTY(&worker->turn_late));
	event_free(worker->wake);
	event_base_free(worker->base);
	worker->base = NULL;
}

static void
close_mailbox(struct iris_worker *worker)
{
	if (worker->has_mailbox)
		mailbox_close(&worker->mailbox);
	worker->has_mailbox = false;
}

static void *
worker_thread(void *arg)
{
	struct iris_worker *worker = arg;
	char name[16];

	(void)snprintf(name, sizeof(name), "iris-worker-%d", worker->index);
	(void)pthread_setname_np(pthread_self(), name);
	self = worker;
	fibers_open();
	while (!worker->quit)
		run_turn(worker);
	fibers_close();
	timers_close();
	loop_close(worker);
	return NULL;
}

/* Signals go to the main thread, but for those that a fault of the thread itself raises. */
static int
thread_create(struct iris_worker *worker)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF };
	sigset_t blocked, before;
	int failure;

	(void)sigfillset(&blocked);
	for (size_t i = 0; i < IRIS_COUNT(faults); i++)
		(void)sigdelset(&blocked, faults[i]);
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &blocked, &before) == 0);
	failure = pthread_create(&worker->thread, NULL, worker_thread, worker);
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return failure;
}

void
worker_main_init(void)
{
	IRIS_ASSERT(self == NULL && main_worker.base == NULL);
	IRIS_ASSERT(loop_open(&main_worker));
	self = &main_worker;
	atomic_store(&main_quit, false);
	atomic_store(&stopping, false);
	(void)signal(SIGPIPE, SIG_IGN);
	fibers_open();
}

void
worker_main_free(void)
{
	IRIS_ASSERT(self == &main_worker && worker_count() == 0);
	run_rest(&main_worker);
	fibers_close();
	timers_close();
	loop_close(&main_worker);
	close_mailbox(&main_worker);
	for (unsigned i = 0; i < WORKER_LIMIT; i++)
		close_mailbox(&workers[i]);
	self = NULL;
}

void
worker_run_main(void)
{
	IRIS_ASSERT(self == &main_worker && !fiber_self());
	do
		run_turn(&main_worker);
	while (!atomic_exchange(&main_quit, false));
}

void
worker_main_quit(void)
{
	atomic_store(&main_quit, true);
	mailbox_wake(&main_worker.mailbox);
}

static unsigned
core_count(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > WORKER_LIMIT ? WORKER_LIMIT : (unsigned)cores;
}

static bool
start_failed(unsigned started, int failure, struct iris_error *error)
{
	(void)error_set(error, "cannot start worker %u", started);
	(void)error_detail(error, "%s", strerror(failure));
	(void)error_hint(error, "raise the limits of open files and threads, or lower "
				"worker.count");
	workers_stop();
	return false;
}

bool
workers_start(unsigned wanted, struct iris_error *error)
{
	IRIS_ASSERT(self == &main_worker && worker_count() == 0 && !worker_is_stopping());
	if (wanted == 0)
		wanted = core_count();
	if (wanted > WORKER_LIMIT)
		return error_set(error, "worker.count is %u, the most is %d", wanted, WORKER_LIMIT);
	for (unsigned i = 0; i < wanted; i++) {
		workers[i].index = (int)i;
		if (!loop_open(&workers[i])) {
			int failure = errno;

			while (i-- > 0)
				loop_close(&workers[i]);
			return start_failed(0, failure, error);
		}
	}
	/* Before the first thread looks, because the homes of addresses depend on it. */
	atomic_store(&count, wanted);
	for (unsigned i = 0; i < wanted; i++) {
		int failure = thread_create(&workers[i]);

		if (failure == 0)
			continue;
		for (unsigned j = i; j < wanted; j++)
			loop_close(&workers[j]);
		atomic_store(&count, i);
		return start_failed(i, failure, error);
	}
	return true;
}

/* --- everybody at once, and stop --- */

struct each {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	unsigned left;
	void (*fn)(void *arg);
	void *arg;
};

struct each_mail {
	struct iris_mail mail;
	struct each *each;
};

static void
each_run(struct iris_mail *mail)
{
	struct each *each = IRIS_CONTAINER(mail, struct each_mail, mail)->each;

	each->fn(each->arg);
	IRIS_ASSERT(pthread_mutex_lock(&each->mutex) == 0);
	if (--each->left == 0)
		IRIS_ASSERT(pthread_cond_signal(&each->changed) == 0);
	IRIS_ASSERT(pthread_mutex_unlock(&each->mutex) == 0);
}

void
workers_each(void (*fn)(void *arg), void *arg)
{
	struct each each = { .mutex = PTHREAD_MUTEX_INITIALIZER, .fn = fn, .arg = arg,
			     .changed = PTHREAD_COND_INITIALIZER, .left = worker_count() };
	struct each_mail mails[WORKER_LIMIT];

	IRIS_ASSERT(self == &main_worker);
	for (unsigned i = 0; i < worker_count(); i++) {
		mails[i] = (struct each_mail){ .mail.fn = each_run, .each = &each };
		worker_post(&workers[i], &mails[i].mail);
	}
	fn(arg);
	IRIS_ASSERT(pthread_mutex_lock(&each.mutex) == 0);
	while (each.left > 0)
		IRIS_ASSERT(pthread_cond_wait(&each.changed, &each.mutex) == 0);
	IRIS_ASSERT(pthread_mutex_unlock(&each.mutex) == 0);
	(void)pthread_cond_destroy(&each.changed);
	(void)pthread_mutex_destroy(&each.mutex);
}

static void
stop_wake(void *arg)
{
	fibers_wake_sleepers();
}

/* Quiet is who has no fiber and had no mail since the last round but the round's own. */
static void
stop_look(void *arg)
{
	_Atomic bool *quiet = arg;
	uint64_t own = self == &main_worker ? 0 : 1;

	if (fiber_count() > 0 || self->mail_count - self->mail_seen > own)
		atomic_store(quiet, false);
	self->mail_seen = self->mail_count;
}

static void
stop_list_one(const char *name, const char *what, int64_t waited_ms, void *arg)
{
	LOG(IRIS_LOG_ERROR, "worker", "fiber-left", LOG_INT("worker", self->index),
	    LOG_CSTR("fiber", name), LOG_CSTR("waits_for", what), LOG_INT("ms", waited_ms));
}

static void
stop_list(void *arg)
{
	fiber_each_suspended(stop_list_one, NULL);
}

static void
stop_quit(void *arg)
{
	self->quit = true;
}

static void
set_flag(void *flag)
{
	*(bool *)flag = true;
}

static void
main_run_for(int64_t milliseconds)
{
	struct iris_timer timer = { .event = NULL };
	bool over = false;

	timer_start(&timer, milliseconds, set_flag, &over);
	while (!over)
		run_turn(&main_worker);
}

/*
 * Two quiet rounds in a row, because in the first one somebody may still have posted to who had
 * been asked already.
 */
static void
stop_in_rounds(void)
{
	int64_t deadline = clock_ms(CLOCK_MONOTONIC) + STOP_LIMIT_MS;
	unsigned quiet_rounds = 0;

	while (quiet_rounds < 2) {
		_Atomic bool quiet = true;

		main_run_for(STOP_ROUND_MS);
		workers_each(stop_look, &quiet);
		quiet_rounds = atomic_load(&quiet) ? quiet_rounds + 1 : 0;
		if (clock_ms(CLOCK_MONOTONIC) >= deadline)
			workers_each(stop_list, NULL);
		IRIS_ASSERT(clock_ms(CLOCK_MONOTONIC) < deadline);
	}
}

void
workers_stop(void)
{
	unsigned n = worker_count();

	IRIS_ASSERT(self == &main_worker && !fiber_self());
	atomic_store(&stopping, true);
	workers_each(stop_wake, NULL);
	stop_in_rounds();
	workers_each(stop_quit, NULL);
	for (unsigned i = 0; i < n; i++)
		IRIS_ASSERT(pthread_join(workers[i].thread, NULL) == 0);
	atomic_store(&count, 0);
}

/* --- the section `worker` --- */

enum { OPTION_COUNT, OPTION_FIBERS_MAX, OPTION_POOL_THREADS };

static const struct iris_option options[] = {
	[OPTION_COUNT] = {
		.name = "count", .type = IRIS_OPT_INT,
		.fallback = "0", .max = WORKER_LIMIT,
		.help = "Worker threads; 0 starts one for each core.",
	},
	[OPTION_FIBERS_MAX] = {
		.name = "fibers-max", .type = IRIS_OPT_INT,
		.fallback = "8000", .min = 100, .max = 1000000,
		.help = "Fibers of one worker that may wait at a time; at the limit it reads no "
			"more from clients. Before Linux 6.13 all workers together may have "
			"half of vm.max_map_count.",
	},
	[OPTION_POOL_THREADS] = {
		.name = "pool-threads", .type = IRIS_OPT_INT, .fallback = "0", .max = 64,
		.help = "Threads for heavy computing, such as the derivation of keys from "
			"passwords; 0 starts one for each two cores.",
	},
	IRIS_OPTIONS_END,
};

static struct iris_module_self module_self;

unsigned
worker_configured_count(void)
{
	return (unsigned)option_int(&module_self, OPTION_COUNT);
}

static bool
module_start(struct iris_error *error)
{
	fiber_set_limit((unsigned)option_int(&module_self, OPTION_FIBERS_MAX));
	return pool_start((unsigned)option_int(&module_self, OPTION_POOL_THREADS), error);
}

const struct iris_module iris_module_worker = {
	IRIS_MODULE_HEAD,
	.name = "worker",
	.summary = "Worker threads, fibers and the pool for heavy computing",
	.self = &module_self,
	.options = options,
	.metrics = worker_metrics,
	.not_unloadable = true,
	.at_edge = true,
	.start = module_start,
	.stop = pool_stop,
};
