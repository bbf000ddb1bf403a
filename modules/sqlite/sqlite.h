/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite engine of the vault, for those that set it up without a configuration file (tests,
 * bench).
 */
#ifndef IRIS_SQLITE_H
#define IRIS_SQLITE_H

#include "vault_engine.h"

struct sqlite_options {
	const char *path;
	size_t writer_cache, reader_cache; /* bytes; of each reader */
	unsigned readers;
	int64_t linger_ms;
};

extern const struct iris_vault_engine sqlite_engine;

/*
 * Takes the place of the configuration's section until it is called with NULL. The path is copied.
 */
void sqlite_configure(const struct sqlite_options *options);

#endif
