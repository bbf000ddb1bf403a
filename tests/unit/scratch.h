/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of its own for a test that needs files. Include after cmocka.h. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_folder[256];

static inline int
scratch_setup(void **state)
{
	const char *base = getenv("TMPDIR");

	snprintf(scratch_folder, sizeof(scratch_folder), "%s/iris-test.XXXXXX",
		 base ? base : "/tmp");
	return mkdtemp(scratch_folder) ? 0 : -1;
}

static inline int
scratch_remove(const char *path, const struct stat *status, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline int
scratch_teardown(void **state)
{
	return nftw(scratch_folder, scratch_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* Good until the next call. */
static inline const char *
scratch_path(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", scratch_folder, name);
	return path;
}

/* Folders in the name are made. */
static inline void
scratch_write(const char *name, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s", scratch_path(name));
	for (char *slash = strchr(path + strlen(scratch_folder) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

#endif
