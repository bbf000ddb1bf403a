/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging files (P7.4): what is pending gets its verdict, and what is clean is looked at once more
 * when there are new signatures.  Its state lives on the main worker.
 *
 * What is scanned is what will be served: the bytes are read back from the store, opened, and put
 * into a sealed piece of memory (memfd), which the scanner gets.  So a scanner that dies, or a
 * server that does, loses nothing: the file is pending until there is a verdict, and is taken from
 * the store again.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "modules/files/files_private.h"

#define QUEUE_MAX 10000   /* in memory; what is beyond waits in the vault */
#define BROKEN_MAX 3      /* times that a job may die of a file */
#define AGAIN_MS 60000    /* after the store or the vault failed */

/* Somebody who waits for a verdict; on the stack of a fiber of the main worker. */
struct judge_waiter {
	TAILQ_ENTRY(judge_waiter) link;
	struct judge_entry *entry;
	struct iris_wait wait;
	struct iris_timer timer;
	enum file_state state;
};

struct judge_entry {
	struct iris_hash_node node;
	TAILQ_ENTRY(judge_entry) link; /* in the queue, unless it runs */
	int64_t id;
	bool running;
	unsigned broken;
	enum file_state state; /* the verdict */
	TAILQ_HEAD(, judge_waiter) waiters;
};

static struct iris_hash judge_entries;
static TAILQ_HEAD(, judge_entry) judge_queue = TAILQ_HEAD_INITIALIZER(judge_queue);
static struct iris_timer judge_timer;
static int64_t judge_running;
static bool judge_loading, judge_more, judge_rescanning, judge_stopped, judge_again;

/* --- entries --- */

static struct judge_entry *
entry_find(int64_t id)
{
	struct iris_hash_node *node =
		hash_find(&judge_entries, (struct iris_str){ (const char *)&id, sizeof(id) });

	return node ? IRIS_CONTAINER(node, struct judge_entry, node) : NULL;
}

/* The entry of this file, queued when it is new; NULL: there are too many. */
static struct judge_entry *
entry_get(int64_t id)
{
	struct judge_entry *entry = entry_find(id);

	if (entry)
		return entry;
	if (judge_entries.count >= QUEUE_MAX) {
		judge_more = true;
		return NULL;
	}
	entry = iris_calloc(1, sizeof(*entry));
	entry->id = id;
	entry->state = FILE_PENDING;
	TAILQ_INIT(&entry->waiters);
	hash_insert(&judge_entries, &entry->node,
		    (struct iris_str){ (const char *)&entry->id, sizeof(entry->id) });
	TAILQ_INSERT_TAIL(&judge_queue, entry, link);
	metric_add(&file_metrics[METRIC_PENDING], 1);
	return entry;
}

static void
waiter_end(struct judge_waiter *waiter, enum file_state state)
{
	TAILQ_REMOVE(&waiter->entry->waiters, waiter, link);
	timer_stop(&waiter->timer);
	waiter->state = state;
	wait_done(&waiter->wait);
}

static void
entry_end(struct judge_entry *entry)
{
	struct judge_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&entry->waiters)))
		waiter_end(waiter, entry->state);
	hash_remove(&judge_entries, &entry->node);
	metric_add(&file_metrics[METRIC_PENDING], -1);
	free(entry);
}

/* --- the bytes --- */

static bool
memory_fill(int fd, const struct file *file)
{
	struct content_reader *reader = content_reader_new(file);
	int64_t at = 0;

	while (reader && at < file->size) {
		struct iris_str part = content_read(reader, at);

		if (str_is_none(part) || write(fd, part.base, part.len) != (ssize_t)part.len)
			break;
		at += (int64_t)part.len;
	}
	content_reader_free(&reader);
	return at == file->size;
}

/* The plain text in memory, which nobody can change any more; -1: it cannot be had. */
static int
memory_of(const struct file *file)
{
	int fd = memfd_create("iris-scan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (memory_fill(fd, file) &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	close(fd);
	return -1;
}

/* --- verdicts --- */

static void
verdict_log(const struct file *file, const char *event, const struct scanner_verdict *verdict)
{
	/* The audit's line: what happened to whose file, by which signatures. */
	LOG(IRIS_LOG_NOTICE, "files", event, LOG_INT("file", file->id),
	    LOG_INT("account", file->account), LOG_INT("owner", file->owner),
	    LOG_CSTR("was", file_state_names[file->state]), LOG_CSTR("found", verdict->text),
	    LOG_INT("signatures", verdict->signatures));
}

static bool
verdict_clean(struct file *file, const struct scanner_verdict *verdict)
{
	enum file_state before = file->state;

	metric_add(&file_metrics[before == FILE_CLEAN ? METRIC_RESCANNED : METRIC_CLEAN], 1);
	file->state = FILE_CLEAN;
	file->scanned = verdict->signatures;
	return file_move(file, before);
}

static bool
verdict_infected(struct file *file, const struct scanner_verdict *verdict)
{
	enum file_state before = file->state;

	verdict_log(file, "infected", verdict);
	metric_add(&file_metrics[METRIC_INFECTED], 1);
	/* The link dies at once; then the bytes go. */
	file->state = FILE_INFECTED;
	file->scanned = verdict->signatures;
	return file_move(file, before) && file_refuse(file->id, FILE_INFECTED);
}

/* What was served before is not destroyed for that: it is kept for an operator to look at. */
static bool
verdict_unscannable(struct file *file, const struct scanner_verdict *verdict)
{
	enum file_state before = file->state;
	bool keep = before == FILE_CLEAN ||
		    option_int(&files_self, OPT_UNSCANNABLE) == UNSCANNABLE_QUARANTINE;

	verdict_log(file, keep ? "quarantined" : "unscannable", verdict);
	metric_add(&file_metrics[METRIC_UNSCANNABLE], 1);
	file->state = keep ? FILE_QUARANTINED : FILE_UNSCANNABLE;
	file->scanned = verdict->signatures;
	return file_move(file, before) && (keep || file_refuse(file->id, FILE_UNSCANNABLE));
}

static bool
verdict_carry_out(struct file *file, const struct scanner_verdict *verdict)
{
	switch (verdict->verdict) {
	case SCAN_CLEAN:
		return verdict_clean(file, verdict);
	case SCAN_INFECTED:
		return verdict_infected(file, verdict);
	default:
		return verdict_unscannable(file, verdict);
	}
}

/* --- one file --- */

enum outcome { OUTCOME_JUDGED, OUTCOME_SCANNER_GONE, OUTCOME_BROKEN, OUTCOME_LATER };

/* What the scanner says of it. */
static enum outcome
judge_ask(struct file *file, struct scanner_verdict *verdict_r)
{
	bool answered;
	int fd;

	/* SECURITY: nor is so much memory filled as somebody may upload. */
	if (file->size >= option_int(&files_self, OPT_SCAN_UNPACKED)) {
		*verdict_r = (struct scanner_verdict){ .verdict = SCAN_UNSCANNABLE,
						       .signatures = scanner_signatures(),
						       .text = "larger than may be scanned" };
		return OUTCOME_JUDGED;
	}
	fd = memory_of(file);
	if (fd < 0)
		return OUTCOME_LATER;
	answered = scanner_scan(fd, file->size, verdict_r);
	close(fd);
	return answered ? OUTCOME_JUDGED : OUTCOME_SCANNER_GONE;
}

static enum outcome
judge_scan(struct judge_entry *entry, struct file *file)
{
	struct scanner_verdict verdict;
	enum outcome outcome = judge_ask(file, &verdict);

	if (outcome != OUTCOME_JUDGED)
		return outcome;
	if (verdict.verdict == SCAN_BROKEN && ++entry->broken < BROKEN_MAX)
		return OUTCOME_BROKEN;
	if (!verdict_carry_out(file, &verdict))
		return OUTCOME_LATER;
	entry->state = file->state;
	return OUTCOME_JUDGED;
}

static enum outcome
judge_one(struct judge_entry *entry)
{
	struct iris_arena *arena = arena_new();
	enum outcome outcome = OUTCOME_LATER;
	bool failed;
	struct file file;

	if (!file_find(entry->id, &file, &failed)) {
		entry->state = FILE_SLOT; /* deleted meanwhile */
		outcome = failed ? OUTCOME_LATER : OUTCOME_JUDGED;
	} else if (file.state != FILE_PENDING && file.state != FILE_CLEAN) {
		entry->state = file.state;
		outcome = OUTCOME_JUDGED;
	} else if (file_open(arena, &file)) {
		outcome = judge_scan(entry, &file);
	}
	arena_unref(&arena);
	return outcome;
}

static void judge_load_start(void);

static void
judge_again_due(void *arg)
{
	judge_load_start();
	judge_rescan();
}

static void
judge_run(void *arg)
{
	struct judge_entry *entry = arg;
	enum outcome outcome = judge_one(entry);

	judge_running--;
	entry->running = false;
	if (!judge_stopped && (outcome == OUTCOME_SCANNER_GONE || outcome == OUTCOME_BROKEN)) {
		/* It was first in the queue, and is again. */
		TAILQ_INSERT_HEAD(&judge_queue, entry, link);
	} else {
		if (outcome == OUTCOME_LATER && !judge_stopped &&
		    !timer_is_running(&judge_timer))
			timer_start(&judge_timer, AGAIN_MS, judge_again_due, NULL);
		entry_end(entry);
	}
	judge_wake();
}

void
judge_wake(void)
{
	struct judge_entry *entry;

	while (!judge_stopped && scanner_is_ready() &&
	       judge_running < option_int(&files_self, OPT_SCANS) &&
	       (entry = TAILQ_FIRST(&judge_queue))) {
		TAILQ_REMOVE(&judge_queue, entry, link);
		entry->running = true;
		judge_running++;
		if (!fiber_start("files: judge", judge_run, entry)) {
			judge_running--;
			entry->running = false;
			TAILQ_INSERT_HEAD(&judge_queue, entry, link);
			return;
		}
	}
	if (judge_more && TAILQ_EMPTY(&judge_queue))
		judge_load_start();
}

/* --- what waits in the vault --- */

static void
judge_load(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct file_list list = { .count = FILE_PAGE };
	int64_t after = 0;

	judge_more = false;
	while (list.count == FILE_PAGE && !judge_more && !judge_stopped) {
		if (!file_list_pending(arena, after, &list))
			break;
		for (size_t i = 0; i < list.count && entry_get(list.files[i].id); i++)
			after = list.files[i].id;
	}
	arena_unref(&arena);
	judge_loading = false;
	judge_wake();
}

static void
judge_load_start(void)
{
	if (!judge_loading && !judge_stopped)
		judge_loading = fiber_start("files: pending", judge_load, NULL);
}

/* --- new signatures --- */

static enum file_state
judge_wait(int64_t id, int64_t most_ms);

/* One after the other, so that uploads have the other jobs. How many have a verdict now? */
static size_t
rescan_page(int64_t number)
{
	struct iris_arena *arena = arena_new();
	struct file_list list;
	size_t judged = 0;

	if (file_list_outdated(arena, number, &list))
		for (size_t i = 0; i < list.count && !judge_stopped; i++)
			judged += judge_wait(list.files[i].id, 0) != FILE_PENDING;
	arena_unref(&arena);
	return judged;
}

static void
rescan_run(void *arg)
{
	size_t total = 0, judged;

	do {
		judge_again = false;
		judged = rescan_page(scanner_signatures());
		total += judged;
	} while ((judged > 0 || judge_again) && !judge_stopped && scanner_signatures() > 0);
	judge_rescanning = false;
	if (total > 0)
		LOG(IRIS_LOG_NOTICE, "files", "rescanned", LOG_INT("files", total),
		    LOG_INT("signatures", scanner_signatures()));
}

void
judge_rescan(void)
{
	judge_again = true;
	if (!judge_rescanning && !judge_stopped && scanner_signatures() > 0)
		judge_rescanning = fiber_start("files: rescan", rescan_run, NULL);
}

/* --- waiting --- */

static void
waiter_late(void *arg)
{
	waiter_end(arg, FILE_PENDING);
}

/* Fiber of the main worker; 0: as long as it takes. */
static enum file_state
judge_wait(int64_t id, int64_t most_ms)
{
	struct judge_waiter waiter = { .entry = judge_stopped ? NULL : entry_get(id) };

	if (!waiter.entry)
		return FILE_PENDING;
	wait_init(&waiter.wait);
	TAILQ_INSERT_TAIL(&waiter.entry->waiters, &waiter, link);
	if (most_ms > 0)
		timer_start(&waiter.timer, most_ms, waiter_late, &waiter);
	judge_wake();
	wait_for(&waiter.wait, "files: verdict");
	return waiter.state;
}

struct judge_call {
	int64_t id;
	enum file_state state;
};

static void
judge_call_run(void *arg)
{
	struct judge_call *call = arg;

	call->state = judge_wait(call->id, option_int(&files_self, OPT_SCAN_WAIT));
}

enum file_state
judge_file(int64_t id)
{
	struct judge_call call = { .id = id };

	worker_call(worker_at(WORKER_MAIN), "files: judge", judge_call_run, &call);
	return call.state;
}

/* Nobody waits for a verdict any more: what is pending is so in the vault, too. */
static void
judge_end(void)
{
	struct judge_entry *entry;
	struct judge_waiter *waiter;

	judge_stopped = true;
	timer_stop(&judge_timer);
	scanner_stop();
	HASH_FOREACH(node, &judge_entries)
	{
		entry = IRIS_CONTAINER(node, struct judge_entry, node);
		while ((waiter = TAILQ_FIRST(&entry->waiters)))
			waiter_end(waiter, FILE_PENDING);
	}
	while ((entry = TAILQ_FIRST(&judge_queue))) {
		TAILQ_REMOVE(&judge_queue, entry, link);
		entry_end(entry);
	}
}

/* Fibers are awaited before modules are stopped: this one hears of it in time. */
static void
judge_watch_stop(void *arg)
{
	while (fiber_sleep(3600 * 1000))
		;
	judge_end();
}

bool
judge_start(struct iris_error *error)
{
	judge_stopped = false;
	if (option_int(&files_self, OPT_SCAN) == SCAN_OFF)
		return true;
	if (!scanner_start(error))
		return false;
	if (!fiber_start("files: until the end", judge_watch_stop, NULL))
		return error_set(error, "no fiber is left");
	judge_load_start();
	return true;
}

void
judge_stop(void)
{
	judge_end();
	hash_free(&judge_entries);
}
