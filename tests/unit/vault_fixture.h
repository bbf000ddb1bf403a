/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vault in a folder of its own, for tests that run on any engine: IRIS_TEST_ENGINE names one of
 * the table below (default: the first).  Tests run in a fiber of the main worker, where cmocka's
 * way of leaving a failed test must not be used: they CHECK() and go on, and the group asserts at
 * the end.
 */
#ifndef IRIS_VAULT_FIXTURE_H
#define IRIS_VAULT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "iris/fiber.h"
#include "modules/sqlite/sqlite.h"
#include "vault_private.h"
#include "worker_private.h"

struct vault_fixture {
	char dir[64], store[96], key[96];
	struct vault_options options;
	struct sqlite_options sqlite;
};

struct fixture_engine {
	const char *name;
	const struct iris_vault_engine *engine;
	void (*configure)(struct vault_fixture *fixture);
	void (*forget)(void);
};

static unsigned check_failures;

#define CHECK(cond)                                                                       \
	((cond) ? (void)0                                                                 \
		: (void)(check_failures++ < 10 &&                                         \
			 fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond)))

static void
fixture_configure_sqlite(struct vault_fixture *fixture)
{
	fixture->sqlite.path = fixture->store;
	sqlite_configure(&fixture->sqlite);
}

static void
fixture_forget_sqlite(void)
{
	sqlite_configure(NULL);
}

static const struct fixture_engine fixture_engines[] = {
	{ "sqlite", &sqlite_engine, fixture_configure_sqlite, fixture_forget_sqlite },
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
	*fixture = (struct vault_fixture){
		.sqlite = { .queue_rows = 20000, .queue_bytes = 64 << 20, .writer_cache = 64 << 20,
			    .reader_cache = 4 << 20, .readers = 2, .linger_ms = 2 },
	};
	(void)snprintf(fixture->dir, sizeof(fixture->dir), "%s", dir);
	(void)snprintf(fixture->store, sizeof(fixture->store), "%s/iris.db", fixture->dir);
	(void)snprintf(fixture->key, sizeof(fixture->key), "%s/master.key", fixture->dir);
	fixture->options = (struct vault_options){ .engine = fixture_engine()->engine,
						   .key_path = fixture->key, .region = "test" };
	fixture_engine()->configure(fixture);
}

/* A new region in a new folder, with a table for the tests. */
static inline void
fixture_make(struct vault_fixture *fixture)
{
	char dir[] = P_tmpdir "/iris-vault-XXXXXX";
	struct iris_error error = { .message = "" };
	const struct iris_vault_engine *engine = fixture_engine()->engine;

	if (!mkdtemp(dir))
		abort();
	fixture_describe(fixture, dir);
	bool ok = vault_init_with(&fixture->options, "Default company", &error) &&
		  engine->open(false, &error) &&
		  engine->script("CREATE TABLE test_rows (id INTEGER PRIMARY KEY, who TEXT NOT "
				 "NULL, n INTEGER, "
				 "body BLOB, other BLOB)",
				 &error);
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
	static const char *const files[] = { "iris.db", "iris.db-wal", "iris.db-shm",
					     "iris.db.lock", "master.key" };
	char path[128];

	for (size_t i = 0; i < IRIS_COUNT(files); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", fixture->dir, files[i]);
		(void)unlink(path);
	}
	(void)rmdir(fixture->dir);
	fixture_engine()->forget();
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
