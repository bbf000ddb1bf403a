/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PostgreSQL engine of the vault, for those that set it up without a configuration file (tests,
 * bench).
 */
#ifndef IRIS_POSTGRESQL_H
#define IRIS_POSTGRESQL_H

#include "vault_engine.h"

struct postgresql_options {
	const char *connect; /* a connection string of libpq */
	unsigned readers; /* of each worker */
	int64_t linger_ms;
	int64_t connect_timeout_ms;
	int64_t read_timeout_ms;
	int64_t stall_timeout_ms; /* without an answer: then the connection is given up */
};

extern const struct iris_vault_engine postgresql_engine;

/* Takes the place of the configuration's section until it is called with NULL. The string is
 * copied. */
void postgresql_configure(const struct postgresql_options *options);

#endif
