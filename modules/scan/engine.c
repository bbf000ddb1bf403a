/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libclamav: signatures are loaded once by the keeper, a file is scanned by a job.  Its verdicts
 * are not taken at their word: see README.md, "Nothing is clean by accident".
 */
#include <clamav.h>
#include <stdio.h>
#include <string.h>

#include "modules/scan/scan_private.h"

#define RECURSION_MAX 16
#define FILES_MAX 10000

/* What the callbacks saw of the file that is being scanned. */
struct watch {
	bool cut; /* a layer reached the limit, or says that it is larger */
	uint64_t total;
};

static struct cl_engine *engine;
static const struct scan_limits *engine_limits;

/* --- watching layers --- */

static cl_error_t
watch_layer(int fd, const char *type, const char **ancestors, size_t parent_size, const char *name,
	    size_t size, const char *bytes, uint32_t level, uint32_t attributes,
	    void *context) /* lint: parameters, of libclamav's callback */
{
	struct watch *watch = context;

	if (level == 0)
		return CL_CLEAN;
	watch->total += size;
	watch->cut |= size >= engine_limits->file_max || watch->total >= engine_limits->total_max;
	return CL_CLEAN;
}

static cl_error_t
watch_member(const char *container, unsigned long size, const char *name, unsigned long unpacked,
	     int encrypted, unsigned position,
	     void *context) /* lint: parameters, of libclamav's callback */
{
	struct watch *watch = context;

	watch->cut |= unpacked >= engine_limits->file_max;
	return CL_CLEAN;
}

static void
engine_message(enum cl_msg severity, const char *full, const char *message, void *context)
{
	/* Names of members would get into somebody's log. */
}

/* --- one file --- */

static enum scan_verdict
verdict_say(enum scan_verdict verdict, char *text, size_t size, const char *what)
{
	snprintf(text, size, "%s", what);
	return verdict;
}

static enum scan_verdict
verdict_of_name(const char *name, char *text, size_t size)
{
	static const char *const unscannable[] = { "Heuristics.Limits.", "Heuristics.Encrypted." };

	/* A file over a limit is "found" without a name. */
	if (!name || !*name)
		return verdict_say(SCAN_UNSCANNABLE, text, size, "over a limit");
	for (size_t i = 0; i < sizeof(unscannable) / sizeof(unscannable[0]); i++)
		if (strncmp(name, unscannable[i], strlen(unscannable[i])) == 0)
			return verdict_say(SCAN_UNSCANNABLE, text, size, name);
	return verdict_say(SCAN_INFECTED, text, size, name);
}

enum scan_verdict
engine_scan(int fd, uint64_t size, char *text, size_t text_size)
{
	struct cl_scan_options options = {
		.general = CL_SCAN_GENERAL_HEURISTICS,
		.parse = ~0u,
		.heuristic = CL_SCAN_HEURISTIC_EXCEEDS_MAX | CL_SCAN_HEURISTIC_ENCRYPTED_ARCHIVE |
			     CL_SCAN_HEURISTIC_ENCRYPTED_DOC,
	};
	struct watch watch = { .cut = false };
	unsigned long scanned = 0;
	const char *name = NULL;
	cl_error_t result;

	if (size >= engine_limits->file_max)
		return verdict_say(SCAN_UNSCANNABLE, text, text_size,
				   "larger than may be scanned");
	result = cl_scandesc_callback(fd, NULL, &name, &scanned, engine, &options, &watch);
	if (result == CL_VIRUS)
		return verdict_of_name(name, text, text_size);
	if (result != CL_CLEAN)
		return verdict_say(SCAN_UNSCANNABLE, text, text_size, cl_strerror(result));
	/* SECURITY: a bomb is cut at the limit, and what lies behind it was never looked at. */
	if (watch.cut)
		return verdict_say(SCAN_UNSCANNABLE, text, text_size,
				   "unpacks to more than may be");
	return verdict_say(SCAN_CLEAN, text, text_size, "");
}

/* --- signatures --- */

static bool
engine_set(void)
{
	const struct {
		enum cl_engine_field field;
		uint64_t value;
	} settings[] = {
		{ CL_ENGINE_MAX_SCANSIZE, engine_limits->total_max },
		{ CL_ENGINE_MAX_FILESIZE, engine_limits->file_max },
		{ CL_ENGINE_MAX_RECURSION, RECURSION_MAX },
		{ CL_ENGINE_MAX_FILES, FILES_MAX },
		{ CL_ENGINE_MAX_SCANTIME, engine_limits->time_ms },
		/* A job has one file: nothing would be found in a cache. */
		{ CL_ENGINE_DISABLE_CACHE, 1 },
		{ CL_ENGINE_KEEPTMP, 0 },
		{ CL_ENGINE_DISABLE_PE_STATS, 1 },
		/* SECURITY: no pages that are written and then run. */
		{ CL_ENGINE_BYTECODE_MODE, CL_BYTECODE_MODE_INTERPRETER },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (cl_engine_set_num(engine, settings[i].field, (long long)settings[i].value) !=
		    CL_SUCCESS)
			return false;
	return cl_engine_set_str(engine, CL_ENGINE_TMPDIR, engine_limits->temporary) == CL_SUCCESS;
}

static bool
engine_fail(const char *what, cl_error_t result, char *text, size_t size)
{
	snprintf(text, size, "%s: %s", what, cl_strerror(result));
	return false;
}

bool
engine_load(const struct scan_limits *limits, unsigned *signatures_r, char *text, size_t size)
{
	cl_error_t result = cl_init(CL_INIT_DEFAULT);

	engine_limits = limits;
	if (result != CL_SUCCESS)
		return engine_fail("libclamav does not start", result, text, size);
	cl_set_clcb_msg(engine_message);
	engine = cl_engine_new();
	if (!engine || !engine_set())
		return engine_fail("libclamav refuses the limits", CL_EARG, text, size);
	*signatures_r = 0;
	result = cl_load(limits->signatures, engine, signatures_r, CL_DB_STDOPT);
	if (result != CL_SUCCESS)
		return engine_fail("the signatures cannot be loaded", result, text, size);
	/* SECURITY: a scanner without signatures finds everything clean. */
	if (*signatures_r == 0)
		return engine_fail("there are no signatures", CL_EMALFDB, text, size);
	cl_engine_set_clcb_file_inspection(engine, watch_layer);
	cl_engine_set_clcb_meta(engine, watch_member);
	result = cl_engine_compile(engine);
	return result == CL_SUCCESS ? true :
				      engine_fail("the signatures are bad", result, text, size);
}
