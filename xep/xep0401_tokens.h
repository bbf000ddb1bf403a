/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0401: invitations that were given out, for the commands that make them (xep0401), the
 * subscription requests (xep0379) and registrations (xep0445) that show their tokens.
 *
 * They live at the home of who invited: in memory while the account is, and in the vault.  There,
 * and only there, is decided whether a token is used up, so that it is used once.  Only hashes of
 * tokens are kept; `token` below is such a hash.
 */
#ifndef IRIS_XEP0401_TOKENS_H
#define IRIS_XEP0401_TOKENS_H

#include "iris/module.h"

#define NS_PREAUTH "urn:xmpp:pars:0" /* XEP-0379, XEP-0445 */

enum { INVITE_CONTACT = 1u, INVITE_REGISTER = 2u, INVITE_ROSTER = 4u };

/* XEP-0445 §4: who showed the token in time may take a while to register. */
#define INVITE_GRACE_MS 3600000
#define INVITE_SECRET_LEN 24 /* 144 bits */
#define INVITE_TOKEN_SIZE 65 /* a SHA-256 in hexadecimal digits */

struct invite {
	struct iris_hash_node node;
	char token[INVITE_TOKEN_SIZE];
	unsigned rights;
	int64_t created_ms, expires_ms;
	bool claimed;       /* a registration with it is under way */
	struct iris_str name; /* see struct invite_record; lies behind */
};

/* What the vault knows of a token, wherever its home is. In the arena. */
struct invite_record {
	unsigned rights;
	int64_t expires_ms;
	struct iris_jid inviter; /* bare */
	struct iris_str name;    /* of the account to be: bare, or its domain only; or none */
};

void invite_hash(struct iris_str secret, char token_r[INVITE_TOKEN_SIZE]);

/* --- at the inviter's home --- */

/*
 * Fiber; waits. Of the record, rights and name are given, and expires_ms is set. secret_r: what
 * goes into the link.
 */
enum iris_condition invite_make(struct iris_user *inviter, struct invite_record *record,
				struct iris_arena *arena, struct iris_str *secret_r);
/* NULL: there is none, or it has no longer a use. Expired ones are found, too: see expires_ms. */
struct invite *invite_find(struct iris_user *inviter, const char *token);
/* Used up: from now on it is not found. Posts. */
IRIS_MUST_CHECK bool invite_use(struct iris_user *inviter, struct invite **invite_p);
/* Fiber; waits until it is good nowhere any more. False: it still is, the vault failed. */
IRIS_MUST_CHECK bool invite_revoke(struct iris_user *inviter, struct invite *invite);
void invite_each(struct iris_user *inviter, void (*fn)(const struct invite *invite, void *arg),
		 void *arg);

/* --- anywhere, on a fiber; they wait --- */

/* False: there is none, or the vault failed. */
IRIS_MUST_CHECK bool invite_look_up(const char *token, struct iris_arena *arena,
				    struct invite_record *record_r);
/* Is this address reserved for somebody who shows another token (NULL: any)? */
bool invite_is_reserved(const struct iris_jid *jid, const char *token);

#endif
