/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process iris-scan, as irisd sees it (modules/scan): started, spoken with, started again when
 * it dies, and replaced when the signatures change: the new one takes over when it has loaded them,
 * the old one ends with its last file.  Main worker only.  It does not know files (judge.c).
 */
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "modules/files/files_private.h"

#define BACK_OFF_MIN_MS 500
#define BACK_OFF_MAX_MS 60000
#define PATH_SIZE 1024

struct scanner;

/* A file that is being scanned; on the stack of the fiber that waits. */
struct scan_call {
	TAILQ_ENTRY(scan_call) link;
	uint64_t id;
	struct iris_wait wait;
	struct scanner_verdict *verdict;
	bool answered;
};

struct scanner {
	pid_t pid;
	int fd;
	struct event *event;
	bool ready;
	int64_t print;  /* of the signatures' folder when it was started */
	int64_t number; /* of the set; 0 before it is ready */
	unsigned signatures, jobs;
	char confined[SCAN_TEXT_MAX];
	char temporary[PATH_SIZE];
	int temporary_fd; /* locked as long as it is in use */
	TAILQ_HEAD(, scan_call) calls;
};

static struct scanner *current, *next, *retired; /* each may be NULL */
static struct iris_timer watch_timer, restart_timer;
static int64_t back_off_ms;
static uint64_t last_call;
static bool watching, stopping;

static void scanner_spawn(void);

/* --- the signatures' folder --- */

struct print_call {
	char folder[PATH_SIZE];
	struct iris_arena *arena;
	int64_t print; /* 0: the folder cannot be read */
};

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names, sizes and times of all that is in it: on the pool. */
static void
print_take(void *arg)
{
	struct print_call *call = arg;
	struct iris_strbuf all = STRBUF_INIT(call->arena);
	DIR *folder = opendir(call->folder);
	const char *lines[256];
	size_t count = 0;
	struct stat status;

	for (struct dirent *entry;
	     folder && count < IRIS_COUNT(lines) && (entry = readdir(folder));)
		if (fstatat(dirfd(folder), entry->d_name, &status, 0) == 0 &&
		    S_ISREG(status.st_mode))
			lines[count++] = arena_printf(call->arena, "%s %lld %lld.%09ld\n",
						      entry->d_name, (long long)status.st_size,
						      (long long)status.st_mtim.tv_sec,
						      status.st_mtim.tv_nsec)
						 .base;
	if (folder)
		closedir(folder);
	qsort(lines, count, sizeof(lines[0]), compare_text);
	for (size_t i = 0; i < count; i++)
		strbuf_add(&all, str_from(lines[i]));
	call->print = folder && count > 0 ? vault_peer_id(strbuf_str(&all)) : 0;
}

static int64_t
signatures_print(void) /* fiber */
{
	struct print_call call = { .arena = arena_new() };

	if (str_copy_to(call.folder, sizeof(call.folder),
			option_str(&files_self, OPT_SIGNATURES)))
		pool_call("files: signatures", print_take, &call);
	arena_unref(&call.arena);
	return call.print;
}

/* --- the end of a process --- */

static int
remove_entry(const char *path, const struct stat *status, int flag, struct FTW *ftw)
{
	return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

static void
call_end(struct scanner *scanner, struct scan_call *call, bool answered)
{
	TAILQ_REMOVE(&scanner->calls, call, link);
	scanner->jobs--;
	call->answered = answered;
	wait_done(&call->wait);
}

/* Whoever waits for it is told that there is no answer. */
static void
scanner_end(struct scanner **scanner_p)
{
	struct scanner *scanner = *scanner_p;
	struct scan_call *call;

	if (!scanner)
		return;
	*scanner_p = NULL;
	event_free(scanner->event);
	close(scanner->fd);
	kill(scanner->pid, SIGKILL);
	while (waitpid(scanner->pid, NULL, 0) < 0 && errno == EINTR)
		;
	(void)nftw(scanner->temporary, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	close(scanner->temporary_fd);
	while ((call = TAILQ_FIRST(&scanner->calls)))
		call_end(scanner, call, false);
	free(scanner);
}

static void
restart_due(void *arg)
{
	scanner_spawn();
}

/* Later, and later each time. */
static void
restart_later(const char *event, const char *why)
{
	LOG(IRIS_LOG_WARNING, "files", event, LOG_CSTR("reason", why),
	    LOG_INT("again_in_ms", back_off_ms),
	    LOG_CSTR("hint", current ? "the scanner with the signatures before goes on" :
				       "until it runs, uploads wait and cannot be fetched"));
	if (!timer_is_running(&restart_timer))
		timer_start(&restart_timer, back_off_ms, restart_due, NULL);
	back_off_ms = back_off_ms * 2 > BACK_OFF_MAX_MS ? BACK_OFF_MAX_MS : back_off_ms * 2;
}

/* --- messages --- */

/* The newest takes over; the one before ends with its last file. */
static void
scanner_take_over(void)
{
	if (current) {
		scanner_end(&retired);
		retired = current;
		if (retired->jobs == 0)
			scanner_end(&retired);
	}
	current = next;
	next = NULL;
	LOG(IRIS_LOG_NOTICE, "files", "scanner-ready", LOG_INT("pid", current->pid),
	    LOG_INT("signatures", current->signatures), LOG_INT("set", current->number),
	    LOG_CSTR("confined", current->confined));
	judge_rescan();
	judge_wake();
}

/* A fiber: the number of the set is asked from the vault. */
static void
scanner_number_run(void *arg)
{
	struct scanner *scanner = next;
	int64_t number = scanner ? file_signatures_number(scanner->print) : 0;

	/* The vault was waited for: it may have died meanwhile. */
	if (!scanner || scanner != next || stopping)
		return;
	scanner->number = number;
	if (number > 0) {
		scanner_take_over();
		return;
	}
	scanner_end(&next);
	restart_later("scanner-unusable", "the vault failed");
}

static void
scanner_on_ready(struct scanner *scanner, const struct scan_reply *reply)
{
	scanner->ready = true;
	scanner->signatures = reply->signatures;
	memcpy(scanner->confined, reply->text, sizeof(scanner->confined));
	if (!fiber_start("files: scanner", scanner_number_run, NULL)) {
		scanner_end(&next);
		restart_later("scanner-unusable", "no fiber is left");
	}
}

static void
scanner_on_done(struct scanner *scanner, const struct scan_reply *reply)
{
	struct scan_call *call;

	TAILQ_FOREACH(call, &scanner->calls, link) {
		if (call->id != reply->id)
			continue;
		call->verdict->verdict = (enum scan_verdict)reply->verdict;
		call->verdict->signatures = scanner->number;
		memcpy(call->verdict->text, reply->text, sizeof(reply->text));
		back_off_ms = BACK_OFF_MIN_MS;
		call_end(scanner, call, true);
		return;
	}
}

static void
scanner_gone(struct scanner *scanner, const char *why)
{
	if (scanner == retired) {
		scanner_end(&retired);
		return;
	}
	scanner_end(scanner == current ? &current : &next);
	if (!stopping)
		restart_later("scanner-gone", why);
}

/* One reply; false: there is none, or the scanner is gone. */
static bool
scanner_receive(struct scanner *scanner)
{
	struct scan_reply reply;
	ssize_t len = recv(scanner->fd, &reply, sizeof(reply), MSG_DONTWAIT);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (len != (ssize_t)sizeof(reply) || reply.version != SCAN_VERSION) {
		scanner_gone(scanner, len == 0 ? "it ended" : "it speaks otherwise");
		return false;
	}
	reply.text[sizeof(reply.text) - 1] = '\0';
	if (reply.kind == SCAN_DONE && reply.verdict <= SCAN_BROKEN) {
		scanner_on_done(scanner, &reply);
		return true;
	}
	if (reply.kind == SCAN_READY && scanner == next && !scanner->ready)
		scanner_on_ready(scanner, &reply);
	else
		scanner_gone(scanner, reply.text);
	return false;
}

static void
scanner_on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct scanner *scanner = arg;

	while (scanner_receive(scanner))
		;
	if (retired && retired->jobs == 0)
		scanner_end(&retired);
	if (scanner_is_ready())
		judge_wake();
}

/* --- the beginning of a process --- */

struct spawn_arguments {
	char program[PATH_SIZE], signatures[PATH_SIZE], numbers[SCAN_ARG_COUNT][24];
	char *argv[SCAN_ARG_COUNT + 1];
};

static bool
arguments_fill(struct spawn_arguments *arguments, struct scanner *scanner)
{
	const int64_t unpacked = option_int(&files_self, OPT_SCAN_UNPACKED);
	const int64_t numbers[SCAN_ARG_COUNT] = {
		[SCAN_ARG_JOBS] = option_int(&files_self, OPT_SCANS),
		[SCAN_ARG_FILE_MAX] = unpacked,
		[SCAN_ARG_TOTAL_MAX] = unpacked * 2,
		[SCAN_ARG_MEMORY] = option_int(&files_self, OPT_SCAN_MEMORY),
		[SCAN_ARG_TIME] = option_int(&files_self, OPT_SCAN_TIME),
	};

	for (unsigned i = SCAN_ARG_JOBS; i < SCAN_ARG_COUNT; i++) {
		snprintf(arguments->numbers[i], sizeof(arguments->numbers[i]), "%lld",
			 (long long)numbers[i]);
		arguments->argv[i] = arguments->numbers[i];
	}
	arguments->argv[SCAN_ARG_PROGRAM] = arguments->program;
	arguments->argv[SCAN_ARG_SIGNATURES] = arguments->signatures;
	arguments->argv[SCAN_ARG_TEMPORARY] = scanner->temporary;
	return str_copy_to(arguments->program, sizeof(arguments->program),
			   option_str(&files_self, OPT_SCANNER)) &&
	       str_copy_to(arguments->signatures, sizeof(arguments->signatures),
			   option_str(&files_self, OPT_SIGNATURES));
}

/* SECURITY: nothing of ours goes along: no descriptor but the pair, no environment, no signals. */
static int
process_spawn(struct spawn_arguments *arguments, int socket_fd, pid_t *pid_r)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char *environment[] = { NULL };
	sigset_t none, all;
	int result;

	sigemptyset(&none);
	sigfillset(&all);
	IRIS_ASSERT(posix_spawn_file_actions_init(&actions) == 0 &&
		    posix_spawnattr_init(&attributes) == 0);
	posix_spawn_file_actions_adddup2(&actions, socket_fd, SCAN_SOCKET);
	posix_spawn_file_actions_addclosefrom_np(&actions, SCAN_SOCKET + 1);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	result = posix_spawn(pid_r, arguments->program, &actions, &attributes, arguments->argv,
			     environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return result;
}

/* 0, or errno. */
static int
scanner_launch(struct scanner *scanner)
{
	struct spawn_arguments *arguments = iris_calloc(1, sizeof(*arguments));
	int pair[2] = { -1, -1 }, result = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		result = errno;
	else if (!arguments_fill(arguments, scanner))
		result = ENAMETOOLONG;
	else
		result = process_spawn(arguments, pair[1], &scanner->pid);
	free(arguments);
	if (pair[1] >= 0)
		close(pair[1]);
	scanner->fd = pair[0];
	if (result != 0 && pair[0] >= 0)
		close(pair[0]);
	return result;
}

static bool
temporary_make(struct scanner *scanner)
{
	int len = snprintf(scanner->temporary, sizeof(scanner->temporary), "%.*s/iris-scan.XXXXXX",
			   IRIS_STR_FMT(option_str(&files_self, OPT_SCAN_TEMPORARY)));

	if (len <= 0 || (size_t)len >= sizeof(scanner->temporary) || !mkdtemp(scanner->temporary))
		return false;
	scanner->temporary_fd = open(scanner->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scanner->temporary_fd >= 0 && flock(scanner->temporary_fd, LOCK_EX | LOCK_NB) == 0)
		return true;
	if (scanner->temporary_fd >= 0)
		close(scanner->temporary_fd);
	scanner->temporary_fd = -1;
	(void)rmdir(scanner->temporary);
	return false;
}

/* SECURITY: a server that was killed leaves what its scanner unpacked; nobody locks that. */
static void
temporary_clear(void)
{
	char path[PATH_SIZE];
	glob_t found;
	int fd;

	snprintf(path, sizeof(path), "%.*s/iris-scan.*",
		 IRIS_STR_FMT(option_str(&files_self, OPT_SCAN_TEMPORARY)));
	if (glob(path, GLOB_NOSORT, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		fd = open(found.gl_pathv[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)nftw(found.gl_pathv[i], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
		close(fd);
	}
	globfree(&found);
}

static void
scanner_make(int64_t print)
{
	struct scanner *scanner = iris_calloc(1, sizeof(*scanner));
	int result = temporary_make(scanner) ? scanner_launch(scanner) : errno;

	if (result != 0) {
		if (scanner->temporary_fd > 0) {
			(void)rmdir(scanner->temporary);
			close(scanner->temporary_fd);
		}
		free(scanner);
		restart_later("scanner-not-started", strerror(result));
		return;
	}
	TAILQ_INIT(&scanner->calls);
	scanner->print = print;
	scanner->event = event_new(worker_base(), scanner->fd, EV_READ | EV_PERSIST,
				   scanner_on_readable, scanner);
	IRIS_ASSERT(scanner->event && event_add(scanner->event, NULL) == 0);
	next = scanner;
	metric_add(&file_metrics[METRIC_SCANNER_STARTS], 1);
}

/* Fiber: looks whether there is something new to load, or nothing loaded at all. */
static void
scanner_look(void *arg)
{
	int64_t print = signatures_print();

	watching = false;
	if (stopping)
		return;
	if (print == 0) {
		if (!current && !next)
			restart_later("no-signatures", "the folder files.signatures is empty");
		return;
	}
	if (next || (current && current->print == print))
		return;
	scanner_make(print);
}

static void
scanner_spawn(void)
{
	if (!watching && !stopping)
		watching = fiber_start("files: signatures", scanner_look, NULL);
}

static void
watch_due(void *arg)
{
	/* What failed has a timer of its own. */
	if (!timer_is_running(&restart_timer))
		scanner_spawn();
	timer_start(&watch_timer, option_int(&files_self, OPT_SIGNATURES_CHECK), watch_due, NULL);
}

/* --- for judge.c --- */

bool
scanner_is_ready(void)
{
	return current && !stopping &&
	       (int64_t)current->jobs < option_int(&files_self, OPT_SCANS);
}

int64_t
scanner_signatures(void)
{
	return current ? current->number : 0;
}

static bool
request_send(const struct scanner *scanner, const struct scan_request *request, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec part = { (void *)request, sizeof(*request) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	/* A pair holds more requests than there are jobs. */
	return sendmsg(scanner->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (ssize_t)sizeof(*request);
}

bool
scanner_scan(int fd, int64_t size, struct scanner_verdict *verdict_r)
{
	struct scan_call call = { .id = ++last_call, .verdict = verdict_r };
	const struct scan_request request = { .id = call.id, .size = (uint64_t)size };

	if (!scanner_is_ready() || !request_send(current, &request, fd))
		return false;
	TAILQ_INSERT_TAIL(&current->calls, &call, link);
	current->jobs++;
	wait_init(&call.wait);
	wait_for(&call.wait, "files: scan");
	return call.answered;
}

void
scanner_status(struct scanner_status *status_r)
{
	*status_r = (struct scanner_status){ .ready = current != NULL };
	if (!current)
		return;
	status_r->pid = current->pid;
	status_r->signatures = current->signatures;
	status_r->jobs = current->jobs;
	status_r->number = current->number;
	memcpy(status_r->confined, current->confined, sizeof(status_r->confined));
}

bool
scanner_start(struct iris_error *error)
{
	char program[PATH_SIZE];

	if (!str_copy_to(program, sizeof(program), option_str(&files_self, OPT_SCANNER)) ||
	    access(program, X_OK) != 0) {
		error_set(error, "the scanner %s cannot be run", program);
		return error_hint(error, "set files.scanner, or files.scan: off");
	}
	temporary_clear();
	stopping = watching = false;
	back_off_ms = BACK_OFF_MIN_MS;
	watch_due(NULL);
	return true;
}

void
scanner_stop(void)
{
	stopping = true;
	timer_stop(&watch_timer);
	timer_stop(&restart_timer);
	scanner_end(&current);
	scanner_end(&next);
	scanner_end(&retired);
}
