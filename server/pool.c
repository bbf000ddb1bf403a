/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU pool: a few threads for what would hold a worker up (PBKDF2, sealing files).  A job
 * lies on the stack of the fiber that waits for it, so there are never more jobs than fibers.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/queue.h>
#include <unistd.h>

#include "worker_private.h"

#define THREADS_MAX 64u

struct job {
	STAILQ_ENTRY(job) link;
	void (*fn)(void *arg);
	void *arg;
	struct iris_worker *from;
	struct iris_mail mail;
	struct iris_wait wait;
};

struct pool {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	STAILQ_HEAD(, job) jobs;
	bool stopping;
	unsigned count;
	pthread_t threads[THREADS_MAX];
};

static struct pool pool = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

static void
job_done(struct iris_mail *mail)
{
	struct job *job = IRIS_CONTAINER(mail, struct job, mail);

	wait_done(&job->wait);
}

static struct job *
job_take(void)
{
	struct job *job;

	IRIS_ASSERT(pthread_mutex_lock(&pool.mutex) == 0);
	while (STAILQ_EMPTY(&pool.jobs) && !pool.stopping)
		IRIS_ASSERT(pthread_cond_wait(&pool.changed, &pool.mutex) == 0);
	job = STAILQ_FIRST(&pool.jobs);
	if (job)
		STAILQ_REMOVE_HEAD(&pool.jobs, link);
	IRIS_ASSERT(pthread_mutex_unlock(&pool.mutex) == 0);
	return job;
}

static void *
pool_thread(void *arg)
{
	struct job *job;

	(void)pthread_setname_np(pthread_self(), "iris-pool");
	while ((job = job_take())) {
		job->fn(job->arg);
		worker_post(job->from, &job->mail); /* the job is gone from here on */
	}
	return NULL;
}

void
pool_call(const char *name, void (*fn)(void *arg), void *arg)
{
	struct job job = { .fn = fn, .arg = arg, .from = worker_self(), .mail.fn = job_done };

	IRIS_ASSERT(fiber_self() != NULL);
	IRIS_ASSERT(pthread_mutex_lock(&pool.mutex) == 0);
	IRIS_ASSERT(pool.count > 0 && !pool.stopping);
	STAILQ_INSERT_TAIL(&pool.jobs, &job, link);
	IRIS_ASSERT(pthread_cond_signal(&pool.changed) == 0);
	IRIS_ASSERT(pthread_mutex_unlock(&pool.mutex) == 0);
	wait_for(&job.wait, name);
}

static unsigned
half_the_cores(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores > 2 ? (unsigned)cores / 2 : 1;
}

/* Signals are the main thread's. */
static bool
thread_create(pthread_t *thread_r)
{
	sigset_t all, before;
	bool created;

	(void)sigfillset(&all);
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	created = pthread_create(thread_r, NULL, pool_thread, NULL) == 0;
	IRIS_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	return created;
}

bool
pool_start(unsigned threads, struct iris_error *error)
{
	IRIS_ASSERT(pool.count == 0);
	if (threads == 0)
		threads = half_the_cores();
	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	STAILQ_INIT(&pool.jobs);
	pool.stopping = false;
	for (unsigned i = 0; i < threads; i++) {
		if (!thread_create(&pool.threads[i])) {
			(void)error_set(error, "cannot start thread %u of the CPU pool", i + 1);
			pool_stop();
			return error_hint(error,
					  "raise the limit of threads (ulimit -u, TasksMax)");
		}
		IRIS_ASSERT(pthread_mutex_lock(&pool.mutex) == 0);
		pool.count++;
		IRIS_ASSERT(pthread_mutex_unlock(&pool.mutex) == 0);
	}
	return true;
}

void
pool_stop(void)
{
	unsigned count;

	IRIS_ASSERT(pthread_mutex_lock(&pool.mutex) == 0);
	IRIS_ASSERT(pool.count == 0 || STAILQ_EMPTY(&pool.jobs));
	pool.stopping = true;
	count = pool.count;
	IRIS_ASSERT(pthread_cond_broadcast(&pool.changed) == 0);
	IRIS_ASSERT(pthread_mutex_unlock(&pool.mutex) == 0);
	for (unsigned i = 0; i < count; i++)
		IRIS_ASSERT(pthread_join(pool.threads[i], NULL) == 0);
	pool.count = 0;
}
