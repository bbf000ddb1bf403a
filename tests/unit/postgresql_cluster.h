/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private PostgreSQL server for a test: made from Debian's package in a temporary folder, reached
 * through a socket there and nowhere else, run as user postgres when the test is root's, ended by
 * its pid.
 */
#ifndef IRIS_POSTGRESQL_CLUSTER_H
#define IRIS_POSTGRESQL_CLUSTER_H

#include <errno.h>
#include <glob.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct cluster {
	char programs[128]; /* the folder of initdb and postgres; empty: not installed */
	char dir[64], data[80], connect[128];
	pid_t pid;
};

static void
cluster_find(struct cluster *cluster)
{
	glob_t found;

	*cluster = (struct cluster){ .pid = 0 };
	if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) == 0)
		(void)snprintf(
			cluster->programs, sizeof(cluster->programs), "%.*s",
			(int)(strlen(found.gl_pathv[found.gl_pathc - 1]) - strlen("/initdb")),
			found.gl_pathv[found.gl_pathc - 1]);
	globfree(&found);
}

/* Runs a program of the server, as its user. The server's own log goes to a file in the folder. */
static pid_t
cluster_spawn(const struct cluster *cluster, const char *program, char *const arguments[])
{
	char path[192], log[96];
	char *argv[32] = { NULL };
	int count = 0;

	pid_t pid = fork();
	if (pid != 0)
		return pid;
	(void)snprintf(path, sizeof(path), "%s/%s", cluster->programs, program);
	(void)snprintf(log, sizeof(log), "%s/log", cluster->dir);
	if (geteuid() == 0) {
		static char *const as_user[] = { "setpriv", "--reuid=postgres", "--regid=postgres",
						 "--clear-groups", "--pdeathsig=INT" };
		for (; count < 5; count++)
			argv[count] = as_user[count];
	}
	argv[count++] = path;
	for (int i = 0; arguments[i]; i++)
		argv[count++] = arguments[i];
	if (!freopen("/dev/null", "r", stdin) || !freopen(log, "a", stdout) ||
	    dup2(STDOUT_FILENO, STDERR_FILENO) < 0 || chdir(cluster->dir) != 0)
		_exit(127);
	(void)execvp(argv[0], argv);
	_exit(127);
}

static void
cluster_failed(const struct cluster *cluster, const char *what)
{
	fprintf(stderr, "%s; see %s/log\n", what, cluster->dir);
	abort();
}

static bool
cluster_is_up(const struct cluster *cluster)
{
	return PQping(cluster->connect) == PQPING_OK;
}

static void
cluster_start(struct cluster *cluster)
{
	char *const arguments[] = { "-D", cluster->data,	 "-k", cluster->dir,
				    "-c", "listen_addresses=",	 "-c", "max_connections=100",
				    "-c", "shared_buffers=64MB", NULL };
	const struct timespec pause = { .tv_nsec = 10000000 };

	cluster->pid = cluster_spawn(cluster, "postgres", arguments);
	for (int i = 0; i < 6000 && !cluster_is_up(cluster); i++) {
		(void)nanosleep(&pause, NULL);
		/* After a SIGKILL it does not start before the last child of the killed one has
		 * gone. */
		if (waitpid(cluster->pid, NULL, WNOHANG) == cluster->pid)
			cluster->pid = cluster_spawn(cluster, "postgres", arguments);
	}
	if (!cluster_is_up(cluster))
		cluster_failed(cluster, "postgres does not answer");
}

static void
cluster_make(struct cluster *cluster)
{
	char *const arguments[] = { "-D", cluster->data, "-U",	       "postgres",  "-A", "trust",
				    "-E", "UTF8",	 "--locale=C", "--no-sync", NULL };
	int status = -1;

	(void)snprintf(cluster->dir, sizeof(cluster->dir), "/tmp/postgresql-XXXXXX");
	if (!mkdtemp(cluster->dir))
		abort();
	(void)snprintf(cluster->data, sizeof(cluster->data), "%s/data", cluster->dir);
	(void)snprintf(cluster->connect, sizeof(cluster->connect), "host=%s user=postgres",
		       cluster->dir);
	const struct passwd *user = geteuid() == 0 ? getpwnam("postgres") : NULL;
	if (user && chown(cluster->dir, user->pw_uid, user->pw_gid) != 0)
		abort();
	(void)waitpid(cluster_spawn(cluster, "initdb", arguments), &status, 0);
	if (status != 0)
		cluster_failed(cluster, "initdb failed");
	cluster_start(cluster);
}

/* SIGINT: clients are sent away, all is written; SIGQUIT: as if it had crashed, but orderly for its
 * children. */
static void
cluster_end(struct cluster *cluster, int signal_)
{
	(void)kill(cluster->pid, signal_);
	(void)waitpid(cluster->pid, NULL, 0);
	cluster->pid = 0;
}

/* CPU time of all of its processes, those that have ended too, in microseconds. */
static inline int64_t
cluster_cpu_us(const struct cluster *cluster)
{
	long long user, system, children_user, children_system, ticks = 0;
	char line[1024];
	int parent;
	glob_t found;

	(void)glob("/proc/[0-9]*/stat", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "r");
		char *end = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
		if (file)
			(void)fclose(file);
		if (!end || sscanf(end + 2,
				   "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld %lld %lld",
				   &parent, &user, &system, &children_user, &children_system) != 5)
			continue;
		if (parent == (int)cluster->pid)
			ticks += user + system;
		else if (strtol(line, NULL, 10) == (long)cluster->pid)
			ticks += user + system + children_user + children_system;
	}
	globfree(&found);
	return ticks * 1000000 / sysconf(_SC_CLK_TCK);
}

static int
cluster_unlink(const char *path, const struct stat *info, int kind, struct FTW *at)
{
	return remove(path);
}

static void
cluster_remove(struct cluster *cluster)
{
	cluster_end(cluster, SIGINT);
	(void)nftw(cluster->dir, cluster_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
