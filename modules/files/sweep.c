/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes: slots that nobody used, files that are old enough, what is deleted or refused, and all
 * of an account that is removed.  Every removal is made on the main worker, under the lock of its
 * file, so that nothing is given back to a quota twice.  First the bytes, then the row: a removal
 * that was cut off is made again.
 */
#include <stdio.h>

#include "modules/files/files_private.h"

#define SWEEP_EVERY_MS 30000

struct removal {
	int64_t id;
	bool refuse;
	enum file_state state; /* when refused */
	bool done;
};

static struct iris_timer sweep_timer;
static bool sweep_running, sweep_again;
static struct iris_mail sweep_mail;
static atomic_bool sweep_mailed;

/* --- one file; fiber of the main worker --- */

static bool
file_drop(struct file *file, const struct removal *removal)
{
	const struct file_place place = file_place_of(file);

	if (file->state != FILE_SLOT && !store()->remove(&place))
		return false;
	return removal->refuse ? file_empty(file, removal->state) : file_erase(file);
}

static void
removal_run(void *arg)
{
	struct removal *removal = arg;
	struct file file;
	bool failed;
	char text[32];
	int len = snprintf(text, sizeof(text), "file:%lld", (long long)removal->id);
	struct iris_str lock = { text, (size_t)len };

	fiber_lock(lock);
	if (file_find(removal->id, &file, &failed)) {
		removal->done = file_drop(&file, removal);
		if (removal->done)
			metric_add(&file_metrics[METRIC_REMOVED], 1);
	} else {
		removal->done = !failed;
	}
	fiber_unlock(lock);
}

bool
file_remove(int64_t id)
{
	struct removal removal = { .id = id };

	worker_call(worker_at(WORKER_MAIN), "files: remove", removal_run, &removal);
	return removal.done;
}

bool
file_refuse(int64_t id, enum file_state state)
{
	struct removal removal = { .id = id, .refuse = true, .state = state };

	worker_call(worker_at(WORKER_MAIN), "files: refuse", removal_run, &removal);
	return removal.done;
}

/* --- the sweep --- */

/* A page; false: there is no more, or it must be tried again later. */
static bool
sweep_page(void)
{
	struct iris_arena *arena = arena_new();
	struct file_list list;
	size_t removed = 0;

	if (file_list_expired(arena, worker_wall_ms(), &list))
		for (size_t i = 0; i < list.count && !worker_is_stopping(); i++)
			removed += file_remove(list.files[i].id);
	arena_unref(&arena);
	return removed == FILE_PAGE && !worker_is_stopping();
}

static void sweep_due(void *arg);

static void
sweep_run(void *arg)
{
	do {
		sweep_again = false;
		while (sweep_page())
			;
	} while (sweep_again && !worker_is_stopping());
	sweep_running = false;
	if (!worker_is_stopping())
		timer_start(&sweep_timer, SWEEP_EVERY_MS, sweep_due, NULL);
}

static void
sweep_due(void *arg)
{
	if (sweep_running) {
		sweep_again = true;
		return;
	}
	sweep_running = fiber_start("files: sweep", sweep_run, NULL);
	if (!sweep_running)
		timer_start(&sweep_timer, SWEEP_EVERY_MS, sweep_due, NULL);
}

static void
sweep_mail_came(struct iris_mail *mail)
{
	atomic_store(&sweep_mailed, false);
	sweep_due(NULL);
}

void
sweep_now(void)
{
	if (!atomic_exchange(&sweep_mailed, true)) {
		sweep_mail.fn = sweep_mail_came;
		worker_post(worker_at(WORKER_MAIN), &sweep_mail);
	}
}

/* Before anybody uploads. When it fails, they go some hours later. */
static void
sweep_run_cut(void *arg)
{
	if (file_expire_cut())
		sweep_due(NULL);
}

void
sweep_start(void)
{
	if (!fiber_start("files: cut off", sweep_run_cut, NULL))
		LOG(IRIS_LOG_WARNING, "files", "no-fiber", LOG_CSTR("for", "uploads cut off"));
	timer_start(&sweep_timer, SWEEP_EVERY_MS, sweep_due, NULL);
}

void
sweep_stop(void)
{
	timer_stop(&sweep_timer);
}
