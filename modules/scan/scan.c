/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iris-scan, the keeper: one thread that waits for requests of irisd, makes a job of each, and sees
 * to their time and their end.  It does not look into files (engine.c, in a job).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "modules/scan/scan_private.h"

#define OVERTIME_MS 2000 /* libclamav looks at its clock seldom */

struct job {
	pid_t pid; /* 0: the place is free */
	int pipe;  /* its verdict */
	uint64_t id;
	int64_t until_ms;
};

/* What a job writes into its pipe; less than PIPE_BUF: it comes whole, or not at all. */
struct job_result {
	uint32_t verdict;
	char text[SCAN_TEXT_MAX];
};

static struct scan_limits limits;
static struct job jobs[SCAN_JOBS_MAX];

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- messages --- */

static void
reply_send(const struct scan_reply *reply)
{
	ssize_t sent;

	do
		sent = send(SCAN_SOCKET, reply, sizeof(*reply), MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		_exit(EXIT_SUCCESS); /* irisd is gone */
}

static void
reply_done(uint64_t id, uint32_t verdict, const char *text)
{
	struct scan_reply reply = {
		.version = SCAN_VERSION, .kind = SCAN_DONE, .id = id, .verdict = verdict
	};

	snprintf(reply.text, sizeof(reply.text), "%s", text);
	reply_send(&reply);
}

static int
fd_of(struct msghdr *message)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* False: irisd is gone. The descriptor is -1 when none came. */
static bool
request_receive(struct scan_request *request, int *fd_r)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { request, sizeof(*request) };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t len;

	do
		len = recvmsg(SCAN_SOCKET, &message, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	*fd_r = len > 0 ? fd_of(&message) : -1;
	return len == (ssize_t)sizeof(*request);
}

/* --- jobs --- */

/* Does not return. It keeps its file and its pipe, nothing else. */
static void
job_run(const struct scan_request *request, int fd, int out)
{
	struct job_result result = { .verdict = SCAN_BROKEN };

	close(SCAN_SOCKET);
	for (unsigned i = 0; i < limits.jobs; i++)
		if (jobs[i].pid)
			close(jobs[i].pipe);
	if (confine_job(&limits, request->size))
		result.verdict = engine_scan(fd, request->size, result.text, sizeof(result.text));
	else
		snprintf(result.text, sizeof(result.text), "the job cannot be confined");
	_exit(write(out, &result, sizeof(result)) == (ssize_t)sizeof(result) ? EXIT_SUCCESS :
									       EXIT_FAILURE);
}

static bool
job_start(struct job *job, const struct scan_request *request, int fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return false;
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		job_run(request, fd, ends[1]);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return false;
	}
	*job = (struct job){ .pid = pid, .pipe = ends[0], .id = request->id,
			     .until_ms = now_ms() + (int64_t)limits.time_ms + OVERTIME_MS };
	return true;
}

static void
job_accept(void)
{
	struct scan_request request;
	unsigned place = 0;
	int fd;

	if (!request_receive(&request, &fd))
		_exit(EXIT_SUCCESS);
	while (place < limits.jobs && jobs[place].pid)
		place++;
	if (fd < 0 || place == limits.jobs || !job_start(&jobs[place], &request, fd))
		reply_done(request.id, SCAN_BROKEN, "no job could be made");
	if (fd >= 0)
		close(fd);
}

/* The pipe has the verdict, or its end; either way the job is over. */
static void
job_finish(struct job *job, bool timed_out)
{
	struct job_result result = { .verdict = SCAN_BROKEN };
	ssize_t len = timed_out ? 0 : read(job->pipe, &result, sizeof(result));
	int status = 0;

	/* SECURITY: a job that was taken over may linger; and its verdict must be one. */
	kill(job->pid, SIGKILL);
	while (waitpid(job->pid, &status, 0) < 0 && errno == EINTR)
		;
	close(job->pipe);
	job->pid = 0;
	if (timed_out)
		reply_done(job->id, SCAN_UNSCANNABLE, "takes too long");
	else if (len == (ssize_t)sizeof(result) && result.verdict <= SCAN_BROKEN &&
		 memchr(result.text, '\0', sizeof(result.text)))
		reply_done(job->id, result.verdict, result.text);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		reply_done(job->id, SCAN_UNSCANNABLE, "takes too long");
	else
		reply_done(job->id, SCAN_BROKEN, "the scanner's job died");
}

/* --- the loop --- */

static int
next_deadline(void)
{
	int64_t now = now_ms(), least = INT_MAX;
	bool any = false;

	for (unsigned i = 0; i < limits.jobs; i++) {
		if (!jobs[i].pid)
			continue;
		any = true;
		if (jobs[i].until_ms - now < least)
			least = jobs[i].until_ms > now ? jobs[i].until_ms - now : 0;
	}
	return any ? (int)least : -1;
}

static void
keep(void)
{
	struct pollfd polled[SCAN_JOBS_MAX + 1];

	for (unsigned i = 0; i < limits.jobs; i++)
		polled[i] = (struct pollfd){ .fd = jobs[i].pid ? jobs[i].pipe : -1,
					     .events = POLLIN };
	polled[limits.jobs] = (struct pollfd){ .fd = SCAN_SOCKET, .events = POLLIN };
	if (poll(polled, limits.jobs + 1, next_deadline()) < 0)
		return; /* interrupted */
	for (unsigned i = 0; i < limits.jobs; i++) {
		if (!jobs[i].pid)
			continue;
		if (polled[i].revents)
			job_finish(&jobs[i], false);
		else if (jobs[i].until_ms <= now_ms())
			job_finish(&jobs[i], true);
	}
	if (polled[limits.jobs].revents)
		job_accept();
}

/* --- start --- */

static bool
argument_number(char **argv, enum scan_argument which, uint64_t max, uint64_t *value_r)
{
	char *end;

	errno = 0;
	*value_r = strtoull(argv[which], &end, 10);
	return errno == 0 && *argv[which] && *end == '\0' && *value_r > 0 && *value_r <= max;
}

static bool
arguments_read(int argc, char **argv)
{
	uint64_t count;

	if (argc != SCAN_ARG_COUNT ||
	    !argument_number(argv, SCAN_ARG_JOBS, SCAN_JOBS_MAX, &count) ||
	    !argument_number(argv, SCAN_ARG_FILE_MAX, INT32_MAX, &limits.file_max) ||
	    !argument_number(argv, SCAN_ARG_TOTAL_MAX, INT64_MAX, &limits.total_max) ||
	    !argument_number(argv, SCAN_ARG_MEMORY, INT64_MAX, &limits.memory) ||
	    !argument_number(argv, SCAN_ARG_TIME, INT32_MAX, &limits.time_ms))
		return false;
	limits.jobs = (unsigned)count;
	limits.signatures = argv[SCAN_ARG_SIGNATURES];
	limits.temporary = argv[SCAN_ARG_TEMPORARY];
	return true;
}

int
main(int argc, char **argv)
{
	struct scan_reply reply = { .version = SCAN_VERSION, .kind = SCAN_FAILED };

	if (!arguments_read(argc, argv)) {
		fputs("iris-scan is started by irisd, see irisd(8)\n", stderr);
		return 64;
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (confine_keeper(&limits, reply.text, sizeof(reply.text)) &&
	    engine_load(&limits, &reply.signatures, reply.text, sizeof(reply.text)) &&
	    confine_loaded(&limits, reply.text, sizeof(reply.text)))
		reply.kind = SCAN_READY;
	reply_send(&reply);
	while (reply.kind == SCAN_READY)
		keep();
	return EXIT_FAILURE;
}
