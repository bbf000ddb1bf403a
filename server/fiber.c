/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers of one thread: stacks from a pool, the switch from Boost.Context's two C entry points,
 * waits, sleeps and keyed locks.  A fiber runs on the thread that made it and never elsewhere:
 * compilers keep the address of errno and of thread-local data in registers over a switch.
 * Does not know what is waited for.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unistd.h>

#include "iris/hash.h"
#include "sanitizers.h"
#include "worker_private.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define STACK_SIZE (128u * 1024u) /* the deepest library call measured takes 33 KiB */
#define POOL_KEPT 16u
#define TRIM_MS 10000
#define SIGNAL_STACK_SIZE (64u * 1024u)
/* A fiber costs ThreadSanitizer over a megabyte. */
#define FIBERS_CEILING (SAN_THREAD ? 4000u : UINT32_MAX)

struct transfer {
	void *context;
	void *data;
};

/* Boost.Context has no C header. */
extern struct transfer jump_fcontext(void *to, void *data);
extern void *make_fcontext(void *stack_top, size_t size, void (*fn)(struct transfer));

/* Lies at the top end of its own mapping: [guard page | stack | this]. */
struct iris_fiber {
	TAILQ_ENTRY(iris_fiber) link; /* in one of the scheduler's lists, unless it runs */
	struct scheduler *home;
	const char *name, *what;
	int64_t since_ms;
	void (*fn)(void *arg); /* NULL asks the entry loop to leave for good */
	void *arg;
	unsigned no_wait, locks;
	bool ended, transit; /* of what it handles: see transit_begin() */
	void *context; /* where it goes on; new after every jump */
	void *back;    /* where whoever resumed it goes on */
	char *map;
	size_t stack_size;
	void *fake, *tsan, *back_tsan; /* the sanitizers' view */
	const void *back_bottom;
	size_t back_size;
	unsigned valgrind_id;
};

struct sleeper {
	TAILQ_ENTRY(sleeper) link;
	struct iris_wait wait;
	struct iris_timer timer;
};

struct waiter {
	STAILQ_ENTRY(waiter) link;
	struct iris_fiber *fiber;
	struct iris_wait wait;
};

struct lock {
	struct iris_hash_node node;
	struct iris_fiber *owner;
	STAILQ_HEAD(, waiter) waiters;
	char key[];
};

TAILQ_HEAD(fiber_list, iris_fiber);

/* One per thread; its address is the fibers' home. */
struct scheduler {
	bool open;
	struct iris_fiber *current;
	struct fiber_list suspended, ready, pool;
	TAILQ_HEAD(, sleeper) sleepers;
	struct iris_hash locks;
	unsigned live, pooled, pooled_low; /* low: the least since the last trim */
	struct iris_timer trim;
	void *tsan;
	void *signal_stack;
};

static _Thread_local struct scheduler scheduler;
static _Thread_local bool transit; /* of what this thread handles now, on a fiber or none */
static unsigned limit = 8000u < FIBERS_CEILING ? 8000u : FIBERS_CEILING;
static size_t page_size;
static _Atomic bool guards_need_mprotect;

/* --- stacks --- */

__attribute__((constructor)) static void
ask_page_size(void)
{
	page_size = (size_t)sysconf(_SC_PAGESIZE);
}

/*
 * The light way (Linux 6.13) needs no second entry in the kernel's list of mappings, of which
 * a process may have 65530; the old one needs two per stack.
 */
static bool
guard(char *page)
{
	if (!atomic_load_explicit(&guards_need_mprotect, memory_order_relaxed)) {
		if (madvise(page, page_size, MADV_GUARD_INSTALL) == 0)
			return true;
		atomic_store_explicit(&guards_need_mprotect, true, memory_order_relaxed);
	}
	return mprotect(page, page_size, PROT_NONE) == 0;
}

static void entry(struct transfer from);

/* MAP_STACK keeps huge pages away, which would make every stack two megabytes. */
static struct iris_fiber *
fiber_map(void)
{
	size_t head = (sizeof(struct iris_fiber) + 63) & ~(size_t)63;
	size_t size = page_size + STACK_SIZE;
	struct iris_fiber *fiber;
	char *map;

	map = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (!guard(map)) {
		(void)munmap(map, size);
		return NULL;
	}
	fiber = (struct iris_fiber *)(void *)(map + size - head);
	fiber->home = &scheduler;
	fiber->map = map;
	fiber->stack_size = STACK_SIZE - head;
	fiber->context = make_fcontext(fiber, fiber->stack_size, entry);
	fiber->tsan = SAN_FIBER_CREATE();
	SAN_STACK_REGISTER(map + page_size, STACK_SIZE);
	fiber->valgrind_id = VALGRIND_STACK_REGISTER(map + page_size, (char *)fiber);
	return fiber;
}

static void
fiber_unmap(struct iris_fiber *fiber)
{
	char *map = fiber->map;

	SAN_FIBER_DESTROY(fiber->tsan);
	SAN_STACK_DEREGISTER(map + page_size, STACK_SIZE);
	VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
	ASAN_UNPOISON_MEMORY_REGION(map + page_size, STACK_SIZE);
	IRIS_ASSERT(munmap(map, page_size + STACK_SIZE) == 0);
}

/* --- the switch.  Annotations stand directly before and directly after each jump. --- */

static void
arrive(struct iris_fiber *fiber, struct transfer from)
{
	SAN_SWITCH_END(fiber->fake, &fiber->back_bottom, &fiber->back_size);
	fiber->back = from.context;
}

static void
leave(struct iris_fiber *fiber)
{
	struct transfer from;

	SAN_SWITCH_BEGIN(&fiber->fake, fiber->back_bottom, fiber->back_size);
	SAN_FIBER_SWITCH(fiber->back_tsan);
	from = jump_fcontext(fiber->back, fiber);
	arrive(fiber, from);
}

static void
leave_for_good(struct iris_fiber *fiber)
{
	SAN_SWITCH_BEGIN(NULL, fiber->back_bottom, fiber->back_size);
	SAN_FIBER_SWITCH(fiber->back_tsan);
	(void)jump_fcontext(fiber->back, fiber);
}

/* Never returns: the same stack, and the sanitizers' shadows of it, serve the next task. */
static void
entry(struct transfer from)
{
	struct iris_fiber *fiber = from.data;

	arrive(fiber, from);
	while (fiber->fn) {
		fiber->fn(fiber->arg);
		IRIS_ASSERT(fiber->no_wait == 0 && fiber->locks == 0);
		fiber->ended = true;
		leave(fiber);
	}
	leave_for_good(fiber);
	IRIS_ASSERT(fiber->fn != NULL); /* nobody resumes it any more */
}

static void
switch_to(struct iris_fiber *fiber)
{
	struct iris_fiber *before = scheduler.current;
	bool transit_before = transit;
	struct transfer from;
	void *fake = NULL;

	IRIS_ASSERT(fiber->home == &scheduler && fiber != before);
	scheduler.current = fiber;
	transit = fiber->transit;
	fiber->back_tsan = before ? before->tsan : scheduler.tsan;
	SAN_SWITCH_BEGIN(&fake, fiber->map + page_size, fiber->stack_size);
	SAN_FIBER_SWITCH(fiber->tsan);
	from = jump_fcontext(fiber->context, fiber);
	SAN_SWITCH_END(fake, NULL, NULL);
	fiber->context = from.context;
	fiber->transit = transit;
	transit = transit_before;
	scheduler.current = before;
}

static void
fiber_destroy(struct iris_fiber *fiber)
{
	fiber->fn = NULL;
	switch_to(fiber);
	fiber_unmap(fiber);
}

/* --- the pool of stacks --- */

static void
pool_shrink(unsigned to)
{
	while (scheduler.pooled > to) {
		struct iris_fiber *fiber = TAILQ_LAST(&scheduler.pool, fiber_list);

		TAILQ_REMOVE(&scheduler.pool, fiber, link);
		scheduler.pooled--;
		fiber_destroy(fiber);
	}
	scheduler.pooled_low = scheduler.pooled;
}

/* Gives back half of the stacks that nobody needed since the last time. */
static void
pool_trim(void *arg)
{
	unsigned idle = scheduler.pooled_low;

	pool_shrink(idle > POOL_KEPT ? scheduler.pooled - (idle - POOL_KEPT + 1) / 2
				     : scheduler.pooled);
	if (scheduler.pooled > POOL_KEPT)
		timer_start(&scheduler.trim, TRIM_MS, pool_trim, NULL);
}

static struct iris_fiber *
pool_take(void)
{
	struct iris_fiber *fiber = TAILQ_FIRST(&scheduler.pool);

	if (!fiber)
		return fiber_map();
	TAILQ_REMOVE(&scheduler.pool, fiber, link);
	scheduler.pooled--;
	if (scheduler.pooled < scheduler.pooled_low)
		scheduler.pooled_low = scheduler.pooled;
	return fiber;
}

static void
pool_give(struct iris_fiber *fiber)
{
	fiber->ended = false;
	TAILQ_INSERT_HEAD(&scheduler.pool, fiber, link);
	scheduler.pooled++;
	if (scheduler.pooled > POOL_KEPT && !timer_is_running(&scheduler.trim))
		timer_start(&scheduler.trim, TRIM_MS, pool_trim, NULL);
}

/* --- running --- */

static void
run(struct iris_fiber *fiber)
{
	const char *name = fiber->name;
	bool outermost = scheduler.current == NULL;

	if (outermost)
		worker_slice_begin();
	switch_to(fiber);
	if (fiber->ended) {
		scheduler.live--;
		metric_add(&worker_metrics[WORKER_METRIC_FIBERS], -1);
		pool_give(fiber);
	}
	if (outermost)
		worker_slice_end(name);
}

static void
suspend(const char *what)
{
	struct iris_fiber *fiber = scheduler.current;
	int saved_errno = errno;

	IRIS_ASSERT(fiber != NULL && fiber->no_wait == 0);
	fiber->what = what;
	fiber->since_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&scheduler.suspended, fiber, link);
	leave(fiber);
	fiber->what = NULL;
	errno = saved_errno;
}

static bool
refuse(void)
{
	metric_add(&worker_metrics[WORKER_METRIC_FIBERS_REFUSED], 1);
	return false;
}

static bool
start(const char *name, void (*fn)(void *arg), void *arg)
{
	struct iris_fiber *fiber;

	IRIS_ASSERT(scheduler.open && fn != NULL);
	fiber = pool_take();
	if (!fiber)
		return refuse();
	fiber->name = name;
	fiber->fn = fn;
	fiber->arg = arg;
	fiber->transit = transit;
	scheduler.live++;
	metric_add(&worker_metrics[WORKER_METRIC_FIBERS], 1);
	run(fiber);
	return true;
}

bool
fiber_start(const char *name, void (*fn)(void *arg), void *arg)
{
	return scheduler.live < limit ? start(name, fn, arg) : refuse();
}

bool
fiber_start_spare(const char *name, void (*fn)(void *arg), void *arg)
{
	return scheduler.live < limit - limit / 4 ? start(name, fn, arg) : refuse();
}

bool
fiber_start_reserved(const char *name, void (*fn)(void *arg), void *arg)
{
	return start(name, fn, arg);
}

bool
fibers_run_ready(void)
{
	struct iris_fiber *fiber = TAILQ_FIRST(&scheduler.ready);
	bool any = fiber != NULL;

	for (; fiber; fiber = TAILQ_FIRST(&scheduler.ready)) {
		TAILQ_REMOVE(&scheduler.ready, fiber, link);
		run(fiber);
	}
	return any;
}

struct iris_fiber *
fiber_self(void)
{
	return scheduler.current;
}

const char *
fiber_name(void)
{
	return scheduler.current ? scheduler.current->name : "loop";
}

const char *
fiber_rename(const char *name)
{
	const char *before = fiber_name();

	if (scheduler.current)
		scheduler.current->name = name;
	return before;
}

unsigned
fiber_count(void)
{
	return scheduler.live;
}

void
fiber_set_limit(unsigned per_worker)
{
	limit = per_worker < FIBERS_CEILING ? per_worker : FIBERS_CEILING;
}

void
fiber_each_suspended(void (*fn)(const char *name, const char *what, int64_t waited_ms, void *arg),
		     void *arg)
{
	int64_t now = worker_now_ms();
	struct iris_fiber *fiber;

	TAILQ_FOREACH (fiber, &scheduler.suspended, link)
		fn(fiber->name, fiber->what, now - fiber->since_ms, arg);
}

/* --- waits --- */

void
wait_init(struct iris_wait *wait)
{
	*wait = (struct iris_wait){ .done = false };
}

void
wait_for(struct iris_wait *wait, const char *what)
{
	IRIS_ASSERT(wait->fiber == NULL);
	if (wait->done)
		return;
	wait->fiber = scheduler.current;
	suspend(what);
	IRIS_ASSERT(wait->done);
}

/* Inside a fiber the other one waits for the loop, or stacks would pile up on each other. */
void
wait_done(struct iris_wait *wait)
{
	struct iris_fiber *fiber = wait->fiber;

	IRIS_ASSERT(!wait->done);
	wait->done = true;
	if (!fiber)
		return;
	IRIS_ASSERT(fiber->home == &scheduler);
	wait->fiber = NULL;
	TAILQ_REMOVE(&scheduler.suspended, fiber, link);
	if (scheduler.current)
		TAILQ_INSERT_TAIL(&scheduler.ready, fiber, link);
	else
		run(fiber);
}

static void
sleeper_wake(void *arg)
{
	struct sleeper *sleeper = arg;

	timer_stop(&sleeper->timer);
	TAILQ_REMOVE(&scheduler.sleepers, sleeper, link);
	wait_done(&sleeper->wait);
}

bool
fiber_sleep(unsigned milliseconds)
{
	struct sleeper sleeper = { .wait.done = false };

	IRIS_ASSERT(scheduler.current != NULL);
	if (worker_is_stopping())
		return false;
	timer_start(&sleeper.timer, milliseconds, sleeper_wake, &sleeper);
	TAILQ_INSERT_TAIL(&scheduler.sleepers, &sleeper, link);
	wait_for(&sleeper.wait, "sleep");
	return !worker_is_stopping();
}

void
fibers_wake_sleepers(void)
{
	while (!TAILQ_EMPTY(&scheduler.sleepers))
		sleeper_wake(TAILQ_FIRST(&scheduler.sleepers));
}

/* Outside a fiber nothing can wait anyway. */
void
fiber_no_wait_begin(void)
{
	if (scheduler.current)
		scheduler.current->no_wait++;
}

void
fiber_no_wait_end(void)
{
	if (!scheduler.current)
		return;
	IRIS_ASSERT(scheduler.current->no_wait > 0);
	scheduler.current->no_wait--;
}

bool
transit_is_on(void)
{
	return transit;
}

bool
transit_begin(bool is_transit)
{
	bool before = transit;

	transit = is_transit;
	return before;
}

void
transit_end(bool before)
{
	transit = before;
}

void
transit_leave(void)
{
	IRIS_ASSERT(scheduler.current);
	transit = false;
}

/* --- locks --- */

static struct lock *
lock_find(struct iris_str key)
{
	struct iris_hash_node *node = hash_find(&scheduler.locks, key);

	return node ? IRIS_CONTAINER(node, struct lock, node) : NULL;
}

static void
lock_create(struct iris_str key)
{
	struct lock *lock = iris_malloc(sizeof(*lock) + key.len);

	lock->owner = scheduler.current;
	STAILQ_INIT(&lock->waiters);
	if (key.len > 0)
		memcpy(lock->key, key.base, key.len);
	hash_insert(&scheduler.locks, &lock->node, (struct iris_str){ lock->key, key.len });
}

void
fiber_lock(struct iris_str key)
{
	struct iris_fiber *fiber = scheduler.current;
	struct lock *lock = lock_find(key);

	IRIS_ASSERT(fiber != NULL);
	if (lock) {
		struct waiter waiter = { .fiber = fiber };

		IRIS_ASSERT(lock->owner != fiber);
		STAILQ_INSERT_TAIL(&lock->waiters, &waiter, link);
		wait_for(&waiter.wait, "lock"); /* fiber_unlock() made us the owner */
	} else {
		lock_create(key);
	}
	fiber->locks++;
}

void
fiber_unlock(struct iris_str key)
{
	struct lock *lock = lock_find(key);
	struct waiter *next;

	IRIS_ASSERT(lock && lock->owner == scheduler.current && lock->owner->locks > 0);
	lock->owner->locks--;
	next = STAILQ_FIRST(&lock->waiters);
	if (next) {
		STAILQ_REMOVE_HEAD(&lock->waiters, link);
		lock->owner = next->fiber;
		wait_done(&next->wait);
		return;
	}
	hash_remove(&scheduler.locks, &lock->node);
	free(lock);
}

bool
fiber_holds_lock(void)
{
	return scheduler.current && scheduler.current->locks > 0;
}

/* --- stacks that ran over --- */

/* Says in whose stack, then lets the same instruction fault again for the core file. */
static void
on_fault(int signal_number, siginfo_t *info, void *context)
{
	const struct iris_fiber *fiber = scheduler.current;
	const char *at = info->si_addr;

	if (fiber && at >= fiber->map && at < fiber->map + page_size) {
		char text[160];
		int len = snprintf(text, sizeof(text), "iris: fiber stack overflow in \"%s\"\n",
				   fiber->name);

		if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0)
			len = 0; /* nothing more can be done */
	}
	(void)signal(signal_number, SIG_DFL);
}

/* The sanitizers have handlers and stacks of their own, which say more. */
static void
watch_faults(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_size = SIGNAL_STACK_SIZE };

	if (SAN_ADDRESS || SAN_THREAD)
		return;
	scheduler.signal_stack = mmap(NULL, SIGNAL_STACK_SIZE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	IRIS_ASSERT(scheduler.signal_stack != MAP_FAILED);
	stack.ss_sp = scheduler.signal_stack;
	IRIS_ASSERT(sigaltstack(&stack, NULL) == 0);
	(void)sigemptyset(&action.sa_mask);
	IRIS_ASSERT(sigaction(SIGSEGV, &action, NULL) == 0);
	IRIS_ASSERT(sigaction(SIGBUS, &action, NULL) == 0);
}

static void
unwatch_faults(void)
{
	const stack_t none = { .ss_flags = SS_DISABLE };

	if (!scheduler.signal_stack)
		return;
	IRIS_ASSERT(sigaltstack(&none, NULL) == 0);
	IRIS_ASSERT(munmap(scheduler.signal_stack, SIGNAL_STACK_SIZE) == 0);
}

void
fibers_open(void)
{
	IRIS_ASSERT(!scheduler.open);
	scheduler = (struct scheduler){ .open = true };
	TAILQ_INIT(&scheduler.suspended);
	TAILQ_INIT(&scheduler.ready);
	TAILQ_INIT(&scheduler.pool);
	TAILQ_INIT(&scheduler.sleepers);
	scheduler.tsan = SAN_FIBER_CURRENT();
	watch_faults();
}

void
fibers_close(void)
{
	IRIS_ASSERT(scheduler.open && scheduler.live == 0 && !scheduler.current);
	timer_stop(&scheduler.trim);
	pool_shrink(0);
	hash_free(&scheduler.locks);
	unwatch_faults();
	scheduler.open = false;
}
