/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts and credentials, as the core sees them.  One module provides them (modules/accounts);
 * SASL and the commands use them through here.  All calls are made on a fiber and may wait.
 */
#ifndef IRIS_AUTH_H
#define IRIS_AUTH_H

#include "iris/route.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define SCRAM_ITERATIONS_MIN 4096
#define SCRAM_ITERATIONS_MAX 65536

/* Only verifiers are kept (P3.2). */
struct iris_scram {
	struct iris_str mechanism; /* "SCRAM-SHA-256" … */
	unsigned iterations;
	struct iris_str salt, stored_key, server_key; /* bytes */
};

struct iris_credentials {
	/* id 0: no such account; the verifiers are then made-up ones that fail */
	struct iris_account account;
	struct iris_scram scram[3];
	size_t scram_count;
};

enum iris_auth_result {
	IRIS_AUTH_OK,
	IRIS_AUTH_WRONG,      /* unknown account or wrong secret: never told apart */
	IRIS_AUTH_LOCKED,     /* SASL account-disabled, only after the right secret */
	IRIS_AUTH_THROTTLED,  /* SASL temporary-auth-failure */
	IRIS_AUTH_UNAVAILABLE /* the vault is gone: temporary-auth-failure */
};

/* What the module that keeps accounts offers. */
struct iris_accounts {
	/* By bare JID; false: the vault failed. id is 0 in *account_r when there is none. */
	bool (*find)(const struct iris_jid *jid, struct iris_account *account_r);
	/*
	 * Credentials for SCRAM, into the arena. SECURITY: an unknown account gives stable
	 * made-up verifiers.
	 */
	bool (*credentials)(struct iris_arena *arena, const struct iris_jid *jid,
			    struct iris_credentials *credentials_r);
	/*
	 * PLAIN: verifies against the stored verifier on the CPU pool, in the same time for
	 * unknown accounts.
	 */
	enum iris_auth_result (*check_password)(const struct iris_jid *jid,
						struct iris_str password,
						struct iris_account *account_r);
	/*
	 * Throttling (P3.8), by account and by source address: may an attempt be made now? Then
	 * what came of it. Delays are slept inside, on the fiber.
	 */
	enum iris_auth_result (*attempt)(const struct iris_jid *jid, struct iris_str peer_address);
	void (*attempt_result)(const struct iris_jid *jid, struct iris_str peer_address,
			       bool success);
	/*
	 * The account a client certificate signs in (its XmppAddr or DNS/e-mail names); none when
	 * there is none.
	 */
	bool (*certificate_jid)(struct iris_arena *arena, void *x509, struct iris_host *host,
				struct iris_jid *jid_r);
	/* The last session has gone (for last activity). Posts. */
	void (*logged_out)(const struct iris_user *user, struct iris_str status);
	/* The status text of that, none when there was none; false: the vault failed. */
	bool (*last_status)(struct iris_arena *arena, const struct iris_account *account,
			    struct iris_str *status_r);
	/* Management, for registration and commands. REFUSED text is for people. */
	enum iris_condition (*create)(const struct iris_jid *jid, struct iris_str password,
				      const char **text_r);
	enum iris_condition (*set_password)(const struct iris_jid *jid, struct iris_str password,
					    const char **text_r);
	enum iris_condition (*set_locked)(const struct iris_jid *jid, bool locked);
	/* closes sessions, erases rows (hook account_removed) */
	enum iris_condition (*remove)(const struct iris_jid *jid);
};

const struct iris_accounts *accounts(void); /* asserted present after start */

#pragma GCC visibility pop
#endif
