/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vault in a folder of its own, for tests that run on any engine: IRIS_TEST_ENGINE names one of
 * the table below (default: the first).  Tests run in a fiber of the main worker, where cmocka's
 * way of leaving a failed test must not be used: they CHECK() and go on, and the group asserts at
 * the end.
 */
#ifndef IRIS_VAULT_FIXTURE_H
#define IRIS_VAULT_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "iris/fiber.h"
#include "modules/sqlite/sqlite.h"
#include "vault_private.h"
#include "worker_private.h"

struct vault_fixture {
	char dir[64], store[96], key[96]; /* store: a file, or the name of a database */
	int64_t linger_ms;
	struct vault_options options;
};

struct fixture_engine {
	const char *name;
	const struct iris_vault_engine *engine;
	void (*make)(struct vault_fixture
			     *fixture); /* what must be there before the engine opens its store */
	void (*configure)(struct vault_fixture *fixture);
	void (*forget)(struct vault_fixture *fixture);
	void (*break_store)(struct vault_fixture *fixture, bool broken); /* it cannot be written */
	/* anywhere on the disk; reach: where the engine can erase */
	bool (*store_has)(struct vault_fixture *fixture, struct iris_str bytes, bool reach);
};

static unsigned check_failures;

#define CHECK(cond)                               \
	((cond) ? (void)0 :                       \
		  (void)(check_failures++ < 10 && \
			 fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond)))

/* --- SQLite --- */

static void
sqlite_make(struct vault_fixture *fixture)
{
}

static void
sqlite_configure_fixture(struct vault_fixture *fixture)
{
	const struct sqlite_options options = {
		.path = fixture->store,
		.writer_cache = 64 << 20,
		.reader_cache = 4 << 20,
		.readers = 2,
		.linger_ms = fixture->linger_ms,
	};

	sqlite_configure(&options);
}

static void
sqlite_forget(struct vault_fixture *fixture)
{
	static const char *const suffixes[] = { "", "-wal", "-shm", ".lock" };
	char path[128];

	for (size_t i = 0; i < IRIS_COUNT(suffixes); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", fixture->store, suffixes[i]);
		(void)unlink(path);
	}
	sqlite_configure(NULL);
}

/* The disk is full: files cannot grow any more. */
static void
sqlite_break(struct vault_fixture *fixture, bool broken)
{
	static struct rlimit limit;
	struct rlimit small;

	(void)signal(SIGXFSZ, SIG_IGN);
	if (broken) {
		CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
		small = limit;
		small.rlim_cur = 4096;
	}
	CHECK(setrlimit(RLIMIT_FSIZE, broken ? &small : &limit) == 0);
}

static bool
file_has(const char *path, struct iris_str bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat info = { .st_size = 0 };
	bool found = false;

	if (fd < 0)
		return false;
	if (fstat(fd, &info) == 0 && info.st_size > 0) {
		void *content = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		CHECK(content != MAP_FAILED);
		found = memmem(content, (size_t)info.st_size, bytes.base, bytes.len) != NULL;
		(void)munmap(content, (size_t)info.st_size);
	}
	(void)close(fd);
	return found;
}

static bool
sqlite_has(struct vault_fixture *fixture, struct iris_str bytes, bool reach)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	char path[128];
	bool found = false;

	for (size_t i = 0; i < IRIS_COUNT(suffixes); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", fixture->store, suffixes[i]);
		found = found || file_has(path, bytes);
	}
	return found;
}

#ifdef HAVE_POSTGRESQL
#include "vault_fixture_postgresql.h"
#endif

static const struct fixture_engine fixture_engines[] = {
	{ "sqlite", &sqlite_engine, sqlite_make, sqlite_configure_fixture, sqlite_forget,
	  sqlite_break, sqlite_has },
#ifdef HAVE_POSTGRESQL
	{ "postgresql", &postgresql_engine, postgresql_make, postgresql_configure_fixture,
	  postgresql_forget, postgresql_break, postgresql_has },
#endif
};

static const struct fixture_engine *
fixture_engine(void)
{
	const char *name = getenv("IRIS_TEST_ENGINE");

	for (size_t i = 0; i < IRIS_COUNT(fixture_engines); i++)
		if (!name || strcmp(name, fixture_engines[i].name) == 0)
			return &fixture_engines[i];
	fprintf(stderr, "IRIS_TEST_ENGINE: there is no engine %s\n", name);
	abort();
}

static void
fixture_describe(struct vault_fixture *fixture, const char *dir)
{
	*fixture = (struct vault_fixture){ .linger_ms = 2 };
	(void)snprintf(fixture->dir, sizeof(fixture->dir), "%s", dir);
	(void)snprintf(fixture->store, sizeof(fixture->store), "%s/iris.db", fixture->dir);
	(void)snprintf(fixture->key, sizeof(fixture->key), "%s/master.key", fixture->dir);
	fixture->options = (struct vault_options){ .engine = fixture_engine()->engine,
						   .limits = { 20000, 64 << 20 },
						   .key_path = fixture->key,
						   .region = "test" };
	fixture_engine()->make(fixture);
	fixture_engine()->configure(fixture);
}

/* A new region in a new folder, with a table for the tests. */
static inline void
fixture_make(struct vault_fixture *fixture)
{
	const char *tmp = getenv("TMPDIR");
	char dir[sizeof(fixture->dir)];
	char table[256];
	struct iris_error error = { .message = "" };
	const struct iris_vault_engine *engine = fixture_engine()->engine;
	const struct vault_dialect *dialect = engine->dialect;

	(void)snprintf(dir, sizeof(dir), "%s/iris-vault-XXXXXX", tmp ? tmp : P_tmpdir);
	if (!mkdtemp(dir))
		abort();
	fixture_describe(fixture, dir);
	(void)snprintf(
		table, sizeof(table),
		"CREATE TABLE test_rows (id %s, who TEXT NOT NULL, n %s, body %s, other %s) %s",
		dialect->id, dialect->integer, dialect->bytes, dialect->bytes, dialect->table);
	bool ok = vault_init_with(&fixture->options, "Default company", &error) &&
		  engine->open(false, &error) && engine->script(table, &error);
	engine->close();
	if (!ok) {
		fprintf(stderr, "fixture: %s (%s)\n", error.message, error.detail);
		abort();
	}
}

static inline void
fixture_open(struct vault_fixture *fixture)
{
	struct iris_error error = { .message = "" };

	if (vault_open_with(&fixture->options, &error))
		return;
	fprintf(stderr, "fixture: %s (%s)\n", error.message, error.detail);
	abort();
}

static inline void
fixture_remove(struct vault_fixture *fixture)
{
	fixture_engine()->forget(fixture);
	(void)unlink(fixture->key);
	(void)rmdir(fixture->dir);
}

/* Changes the store behind the vault's back; the vault is closed. */
static inline void
fixture_script(const char *sql)
{
	struct iris_error error;
	const struct iris_vault_engine *engine = fixture_engine()->engine;

	CHECK(engine->open(false, &error) && engine->script(sql, &error));
	engine->close();
}

/* --- running on fibers --- */

struct fixture_run {
	void (*fn)(void *arg);
	void *arg;
};

static void
fixture_run_main(void *arg)
{
	struct fixture_run *run = arg;

	run->fn(run->arg);
	worker_main_quit();
}

/* Runs fn(arg) on a fiber of the main worker, and its loop until then. */
static inline void
fixture_run(void (*fn)(void *arg), void *arg)
{
	struct fixture_run run = { fn, arg };

	if (!fiber_start("test", fixture_run_main, &run))
		abort();
	worker_run_main();
}

static inline void
fixture_assert(void)
{
	unsigned failures = check_failures;
	check_failures = 0;
	assert_int_equal(failures, 0);
}

static void
fixture_drain(void *arg)
{
	while (fiber_count() > 1) /* others wait for commits */
		if (!fiber_sleep(1))
			break;
}

static inline void
fixture_close(void)
{
	fixture_run(fixture_drain, NULL);
	vault_close();
}

#endif
