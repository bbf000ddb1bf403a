/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sign-in by a mechanism of libsasl2: SCRAM (RFC 5802, 7677), PLAIN (RFC 4616), EXTERNAL
 * (RFC 4422, XEP-0178).  Reads the first message, fetches what is needed on the fiber, then lets
 * libsasl2 verify.  Makes all the checks that libsasl2 lacks.  Knows no stream and no XML.
 */
#include <stdlib.h>

#include <openssl/crypto.h>

#include "sasl_private.h"

/* RFC 6120 §13.8.1, strongest first: clients that take the first they know do well. */
static const struct sasl_builtin builtins[] = {
	{ "SCRAM-SHA-512-PLUS", SASL_SCRAM, true, false },
	{ "SCRAM-SHA-256-PLUS", SASL_SCRAM, true, false },
	{ "SCRAM-SHA-1-PLUS", SASL_SCRAM, true, true },
	{ "SCRAM-SHA-512", SASL_SCRAM, false, false },
	{ "SCRAM-SHA-256", SASL_SCRAM, false, false },
	{ "SCRAM-SHA-1", SASL_SCRAM, false, true },
	{ "EXTERNAL", SASL_EXTERNAL, false, false },
	{ "PLAIN", SASL_PLAIN, false, false },
};

static void
refuse(struct iris_sasl_reply *reply, enum iris_sasl_condition condition, const char *text)
{
	*reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_FAILURE,
					   .condition = condition,
					   .text = text };
}

static void
refuse_result(struct iris_sasl_reply *reply, enum iris_auth_result result)
{
	switch (result) {
	case IRIS_AUTH_LOCKED:
		refuse(reply, IRIS_SASL_ACCOUNT_DISABLED, NULL);
		return;
	case IRIS_AUTH_THROTTLED:
		refuse(reply, IRIS_SASL_TEMPORARY_AUTH_FAILURE,
		       "Too many attempts; try again later");
		return;
	case IRIS_AUTH_UNAVAILABLE:
		refuse(reply, IRIS_SASL_TEMPORARY_AUTH_FAILURE, NULL);
		return;
	default:
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, NULL);
	}
}

/* Who wants to be signed in, and may that be tried now? False: the reply says why not. */
static bool
identify(struct sasl_exchange *exchange, struct iris_str name, struct iris_str authzid,
	 struct iris_sasl_reply *reply)
{
	const struct sasl_peer *peer = &exchange->peer;
	enum iris_auth_result result;

	if (!sasl_name_to_jid(exchange->arena, name, peer->domain, &exchange->jid)) {
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, NULL);
		return false;
	}
	/*
	 * Told before the secret is looked at, which is safe: the answer depends on the client's
	 * own words only.
	 */
	if (!sasl_authzid_fits(exchange->arena, authzid, &exchange->jid) ||
	    (!str_is_none(authzid) && !jid_is_none(&peer->claimed) &&
	     !jid_bare_equal(&peer->claimed, &exchange->jid))) {
		refuse(reply, IRIS_SASL_INVALID_AUTHZID, NULL);
		return false;
	}
	result = peer->accounts->attempt(&exchange->jid, peer->address);
	if (result == IRIS_AUTH_OK)
		return true;
	refuse_result(reply, result);
	return false;
}

/*
 * RFC 5802 §6: name of the mechanism and flag must agree.
 * SECURITY: libsasl2 takes -PLUS with "n" and its opposite; a downgrade would go unnoticed.
 */
static bool
check_binding_flag(const struct sasl_exchange *exchange, const struct scram_first *first,
		   struct iris_sasl_reply *reply)
{
	bool wants_plus = first->flag == 'p';

	if (wants_plus != exchange->builtin->plus) {
		refuse(reply, IRIS_SASL_MALFORMED_REQUEST,
		       "Mechanism and channel binding flag disagree");
		return false;
	}
	if (first->flag == 'y' && exchange->peer.binds) {
		/* SECURITY: it can bind, but saw no -PLUS: somebody between us removed it. */
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, "Channel binding was offered");
		return false;
	}
	return true;
}

static bool
take_binding(struct sasl_exchange *exchange, const struct scram_first *first,
	     struct iris_sasl_reply *reply)
{
	struct iris_str data;
	char *copy;

	if (first->flag != 'p')
		return true;
	if (!str_copy_to(exchange->binding_name, sizeof(exchange->binding_name), first->binding) ||
	    !exchange->peer.binding(exchange->peer.binding_arg, exchange->binding_name,
				    exchange->arena, &data)) {
		refuse(reply, IRIS_SASL_MALFORMED_REQUEST,
		       "Channel binding of this type is not supported");
		return false;
	}
	copy = arena_alloc(exchange->arena, data.len + 1);
	memcpy(copy, data.base, data.len);
	exchange->channel_binding = (sasl_channel_binding_t){
		.name = exchange->binding_name,
		.critical = 0, /* 1 would hide mechanisms */
		.len = data.len,
		.data = (unsigned char *)copy,
	};
	return true;
}

/* Records are ours to check: libsasl2 sends a count of 2^32 as 0. */
static bool
has_sound_verifier(const struct sasl_exchange *exchange)
{
	struct iris_str wanted = str_from(exchange->builtin->name);

	if (exchange->builtin->plus)
		wanted.len -= strlen("-PLUS");
	for (size_t i = 0; i < exchange->credentials.scram_count; i++) {
		const struct iris_scram *scram = &exchange->credentials.scram[i];

		if (str_equal(scram->mechanism, wanted))
			return scram->iterations >= SCRAM_ITERATIONS_MIN &&
				scram->iterations <= SCRAM_ITERATIONS_MAX && scram->salt.len > 0;
	}
	return false;
}

static bool
prepare_scram(struct sasl_exchange *exchange, struct iris_str message,
	      struct iris_sasl_reply *reply)
{
	struct scram_first first;

	if (!scram_parse_first(exchange->arena, message, &first)) {
		refuse(reply, IRIS_SASL_MALFORMED_REQUEST, NULL);
		return false;
	}
	if (!check_binding_flag(exchange, &first, reply) ||
	    !take_binding(exchange, &first, reply) ||
	    !identify(exchange, first.username, first.authzid, reply))
		return false;
	if (!exchange->peer.accounts->credentials(exchange->arena, &exchange->jid,
						  &exchange->credentials) ||
	    !has_sound_verifier(exchange)) {
		refuse_result(reply, IRIS_AUTH_UNAVAILABLE);
		return false;
	}
	exchange->account = exchange->credentials.account;
	return true;
}

static bool
prepare_plain(struct sasl_exchange *exchange, struct iris_str message,
	      struct iris_sasl_reply *reply)
{
	const struct iris_accounts *accounts = exchange->peer.accounts;
	struct plain_message plain;
	enum iris_auth_result result;

	if (!exchange->peer.is_secure) {
		refuse(reply, IRIS_SASL_ENCRYPTION_REQUIRED, NULL);
		return false;
	}
	if (!plain_parse(message, &plain)) {
		refuse(reply, IRIS_SASL_MALFORMED_REQUEST, NULL);
		return false;
	}
	if (!identify(exchange, plain.username, plain.authzid, reply))
		return false;
	result = accounts->check_password(&exchange->jid, plain.password, &exchange->account);
	exchange->password_is_right = result == IRIS_AUTH_OK || result == IRIS_AUTH_LOCKED;
	if (exchange->password_is_right)
		return true;
	/* Without asking libsasl2, which would go on to its other ways of checking. */
	if (result == IRIS_AUTH_WRONG)
		accounts->attempt_result(&exchange->jid, exchange->peer.address, false);
	refuse_result(reply, result);
	return false;
}

/* XEP-0178 §3: the certificate says who it is; an authorization identity must agree. */
static bool
prepare_external(struct sasl_exchange *exchange, struct iris_str message,
		 struct iris_sasl_reply *reply)
{
	const struct sasl_peer *peer = &exchange->peer;
	struct iris_host *host = NULL;
	struct iris_str authzid = message.len > 0 ? message : IRIS_STR_NONE;

	if (message.len > 2 * JID_PART_MAX + 1) {
		refuse(reply, IRIS_SASL_MALFORMED_REQUEST, NULL);
		return false;
	}
	host = peer->host;
	if (!peer->certificate ||
	    !peer->accounts->certificate_jid(exchange->arena, peer->certificate, host,
					     &exchange->jid)) {
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, NULL);
		return false;
	}
	if (!sasl_authzid_fits(exchange->arena, authzid, &exchange->jid)) {
		refuse(reply, IRIS_SASL_INVALID_AUTHZID, NULL);
		return false;
	}
	if (!peer->accounts->find(&exchange->jid, &exchange->account)) {
		refuse_result(reply, IRIS_AUTH_UNAVAILABLE);
		return false;
	}
	if (exchange->account.id == 0)
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, NULL);
	return exchange->account.id != 0;
}

static bool
prepare(struct sasl_exchange *exchange, struct iris_str message, struct iris_sasl_reply *reply)
{
	switch (exchange->builtin->family) {
	case SASL_SCRAM:
		return prepare_scram(exchange, message, reply);
	case SASL_PLAIN:
		return prepare_plain(exchange, message, reply);
	default:
		return prepare_external(exchange, message, reply);
	}
}

/* Only now is it told that an account is locked: the client has proved that it knows the secret. */
static void
finish(struct sasl_exchange *exchange, bool success, struct iris_str data, struct iris_arena *arena,
       struct iris_sasl_reply *reply)
{
	const struct sasl_peer *peer = &exchange->peer;

	if (exchange->builtin->family != SASL_EXTERNAL)
		peer->accounts->attempt_result(&exchange->jid, peer->address, success);
	if (!success || exchange->account.id == 0)
		refuse(reply, IRIS_SASL_NOT_AUTHORIZED, NULL);
	else if (exchange->account.locked)
		refuse(reply, IRIS_SASL_ACCOUNT_DISABLED, NULL);
	else
		*reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_SUCCESS, .data = data,
						   .jid = jid_copy(arena, &exchange->jid) };
}

static void
verify(struct sasl_exchange *exchange, struct iris_str message, struct iris_arena *arena,
       struct iris_sasl_reply *reply)
{
	struct iris_str data;
	int result = cyrus_step(exchange, message, arena, &data);

	if (result == SASL_CONTINUE) {
		if (str_is_none(data))
			data = IRIS_STR("");
		*reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_CONTINUE, .data = data };
		return;
	}
	/*
	 * SECURITY: disposed at once, whatever it was; a connection that failed is never stepped
	 * again.
	 */
	cyrus_dispose(exchange);
	finish(exchange, result == SASL_OK, data, arena, reply);
}

const struct sasl_builtin *
sasl_builtin_at(size_t i)
{
	return i < IRIS_COUNT(builtins) ? &builtins[i] : NULL;
}

const struct sasl_builtin *
sasl_builtin_find(struct iris_str name)
{
	for (size_t i = 0; i < IRIS_COUNT(builtins); i++)
		if (str_is(name, builtins[i].name))
			return &builtins[i];
	return NULL;
}

struct sasl_exchange *
sasl_exchange_new(const struct sasl_peer *peer, const struct sasl_builtin *builtin)
{
	struct sasl_exchange *exchange = iris_calloc(1, sizeof(*exchange));

	exchange->peer = *peer;
	exchange->builtin = builtin;
	exchange->arena = arena_new();
	return exchange;
}

void
sasl_exchange_step(struct sasl_exchange *exchange, struct iris_str message,
		   struct iris_arena *arena, struct iris_sasl_reply *reply_r)
{
	/* SECURITY: libsasl2 would start anew, without what we check and fetch before. */
	if (exchange->over)
		refuse(reply_r, IRIS_SASL_NOT_AUTHORIZED, NULL);
	else if (message.len > SASL_SCRAM_MESSAGE_MAX && exchange->builtin->family == SASL_SCRAM)
		refuse(reply_r, IRIS_SASL_MALFORMED_REQUEST, NULL);
	else if (exchange->round++ > 0 || prepare(exchange, message, reply_r))
		verify(exchange, message, arena, reply_r);
	exchange->over = reply_r->outcome != IRIS_SASL_CONTINUE;
}

void
sasl_exchange_free(struct sasl_exchange **exchange_p)
{
	struct sasl_exchange *exchange = *exchange_p;

	if (!exchange)
		return;
	*exchange_p = NULL;
	cyrus_dispose(exchange);
	for (size_t i = 0; i < exchange->credentials.scram_count; i++) {
		struct iris_scram *scram = &exchange->credentials.scram[i];

		OPENSSL_cleanse((void *)(uintptr_t)scram->stored_key.base, scram->stored_key.len);
		OPENSSL_cleanse((void *)(uintptr_t)scram->server_key.base, scram->server_key.len);
	}
	arena_unref(&exchange->arena);
	free(exchange);
}
