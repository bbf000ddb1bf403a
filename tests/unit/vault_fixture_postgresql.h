/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault's fixture on PostgreSQL: a database for each store in the server that
 * IRIS_TEST_POSTGRESQL, a connection string of a superuser, leads to
 * (tests/unit/vault_postgresql_test.c starts one).
 */
#ifndef IRIS_VAULT_FIXTURE_POSTGRESQL_H
#define IRIS_VAULT_FIXTURE_POSTGRESQL_H

#include <ftw.h>
#include <libpq-fe.h>

#include "modules/postgresql/postgresql.h"

static PGconn *
postgresql_connect(const char *database)
{
	const char *server = getenv("IRIS_TEST_POSTGRESQL");
	char connect[256];

	(void)snprintf(connect, sizeof(connect), "%s dbname=%s", server ? server : "", database);
	PGconn *pg = PQconnectdb(connect);
	if (PQstatus(pg) != CONNECTION_OK) {
		fprintf(stderr, "IRIS_TEST_POSTGRESQL: %s", PQerrorMessage(pg));
		abort();
	}
	return pg;
}

/* The first value of the result into a buffer, unless it is NULL. */
static void
postgresql_ask(PGconn *pg, const char *sql, char *value, size_t size)
{
	PGresult *result = PQexec(pg, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
	    PQresultStatus(result) != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(pg));
		abort();
	}
	if (value)
		(void)snprintf(value, size, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
}

/* Carries out one statement about a database: before and behind stand around its name. */
static void
postgresql_say(const char *before, const char *name, const char *behind)
{
	PGconn *pg = postgresql_connect("postgres");
	char sql[256];

	(void)snprintf(sql, sizeof(sql), "%s%s%s", before, name, behind);
	postgresql_ask(pg, sql, NULL, 0);
	PQfinish(pg);
}

static void
postgresql_make(struct vault_fixture *fixture)
{
	static unsigned count;

	(void)snprintf(fixture->store, sizeof(fixture->store), "iris_%d_%u", (int)getpid(),
		       count++);
	postgresql_say("CREATE DATABASE ", fixture->store,
		       " ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
}

static void
postgresql_configure_fixture(struct vault_fixture *fixture)
{
	char connect[256];
	const struct postgresql_options options = {
		.connect = connect,
		.readers = 2,
		.linger_ms = fixture->linger_ms,
		.connect_timeout_ms = 10000,
		.read_timeout_ms = 30000,
		.stall_timeout_ms = 30000,
	};

	(void)snprintf(connect, sizeof(connect), "%s dbname=%s", getenv("IRIS_TEST_POSTGRESQL"),
		       fixture->store);
	postgresql_configure(&options);
}

static void
postgresql_forget(struct vault_fixture *fixture)
{
	postgresql_say("DROP DATABASE ", fixture->store, " WITH (FORCE)");
	postgresql_configure(NULL);
}

/* It has become a server that only reads, as after a fail-over: who is connected is sent away. */
static void
postgresql_break(struct vault_fixture *fixture, bool broken)
{
	postgresql_say("ALTER DATABASE ", fixture->store,
		       broken ? " SET default_transaction_read_only = on" :
				" RESET default_transaction_read_only");
	if (broken)
		postgresql_say(
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '",
			fixture->store, "'");
}

static struct iris_str postgresql_wanted;
static bool postgresql_found;

static int
postgresql_look(const char *path, const struct stat *info, int kind, struct FTW *at)
{
	if (kind == FTW_F && file_has(path, postgresql_wanted))
		postgresql_found = true;
	return 0;
}

static bool
postgresql_has(struct vault_fixture *fixture, struct iris_str bytes, bool reach)
{
	static const char *const folders[] = { "base", "pg_wal" };
	char data[128], path[192];
	PGconn *pg = postgresql_connect(fixture->store);

	postgresql_ask(pg, "CHECKPOINT", NULL, 0);
	postgresql_ask(pg, "SHOW data_directory", data, sizeof(data));
	PQfinish(pg);
	postgresql_wanted = bytes;
	postgresql_found = false;
	for (size_t i = 0; i < (reach ? 1 : IRIS_COUNT(folders)); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", data, folders[i]);
		CHECK(nftw(path, postgresql_look, 16, FTW_PHYS) == 0);
	}
	return postgresql_found;
}

#endif
