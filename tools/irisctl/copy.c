/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `db copy`: the region moves to another engine, while the server is down.  Here are the command
 * line and what is told on the way; server/vault_copy.c does it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "irisctl.h"
#include "vault_private.h"

#define TELL_EVERY_MS 1000 /* on a terminal */

struct telling {
	bool terminal; /* lines may be written over */
	int64_t began_ms, table_ms, told_ms;
	int64_t rows, compared, tables;
};

static int64_t
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void
tell_table(struct telling *telling, const struct vault_copy_progress *progress)
{
	int64_t now = now_ms(), ms = now - telling->table_ms;

	if (!progress->done && (!telling->terminal || now - telling->told_ms < TELL_EVERY_MS))
		return;
	telling->told_ms = now;
	fprintf(stderr, "%s  %-9s %-24.*s %12lld rows %8.1f MiB", telling->terminal ? "\r" : "",
		progress->step == VAULT_COPY_ROWS ? "copied" : "compared",
		IRIS_STR_FMT(progress->table), (long long)progress->rows,
		(double)progress->bytes / (1 << 20));
	if (ms > 0)
		fprintf(stderr, " %9lld rows/s", (long long)(progress->rows * 1000 / ms));
	fputs(progress->done ? "\n" : "", stderr);
}

static void
on_progress(const struct vault_copy_progress *progress, void *arg)
{
	struct telling *telling = arg;

	switch (progress->step) {
	case VAULT_COPY_BEGINS: fputs("The target is empty; the copy begins.\n", stderr); break;
	case VAULT_COPY_GOES_ON:
		fputs("The target is an unfinished copy of this region; it goes on.\n", stderr);
		break;
	case VAULT_COPY_ROWS:
	case VAULT_COPY_COMPARES:
		tell_table(telling, progress);
		if (progress->done && progress->step == VAULT_COPY_ROWS) {
			telling->rows += progress->rows;
		} else if (progress->done) {
			telling->compared += progress->rows;
			telling->tables++;
		}
		break;
	case VAULT_COPY_ENDS: break;
	}
	if (progress->done || progress->step <= VAULT_COPY_GOES_ON)
		telling->table_ms = now_ms();
}

static void
tell_end(const struct telling *telling, const char *to)
{
	printf("%lld rows were copied, %lld rows in %lld tables were compared, in %.1f s.\n"
	       "Set vault: engine: %s before the next start. The former store is as it was: keep "
	       "it "
	       "as a backup\nof this moment, and never serve from it again.\n",
	       (long long)telling->rows, (long long)telling->compared, (long long)telling->tables,
	       (double)(now_ms() - telling->began_ms) / 1000, to);
}

/* The engine's name, or NULL. */
static const char *
take_target(int count, char **words)
{
	if (count == 4 && strcmp(words[2], "--to") == 0)
		return words[3];
	if (count == 3 && strncmp(words[2], "--to=", 5) == 0)
		return words[2] + 5;
	return NULL;
}

enum exit_code
local_db_copy(const struct options *options, int count, char **words)
{
	const char *to = take_target(count, words);
	struct iris_error error = { .message = "" };
	struct telling telling = { .terminal = isatty(STDERR_FILENO), .began_ms = now_ms() };
	const struct vault_copy_watch watch = { on_progress, &telling };
	enum exit_code code = EXIT_DONE;

	if (options->help || !to) {
		fputs("usage: irisctl db copy --to ENGINE\n\n"
		      "Copies the region from the engine that vault: engine: names to another one, "
		      "whose section\nof the same configuration says where. The server must be "
		      "down. See irisctl(1).\n",
		      options->help ? stdout : stderr);
		return options->help ? EXIT_DONE : EXIT_USAGE;
	}
	if (local_prepare(options, &error) && vault_copy(to, &watch, &error))
		tell_end(&telling, to);
	else
		code = local_tell_error(&error);
	local_finish();
	return code;
}
