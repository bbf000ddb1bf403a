/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of SASL: messages (parsing, pure), exchanges (one sign-in, knows no stream), libsasl2.
 */
#ifndef SASL_PRIVATE_H
#define SASL_PRIVATE_H

#include <sasl/sasl.h>

#include "iris/sasl.h"

#define SASL_SCRAM_MESSAGE_MAX 2048 /* libsasl2's own limit; above it answers nothing useful */
#define SASL_BINDING_NAME_MAX 32

/* --- messages: sasl_message.c --- */

/* RFC 5802 §7: the client's first message, as far as it must be known before libsasl2 sees it. */
struct scram_first {
	char flag;               /* 'n', 'y', 'p' */
	struct iris_str binding; /* with 'p' */
	struct iris_str authzid; /* unescaped; none when absent */
	struct iris_str username; /* unescaped */
};
IRIS_MUST_CHECK bool scram_parse_first(struct iris_arena *arena, struct iris_str message,
				       struct scram_first *first_r);

struct plain_message { /* RFC 4616; authzid none when empty */
	struct iris_str authzid, username, password;
};
IRIS_MUST_CHECK bool plain_parse(struct iris_str message, struct plain_message *plain_r);

/* An authorization identity, when there is one, must be the account itself. */
bool sasl_authzid_fits(struct iris_arena *arena, struct iris_str authzid,
		       const struct iris_jid *jid);

/* --- exchanges: sasl_exchange.c --- */

enum sasl_family { SASL_SCRAM, SASL_PLAIN, SASL_EXTERNAL };

struct sasl_builtin {
	const char *name;
	enum sasl_family family;
	bool plus;
	bool is_sha1;
};
const struct sasl_builtin *sasl_builtin_at(size_t i); /* by preference; NULL behind the last */
const struct sasl_builtin *sasl_builtin_find(struct iris_str name);

/* What an exchange must know of its connection; copied, what it points to outlives the exchange. */
struct sasl_peer {
	struct iris_str domain, address;
	struct iris_jid claimed;  /* from of the stream header, or none */
	bool is_secure;
	bool binds;               /* channel binding was offered: "y" is a downgrade */
	struct iris_host *host;
	void *certificate;        /* X509 *, trusted, or NULL */
	const struct iris_accounts *accounts;
	/* Binding data by type; false: there is none of this type. */
	bool (*binding)(void *arg, const char *type, struct iris_arena *arena,
			struct iris_str *data_r);
	void *binding_arg;
};

struct sasl_exchange {
	struct sasl_peer peer;
	const struct sasl_builtin *builtin;
	struct iris_arena *arena;
	unsigned round;
	bool over;
	struct iris_jid jid;
	struct iris_account account;
	struct iris_credentials credentials; /* SCRAM: fetched before libsasl2 runs */
	bool password_is_right;              /* PLAIN: checked before libsasl2 runs */
	sasl_conn_t *conn;
	sasl_callback_t callbacks[4];
	sasl_channel_binding_t channel_binding; /* libsasl2 keeps the pointer */
	char binding_name[SASL_BINDING_NAME_MAX];
};

struct sasl_exchange *sasl_exchange_new(const struct sasl_peer *peer,
					const struct sasl_builtin *builtin);
/*
 * The next message of the client. After anything but CONTINUE the exchange is over: free it. May
 * wait.
 */
void sasl_exchange_step(struct sasl_exchange *exchange, struct iris_str message,
			struct iris_arena *arena, struct iris_sasl_reply *reply_r);
void sasl_exchange_free(struct sasl_exchange **exchange_p); /* wipes the verifiers */

/* --- libsasl2: sasl_cyrus.c --- */

IRIS_MUST_CHECK bool cyrus_open(struct iris_error *error); /* main thread, once */
void cyrus_close(void);
/*
 * Runs one step; libsasl2's result, data_r in the arena. Never waits: everything was fetched
 * before.
 */
int cyrus_step(struct sasl_exchange *exchange, struct iris_str message, struct iris_arena *arena,
	       struct iris_str *data_r);
void cyrus_dispose(struct sasl_exchange *exchange);

#endif
