/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SASL (RFC 4422, RFC 6120 §6) for those who add to it: mechanisms beyond libsasl2's, and profiles,
 * which carry the exchange in elements of their own (RFC 6120's is in the core, XEP-0388 is a
 * plug-in).  Everything runs on the stream's fiber.
 */
#ifndef IRIS_SASL_H
#define IRIS_SASL_H

#include "iris/auth.h"
#include "iris/stream.h"

#pragma GCC visibility push(default) /* for plug-ins */

/* X(NAME, condition): RFC 6120 §6.5, all of them. */
#define IRIS_SASL_CONDITIONS(X)                                \
	X(ABORTED, "aborted")                                  \
	X(ACCOUNT_DISABLED, "account-disabled")                \
	X(CREDENTIALS_EXPIRED, "credentials-expired")          \
	X(ENCRYPTION_REQUIRED, "encryption-required")          \
	X(INCORRECT_ENCODING, "incorrect-encoding")            \
	X(INVALID_AUTHZID, "invalid-authzid")                  \
	X(INVALID_MECHANISM, "invalid-mechanism")              \
	X(MALFORMED_REQUEST, "malformed-request")              \
	X(MECHANISM_TOO_WEAK, "mechanism-too-weak")            \
	X(NOT_AUTHORIZED, "not-authorized")                    \
	X(TEMPORARY_AUTH_FAILURE, "temporary-auth-failure")

enum iris_sasl_condition {
	IRIS_SASL_NO_CONDITION,
#define X(name, text) IRIS_SASL_##name,
	IRIS_SASL_CONDITIONS(X)
#undef X
};

enum iris_sasl_outcome { IRIS_SASL_CONTINUE, IRIS_SASL_SUCCESS, IRIS_SASL_FAILURE };

/* What one message of the client came to. */
struct iris_sasl_reply {
	enum iris_sasl_outcome outcome;
	/* Bytes of the challenge (empty: asks for the first message), or of the success; none:
	 * none. */
	struct iris_str data;
	struct iris_jid jid;  /* SUCCESS: who it is, bare */
	enum iris_sasl_condition condition; /* FAILURE */
	const char *text;                   /* FAILURE: for people, or NULL */
};

/* One message for a mechanism of a plug-in. */
struct iris_sasl_call {
	struct iris_stream *stream;
	struct iris_arena *arena;           /* for the reply */
	const struct iris_element *request; /* XEP-0388's <authenticate/>, or NULL (RFC 6120) */
	const struct iris_sasl_mechanism *mechanism;
	struct iris_str message;            /* decoded */
	unsigned round;                     /* 0: the first message */
	void **state; /* the mechanism's between rounds, malloc'ed; freed by the engine */
	struct iris_sasl_reply *reply;      /* preset to FAILURE, not-authorized */
};

struct iris_sasl_mechanism {
	const char *name; /* NULL ends a list */
	/* Not in the lists: its plug-in announces it inside XEP-0388, and only there is it taken.
	 */
	bool unlisted;
	/* To this stream? NULL: to all. No wait. */
	bool (*is_offered)(struct iris_stream *stream, const struct iris_sasl_mechanism *mechanism);
	/*
	 * On the stream's fiber; may wait.  Guesses are throttled by source address before; a
	 * mechanism whose secrets can be guessed does so by account itself.
	 */
	void (*respond)(struct iris_sasl_call *call);
};

/* --- for profiles --- */

/*
 * Adds a <mechanism/> in the parent's namespace for each one this stream may use; how many there
 * are. No wait.
 */
unsigned sasl_offer(struct iris_stream *stream, struct iris_element *parent);

/*
 * Starts an exchange, goes on with it, ends it. Text is base64 as it came, none when there was no
 * initial response.  False: the stream has ended, say nothing.  The reply lies in the arena.  The
 * request (XEP-0388) is copied, and kept for sasl_request() until the exchange or what follows it
 * is over.
 */
IRIS_MUST_CHECK bool sasl_begin(struct iris_stream *stream, const struct iris_element *request,
				struct iris_str mechanism, struct iris_str initial,
				struct iris_arena *arena, struct iris_sasl_reply *reply_r);
IRIS_MUST_CHECK bool sasl_step(struct iris_stream *stream, struct iris_str response,
			       struct iris_arena *arena, struct iris_sasl_reply *reply_r);
void sasl_abort(struct iris_stream *stream, struct iris_sasl_reply *reply_r);

/* Sends <failure xmlns=ns/>; after too many of them the stream ends (policy-violation). */
void sasl_send_failure(struct iris_stream *stream, const char *ns,
		       const struct iris_sasl_reply *reply);
/*
 * The copy of the request of the exchange that has just succeeded; the stream's until
 * sasl_forget().
 */
const struct iris_element *sasl_request(struct iris_stream *stream);
void sasl_forget(struct iris_stream *stream);

/* Is SCRAM-SHA-1 offered (so that new passwords get a verifier for it)? Any worker. */
bool sasl_wants_sha1(void);
/*
 * Name (localpart, or bare JID) to the bare JID of an account of `domain`; false: there can be
 * none.
 */
IRIS_MUST_CHECK bool sasl_name_to_jid(struct iris_arena *arena, struct iris_str name,
				      struct iris_str domain, struct iris_jid *jid_r);
const char *sasl_condition_name(enum iris_sasl_condition condition);

#pragma GCC visibility pop
#endif
