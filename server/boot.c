/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and stop of irisd: a table of stages, done downwards and undone upwards.  Main thread.
 *
 * Ports are opened before privileges go, files after: what is created belongs to the user that
 * serves.
 */
#include "boot.h"

#include <event2/event.h>
#include <signal.h>

#include "admin_http.h"
#include "door.h"
#include "im_private.h"
#include "listener.h"
#include "log_private.h"
#include "module_private.h"
#include "process.h"
#include "stream_private.h"
#include "vault_private.h"
#include "worker_private.h"

#define FAREWELL_MS 5000 /* for clients to take what is pending when the server stops */

struct boot_stage {
	const char *name;
	bool (*start)(struct iris_error *error);
	void (*stop)(void); /* NULL: nothing to undo */
};

static struct {
	struct event *signals[3];
	_Atomic int64_t ready_ms; /* 0: not serving */
	size_t done;              /* stages */
	bool workers;             /* they run */
} boot;

/* --- signals and readiness --- */

static bool
boot_is_ready(char *why, size_t size)
{
	if (atomic_load(&boot.ready_ms) == 0) {
		snprintf(why, size, "starting or stopping");
		return false;
	}
	return vault_is_ready(why, size);
}

static void
boot_on_stop(evutil_socket_t signal_, short what, void *arg)
{
	LOG(IRIS_LOG_NOTICE, "boot", "stopping", LOG_INT("signal", signal_));
	worker_main_quit();
}

static void
boot_on_reload(evutil_socket_t signal_, short what, void *arg)
{
	struct iris_report report = { .error_count = 0 };

	process_notify("RELOADING=1");
	if (!boot_reload(&report))
		LOG(IRIS_LOG_ERROR, "boot", "reload-refused",
		    LOG_CSTR("hint", "the old configuration stays in force"));
	report_log(&report, "config");
	report_clear(&report);
	process_notify("READY=1");
}

static bool
boot_signals_start(struct iris_error *error)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };

	for (size_t i = 0; i < IRIS_COUNT(numbers); i++) {
		boot.signals[i] =
			evsignal_new(worker_base(), numbers[i],
				     numbers[i] == SIGHUP ? boot_on_reload : boot_on_stop, NULL);
		if (!boot.signals[i] || event_add(boot.signals[i], NULL) != 0)
			return error_set(error, "cannot handle signal %d", numbers[i]);
	}
	return true;
}

static void
boot_signals_stop(void)
{
	for (size_t i = 0; i < IRIS_COUNT(boot.signals); i++) {
		if (boot.signals[i])
			event_free(boot.signals[i]);
		boot.signals[i] = NULL;
	}
}

static bool
boot_serve(struct iris_error *error)
{
	listen_start();
	atomic_store(&boot.ready_ms, worker_now_ms());
	LOG(IRIS_LOG_NOTICE, "boot", "ready", LOG_INT("workers", worker_count()),
	    LOG_INT("admin_port", admin_http_port()));
	process_notify("READY=1");
	return true;
}

/* Clients are told, and get what is pending; what they caused to be written is committed. */
static void
boot_say_goodbye(void)
{
	atomic_store(&boot.ready_ms, 0);
	process_notify("STOPPING=1");
	listen_stop();
	streams_close_all("system-shutdown", FAREWELL_MS);
	im_close_all("system-shutdown");
	doors_close_all(FAREWELL_MS);
}

static bool
boot_workers_start(struct iris_error *error)
{
	boot.workers = workers_start(worker_configured_count(), error);
	return boot.workers;
}

/* Twice in the table: their fibers are inside modules, which must outlive them. */
static void
boot_workers_stop(void)
{
	if (boot.workers)
		workers_stop();
	boot.workers = false;
}

static bool
boot_modules_start(struct iris_error *error)
{
	admin_http_set_ready_check(boot_is_ready);
	if (modules_start(error))
		return true;
	boot_workers_stop();
	modules_stop();
	return false;
}

/* --- the table --- */

/* X(name, start, stop) */
static const struct boot_stage boot_stages[] = {
	{ "limits of the process", process_prepare, NULL },
	{ "workers", boot_workers_start, boot_workers_stop },
	{ "what the modules offer", modules_publish, NULL },
	{ "listening sockets", listen_open, listen_close },
	{ "privileges", process_drop_privileges, NULL },
	{ "signals", boot_signals_start, boot_signals_stop },
	{ "modules, the vault among them", boot_modules_start, modules_stop },
	{ "end of the workers", NULL, boot_workers_stop },
	{ "serving", boot_serve, boot_say_goodbye },
};

void
boot_print_stages(FILE *out)
{
	for (size_t i = 0; i < IRIS_COUNT(boot_stages); i++) {
		if (boot_stages[i].start)
			fprintf(out, "%s\n", boot_stages[i].name);
	}
}

bool
boot_configure(const char *path, struct iris_report *report)
{
	struct iris_config *config = config_load(path, report);
	bool selected = config && modules_select(modules_linked, &config, report);

	config_free(&config);
	return selected;
}

bool
boot_start(struct iris_error *error)
{
	for (boot.done = 0; boot.done < IRIS_COUNT(boot_stages); boot.done++) {
		const struct boot_stage *stage = &boot_stages[boot.done];

		if (stage->start && !stage->start(error)) {
			error_detail(error, "%s%s(while starting: %s)", error->detail,
				     error->detail[0] ? " " : "", stage->name);
			boot_stop();
			return false;
		}
	}
	return true;
}

void
boot_run(void)
{
	worker_run_main();
}

void
boot_stop(void)
{
	while (boot.done > 0) {
		const struct boot_stage *stage = &boot_stages[--boot.done];

		if (stage->stop)
			stage->stop();
	}
}

void
boot_quit(void)
{
	worker_main_quit();
}

bool
boot_reload(struct iris_report *report)
{
	log_reopen();
	if (!modules_reload(report))
		return false;
	LOG(IRIS_LOG_NOTICE, "boot", "reloaded", LOG_INT("needs_restart", report->restart_count));
	return true;
}

int64_t
boot_uptime_ms(void)
{
	int64_t since = atomic_load(&boot.ready_ms);

	return since ? worker_now_ms() - since : 0;
}
