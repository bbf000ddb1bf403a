/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exchanges of every mechanism against a client that is computed here, over OpenSSL, from the RFCs:
 * what must succeed, what must fail, and that an unknown account cannot be told from a known one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "modules/accounts/accounts_private.h"
#include "sasl_private.h"

#define DOMAIN "example.org"
#define PASSWORD "Wherefore-art-thou-1"
#define NONCE "fyko+d2lbbFgONRv9qkxdawL"

static struct iris_arena *arena;

/* --- the server's side of the test: one account, juliet --- */

static struct {
	enum iris_auth_result attempt;
	bool locked, vault_fails;
	unsigned iterations;
	unsigned attempts, successes, failures;
} world;

static struct iris_account
account_of(const struct iris_jid *jid)
{
	bool known = str_is(jid_bare(jid), "juliet@" DOMAIN);

	return (struct iris_account){ .id = known ? 1 : 0,
				      .owner = 1,
				      .locked = known && world.locked };
}

static bool
find(const struct iris_jid *jid, struct iris_account *account_r)
{
	*account_r = account_of(jid);
	return !world.vault_fails;
}

static bool
credentials(struct iris_arena *into, const struct iris_jid *jid,
	    struct iris_credentials *credentials_r)
{
	*credentials_r = (struct iris_credentials){ .account = account_of(jid), .scram_count = 3 };
	for (size_t i = 0; i < 3; i++) {
		struct iris_scram *scram = &credentials_r->scram[i];

		if (credentials_r->account.id)
			assert_true(credential_derive(
				into, credential_hash_at(i), IRIS_STR(PASSWORD),
				IRIS_STR("0123456789abcdef"), SCRAM_ITERATIONS_MIN, scram));
		else
			credential_make_up(into, credential_hash_at(i), jid_bare(jid),
					   SCRAM_ITERATIONS_MIN, scram);
		if (world.iterations)
			scram->iterations = world.iterations;
	}
	return !world.vault_fails;
}

static enum iris_auth_result
check_password(const struct iris_jid *jid, struct iris_str password, struct iris_account *account_r)
{
	*account_r = account_of(jid);
	if (account_r->id == 0 || !str_is(password, PASSWORD))
		return IRIS_AUTH_WRONG;
	return world.locked ? IRIS_AUTH_LOCKED : IRIS_AUTH_OK;
}

static enum iris_auth_result
attempt(const struct iris_jid *jid, struct iris_str address)
{
	world.attempts++;
	return world.attempt;
}

static void
attempt_result(const struct iris_jid *jid, struct iris_str address, bool success)
{
	if (success)
		world.successes++;
	else
		world.failures++;
}

static bool
certificate_jid(struct iris_arena *into, void *x509, struct iris_host *host, struct iris_jid *jid_r)
{
	return jid_parse(into, str_from(x509), jid_r);
}

static const struct iris_accounts test_accounts = {
	.find = find,
	.credentials = credentials,
	.check_password = check_password,
	.attempt = attempt,
	.attempt_result = attempt_result,
	.certificate_jid = certificate_jid,
};

static bool
give_binding(void *arg, const char *type, struct iris_arena *into, struct iris_str *data_r)
{
	if (strcmp(type, "tls-exporter") && strcmp(type, "tls-unique") &&
	    strcmp(type, "tls-server-end-point"))
		return false;
	*data_r = arena_printf(into, "binding data of %s", type);
	return true;
}

static struct sasl_peer
new_peer(void)
{
	return (struct sasl_peer){ .domain = IRIS_STR(DOMAIN),
				   .address = IRIS_STR("192.0.2.1"),
				   .is_secure = true,
				   .binds = true,
				   .accounts = &test_accounts,
				   .binding = give_binding };
}

static int
set_up(void **state)
{
	memset(&world, 0, sizeof(world));
	arena = arena_new();
	return 0;
}

static int
tear_down(void **state)
{
	arena_unref(&arena);
	return 0;
}

/* --- the client --- */

struct client {
	const char *mechanism;
	const char *gs2; /* "n,,", "p=tls-exporter,," */
	const char *name, *password;
	struct iris_str binding; /* data it binds to */
};

struct run {
	struct sasl_exchange *exchange;
	struct iris_str server_first;
	struct iris_sasl_reply reply;
	bool signature_is_right;
};

static const EVP_MD *
digest_of(const char *mechanism)
{
	if (strstr(mechanism, "512"))
		return EVP_sha512();
	return strstr(mechanism, "256") ? EVP_sha256() : EVP_sha1();
}

static struct iris_str
attribute(struct iris_str message, char name)
{
	const char *at = message.base, *end = message.base + message.len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));

		if (!comma)
			comma = end;
		if (comma - at >= 2 && at[0] == name && at[1] == '=')
			return (struct iris_str){ at + 2, (size_t)(comma - at) - 2 };
		at = comma + 1;
	}
	return IRIS_STR_NONE;
}

static void
hmac(const EVP_MD *md, const unsigned char *key, struct iris_str text, unsigned char *out)
{
	assert_non_null(HMAC(md, key, EVP_MD_get_size(md), (const unsigned char *)text.base,
			     text.len, out, NULL));
}

/* client-final-message for this challenge, and what the server must sign (RFC 5802 §3). */
static struct iris_str
client_final(const struct client *client, struct iris_str first_bare, struct iris_str challenge,
	     struct iris_str *signature_r)
{
	const EVP_MD *md = digest_of(client->mechanism);
	size_t size = (size_t)EVP_MD_get_size(md);
	unsigned char salted[64], client_key[64], stored[64], signature[64], server_key[64];
	struct iris_str salt, without, auth;
	int64_t iterations;

	assert_true(base64_decode(arena, attribute(challenge, 's'), &salt));
	assert_true(str_to_int(attribute(challenge, 'i'), 1, 1000000, &iterations));
	without = arena_printf(arena, "c=%s,r=%.*s",
			       base64_encode(arena, arena_printf(arena, "%s%.*s", client->gs2,
								 IRIS_STR_FMT(client->binding)))
				       .base,
			       IRIS_STR_FMT(attribute(challenge, 'r')));
	auth = arena_printf(arena, "%.*s,%.*s,%.*s", IRIS_STR_FMT(first_bare),
			    IRIS_STR_FMT(challenge), IRIS_STR_FMT(without));
	assert_int_equal(1,
			 PKCS5_PBKDF2_HMAC(client->password, -1, (const unsigned char *)salt.base,
					   (int)salt.len, (int)iterations, md, (int)size, salted));
	hmac(md, salted, IRIS_STR("Client Key"), client_key);
	EVP_Digest(client_key, size, stored, NULL, md, NULL);
	hmac(md, stored, auth, signature);
	for (size_t i = 0; i < size; i++)
		client_key[i] ^= signature[i];
	hmac(md, salted, IRIS_STR("Server Key"), server_key);
	hmac(md, server_key, auth, signature);
	*signature_r = base64_encode(arena, (struct iris_str){ (const char *)signature, size });
	return arena_printf(
		arena, "%.*s,p=%s", IRIS_STR_FMT(without),
		base64_encode(arena, (struct iris_str){ (const char *)client_key, size }).base);
}

/* A whole exchange; the caller frees run.exchange by end_run(). */
static struct run
run_scram(const struct sasl_peer *peer, const struct client *client)
{
	struct run run = { .exchange = sasl_exchange_new(
				   peer, sasl_builtin_find(str_from(client->mechanism))) };
	struct iris_str bare = arena_printf(arena, "n=%s,r=" NONCE, client->name), signature, final;

	sasl_exchange_step(run.exchange,
			   arena_printf(arena, "%s%.*s", client->gs2, IRIS_STR_FMT(bare)), arena,
			   &run.reply);
	if (run.reply.outcome != IRIS_SASL_CONTINUE)
		return run;
	run.server_first = run.reply.data;
	final = client_final(client, bare, run.server_first, &signature);
	sasl_exchange_step(run.exchange, final, arena, &run.reply);
	run.signature_is_right = run.reply.outcome == IRIS_SASL_SUCCESS &&
		str_equal(attribute(run.reply.data, 'v'), signature);
	return run;
}

static void
end_run(struct run *run)
{
	sasl_exchange_free(&run->exchange);
}

static struct iris_sasl_reply
run_once(const struct sasl_peer *peer, const char *mechanism, struct iris_str message)
{
	struct sasl_exchange *exchange = sasl_exchange_new(peer,
							   sasl_builtin_find(str_from(mechanism)));
	struct iris_sasl_reply reply;

	sasl_exchange_step(exchange, message, arena, &reply);
	sasl_exchange_free(&exchange);
	return reply;
}

static void
assert_refused(const struct iris_sasl_reply *reply, enum iris_sasl_condition condition)
{
	assert_int_equal(reply->outcome, IRIS_SASL_FAILURE);
	assert_string_equal(sasl_condition_name(reply->condition), sasl_condition_name(condition));
	assert_true(str_is_none(reply->data));
}

static void
assert_scram(const struct client *client, enum iris_sasl_condition condition)
{
	struct sasl_peer peer = new_peer();
	struct run run = run_scram(&peer, client);

	if (condition == IRIS_SASL_NO_CONDITION) {
		assert_int_equal(run.reply.outcome, IRIS_SASL_SUCCESS);
		assert_true(run.signature_is_right);
		assert_true(str_is(jid_full(&run.reply.jid), "juliet@" DOMAIN));
	} else {
		assert_refused(&run.reply, condition);
	}
	end_run(&run);
}

/* --- SCRAM --- */

static void
test_scram_signs_in(void **state)
{
	static const char *const mechanisms[] = { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512" };

	for (size_t i = 0; i < IRIS_COUNT(mechanisms); i++)
		assert_scram(&(struct client){ mechanisms[i], "n,,", "juliet", PASSWORD },
			     IRIS_SASL_NO_CONDITION);
	assert_int_equal(world.successes, 3);
	assert_int_equal(world.failures, 0);
}

static void
test_scram_binds_channels(void **state)
{
	static const char *const mechanisms[] = { "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
						  "SCRAM-SHA-512-PLUS" };
	static const char *const types[] = { "tls-exporter", "tls-server-end-point", "tls-unique" };

	for (size_t i = 0; i < IRIS_COUNT(mechanisms); i++)
		for (size_t j = 0; j < IRIS_COUNT(types); j++) {
			struct client client = {
				mechanisms[i], arena_printf(arena, "p=%s,,", types[j]).base,
				"juliet", PASSWORD,
				arena_printf(arena, "binding data of %s", types[j])
			};

			assert_scram(&client, IRIS_SASL_NO_CONDITION);
			client.binding = IRIS_STR("data of another connection");
			assert_scram(&client, IRIS_SASL_NOT_AUTHORIZED);
		}
}

/* Mechanism and flag must agree, and "y" says that somebody removed -PLUS from our list. */
static void
test_scram_refuses_downgrades(void **state)
{
	struct iris_str data = IRIS_STR("binding data of tls-exporter");
	struct sasl_peer peer = new_peer();
	struct client client = { "SCRAM-SHA-256", "y,,", "juliet", PASSWORD };
	struct run run;

	assert_scram(&(struct client){ "SCRAM-SHA-256-PLUS", "n,,", "juliet", PASSWORD },
		     IRIS_SASL_MALFORMED_REQUEST);
	assert_scram(&(struct client){ "SCRAM-SHA-256-PLUS", "y,,", "juliet", PASSWORD },
		     IRIS_SASL_MALFORMED_REQUEST);
	assert_scram(
		&(struct client){ "SCRAM-SHA-256", "p=tls-exporter,,", "juliet", PASSWORD, data },
		IRIS_SASL_MALFORMED_REQUEST);
	assert_scram(&(struct client){ "SCRAM-SHA-256-PLUS", "p=tls-fantasy,,", "juliet", PASSWORD,
				       data },
		     IRIS_SASL_MALFORMED_REQUEST);
	assert_scram(&client, IRIS_SASL_NOT_AUTHORIZED);
	peer.binds = false; /* we did not offer it: "y" is right */
	run = run_scram(&peer, &client);
	assert_int_equal(run.reply.outcome, IRIS_SASL_SUCCESS);
	end_run(&run);
}

/* libsasl2 says OK to one more step after a failed binding, if it is let. */
static void
test_failed_exchange_stays_failed(void **state)
{
	struct sasl_peer peer = new_peer();
	struct client client = { "SCRAM-SHA-256-PLUS", "p=tls-exporter,,", "juliet", PASSWORD,
				 IRIS_STR("wrong") };
	struct run run = run_scram(&peer, &client);

	assert_refused(&run.reply, IRIS_SASL_NOT_AUTHORIZED);
	sasl_exchange_step(run.exchange, IRIS_STR(""), arena, &run.reply);
	assert_refused(&run.reply, IRIS_SASL_NOT_AUTHORIZED);
	end_run(&run);
}

static void
test_unknown_account_looks_like_wrong_password(void **state)
{
	struct sasl_peer peer = new_peer();
	struct client wrong = { "SCRAM-SHA-256", "n,,", "juliet", "guess" };
	struct client nobody = { "SCRAM-SHA-256", "n,,", "nobody", "guess" };
	struct run known = run_scram(&peer, &wrong), unknown = run_scram(&peer, &nobody),
		   again = run_scram(&peer, &nobody);

	assert_refused(&known.reply, IRIS_SASL_NOT_AUTHORIZED);
	assert_refused(&unknown.reply, IRIS_SASL_NOT_AUTHORIZED);
	assert_int_equal(known.server_first.len, unknown.server_first.len);
	assert_true(str_equal(attribute(known.server_first, 'i'),
			      attribute(unknown.server_first, 'i')));
	assert_true(str_equal(attribute(unknown.server_first, 's'),
			      attribute(again.server_first, 's')));
	assert_ptr_equal(known.reply.text, unknown.reply.text);
	assert_int_equal(world.failures, 3);
	end_run(&known);
	end_run(&unknown);
	end_run(&again);
}

static void
test_names_are_prepared(void **state)
{
	static const struct { const char *name; enum iris_sasl_condition condition; } names[] = {
		{ "Juliet", IRIS_SASL_NO_CONDITION },
		{ "juliet@" DOMAIN, IRIS_SASL_NO_CONDITION },
		{ "juliet@other.example", IRIS_SASL_NOT_AUTHORIZED },
		{ "juliet@" DOMAIN "/balcony", IRIS_SASL_NOT_AUTHORIZED },
		{ "@" DOMAIN, IRIS_SASL_NOT_AUTHORIZED },
		{ "=3Djuliet", IRIS_SASL_NOT_AUTHORIZED },
	};

	for (size_t i = 0; i < IRIS_COUNT(names); i++)
		assert_scram(&(struct client){ "SCRAM-SHA-256", "n,,", names[i].name, PASSWORD },
			     names[i].condition);
}

static void
test_authorization_identity(void **state)
{
	static const struct { const char *gs2; enum iris_sasl_condition condition; } headers[] = {
		{ "n,a=juliet@" DOMAIN ",", IRIS_SASL_NO_CONDITION },
		{ "n,a=JULIET@" DOMAIN ",", IRIS_SASL_NO_CONDITION },
		{ "n,a=romeo@" DOMAIN ",", IRIS_SASL_INVALID_AUTHZID },
		{ "n,a=nobody@" DOMAIN ",", IRIS_SASL_INVALID_AUTHZID },
		{ "n,a=juliet@" DOMAIN "/x,", IRIS_SASL_INVALID_AUTHZID },
		{ "n,a=" DOMAIN ",", IRIS_SASL_INVALID_AUTHZID },
	};
	struct sasl_peer peer = new_peer();
	struct run run;

	for (size_t i = 0; i < IRIS_COUNT(headers); i++)
		assert_scram(
			&(struct client){ "SCRAM-SHA-256", headers[i].gs2, "juliet", PASSWORD },
			headers[i].condition);
	/* XEP-0388 §2.3: it must agree with the stream's from too. */
	assert_true(jid_parse(arena, IRIS_STR("romeo@" DOMAIN), &peer.claimed));
	run = run_scram(&peer, &(struct client){ "SCRAM-SHA-256", "n,a=juliet@" DOMAIN ",",
						 "juliet", PASSWORD });
	assert_refused(&run.reply, IRIS_SASL_INVALID_AUTHZID);
	end_run(&run);
}

static void
test_locked_account_is_told_after_the_secret(void **state)
{
	world.locked = true;
	assert_scram(&(struct client){ "SCRAM-SHA-256", "n,,", "juliet", "guess" },
		     IRIS_SASL_NOT_AUTHORIZED);
	assert_scram(&(struct client){ "SCRAM-SHA-256", "n,,", "juliet", PASSWORD },
		     IRIS_SASL_ACCOUNT_DISABLED);
}

static void
test_temporary_failures(void **state)
{
	struct client client = { "SCRAM-SHA-256", "n,,", "juliet", PASSWORD };

	world.attempt = IRIS_AUTH_THROTTLED;
	assert_scram(&client, IRIS_SASL_TEMPORARY_AUTH_FAILURE);
	world.attempt = IRIS_AUTH_OK;
	world.vault_fails = true;
	assert_scram(&client, IRIS_SASL_TEMPORARY_AUTH_FAILURE);
	world.vault_fails = false;
	world.iterations = SCRAM_ITERATIONS_MAX + 1; /* a record that we would never have made */
	assert_scram(&client, IRIS_SASL_TEMPORARY_AUTH_FAILURE);
}

static void
test_malformed_scram(void **state)
{
	static const char *const messages[] = {
		"",
		"n",
		"n,",
		"n,,",
		"n,,n=juliet",
		"n,,n=juliet,",
		"n,,n=juliet,r=",
		"n,,n=,r=x",
		"n,,r=x,n=juliet",
		"x,,n=juliet,r=x",
		"nn,,n=juliet,r=x",
		"p,,n=juliet,r=x",
		"p=,,n=juliet,r=x",
		"p=a b,,n=juliet,r=x",
		"n,b=juliet,n=juliet,r=x",
		"n,a=,n=juliet,r=x",
		"n,,n=juliet=,r=x",
		"n,,n=juli=2Zet,r=x",
		"n,,m=ext,n=juliet,r=x",
	};
	struct sasl_peer peer = new_peer();
	struct iris_sasl_reply reply;

	for (size_t i = 0; i < IRIS_COUNT(messages); i++) {
		reply = run_once(&peer, "SCRAM-SHA-256", str_from(messages[i]));
		assert_refused(&reply, IRIS_SASL_MALFORMED_REQUEST);
	}
	reply = run_once(&peer, "SCRAM-SHA-256", (struct iris_str){ "n,,n=jul\0iet,r=x", 16 });
	assert_refused(&reply, IRIS_SASL_MALFORMED_REQUEST);
	assert_int_equal(world.attempts, 0);
}

static void
test_malformed_second_message(void **state)
{
	static const char *const finals[] = { "", "c=biws", "c=biws,r=other,p=AAAA", "p=AAAA",
					      "\x01\x02" };
	struct sasl_peer peer = new_peer();

	for (size_t i = 0; i < IRIS_COUNT(finals); i++) {
		struct sasl_exchange *exchange = sasl_exchange_new(
			&peer, sasl_builtin_find(IRIS_STR("SCRAM-SHA-256")));
		struct iris_sasl_reply reply;

		sasl_exchange_step(exchange, IRIS_STR("n,,n=juliet,r=" NONCE), arena, &reply);
		assert_int_equal(reply.outcome, IRIS_SASL_CONTINUE);
		sasl_exchange_step(exchange, str_from(finals[i]), arena, &reply);
		assert_refused(&reply, IRIS_SASL_NOT_AUTHORIZED);
		sasl_exchange_free(&exchange);
	}
}

/* --- PLAIN --- */

#define MESSAGE(literal) ((struct iris_str){ literal, sizeof(literal) - 1 })

static void
test_plain(void **state)
{
	static const struct {
		struct iris_str message;
		enum iris_sasl_condition condition;
	} rows[] = {
		{ MESSAGE("\0juliet\0" PASSWORD), IRIS_SASL_NO_CONDITION },
		{ MESSAGE("juliet@" DOMAIN "\0juliet\0" PASSWORD), IRIS_SASL_NO_CONDITION },
		{ MESSAGE("\0juliet@" DOMAIN "\0" PASSWORD), IRIS_SASL_NO_CONDITION },
		{ MESSAGE("\0juliet\0guess"), IRIS_SASL_NOT_AUTHORIZED },
		{ MESSAGE("\0nobody\0" PASSWORD), IRIS_SASL_NOT_AUTHORIZED },
		{ MESSAGE("romeo@" DOMAIN "\0juliet\0" PASSWORD), IRIS_SASL_INVALID_AUTHZID },
		{ MESSAGE(""), IRIS_SASL_MALFORMED_REQUEST },
		{ MESSAGE("\0"), IRIS_SASL_MALFORMED_REQUEST },
		{ MESSAGE("\0\0"), IRIS_SASL_MALFORMED_REQUEST },
		{ MESSAGE("\0juliet\0"), IRIS_SASL_MALFORMED_REQUEST },
		{ MESSAGE("\0\0x"), IRIS_SASL_MALFORMED_REQUEST },
		{ MESSAGE("\0juliet\0x\0y"), IRIS_SASL_MALFORMED_REQUEST },
	};
	struct sasl_peer peer = new_peer();

	for (size_t i = 0; i < IRIS_COUNT(rows); i++) {
		struct iris_sasl_reply reply = run_once(&peer, "PLAIN", rows[i].message);

		if (rows[i].condition != IRIS_SASL_NO_CONDITION) {
			assert_refused(&reply, rows[i].condition);
			continue;
		}
		assert_int_equal(reply.outcome, IRIS_SASL_SUCCESS);
		assert_true(str_is_none(reply.data));
		assert_true(str_is(jid_full(&reply.jid), "juliet@" DOMAIN));
	}
	assert_int_equal(world.successes, 3);
	assert_int_equal(world.failures, 2);
}

static void
test_plain_needs_tls_and_tells_locks_late(void **state)
{
	struct sasl_peer peer = new_peer();
	struct iris_sasl_reply reply;

	world.locked = true;
	reply = run_once(&peer, "PLAIN", MESSAGE("\0juliet\0guess"));
	assert_refused(&reply, IRIS_SASL_NOT_AUTHORIZED);
	reply = run_once(&peer, "PLAIN", MESSAGE("\0juliet\0" PASSWORD));
	assert_refused(&reply, IRIS_SASL_ACCOUNT_DISABLED);
	peer.is_secure = false;
	reply = run_once(&peer, "PLAIN", MESSAGE("\0juliet\0" PASSWORD));
	assert_refused(&reply, IRIS_SASL_ENCRYPTION_REQUIRED);
}

/* --- EXTERNAL --- */

static void
test_external(void **state)
{
	struct sasl_peer peer = new_peer();
	char juliet[] = "juliet@" DOMAIN, nobody[] = "nobody@" DOMAIN;
	struct iris_sasl_reply reply = run_once(&peer, "EXTERNAL", IRIS_STR(""));

	assert_refused(&reply, IRIS_SASL_NOT_AUTHORIZED);
	peer.certificate = juliet;
	reply = run_once(&peer, "EXTERNAL", IRIS_STR(""));
	assert_int_equal(reply.outcome, IRIS_SASL_SUCCESS);
	assert_true(str_is(jid_full(&reply.jid), juliet));
	reply = run_once(&peer, "EXTERNAL", str_from(juliet));
	assert_int_equal(reply.outcome, IRIS_SASL_SUCCESS);
	reply = run_once(&peer, "EXTERNAL", IRIS_STR("romeo@" DOMAIN));
	assert_refused(&reply, IRIS_SASL_INVALID_AUTHZID);
	world.locked = true;
	reply = run_once(&peer, "EXTERNAL", IRIS_STR(""));
	assert_refused(&reply, IRIS_SASL_ACCOUNT_DISABLED);
	peer.certificate = nobody;
	reply = run_once(&peer, "EXTERNAL", IRIS_STR(""));
	assert_refused(&reply, IRIS_SASL_NOT_AUTHORIZED);
}

/* --- messages --- */

static void
test_escaped_names(void **state)
{
	struct scram_first first;

	assert_true(scram_parse_first(
		arena, IRIS_STR("p=tls-exporter,a=x=2Cy,n=a=2Cb=3Dc,r=nonce,ext=1"), &first));
	assert_int_equal(first.flag, 'p');
	assert_true(str_is(first.binding, "tls-exporter"));
	assert_true(str_is(first.authzid, "x,y"));
	assert_true(str_is(first.username, "a,b=c"));
}

static void
test_long_messages_are_refused(void **state)
{
	char *name = iris_malloc(SASL_SCRAM_MESSAGE_MAX);
	struct sasl_peer peer = new_peer();
	struct iris_sasl_reply reply;

	memset(name, 'a', SASL_SCRAM_MESSAGE_MAX);
	reply = run_once(&peer, "SCRAM-SHA-256",
			 arena_printf(arena, "n,,n=%.*s,r=x", SASL_SCRAM_MESSAGE_MAX, name));
	assert_refused(&reply, IRIS_SASL_MALFORMED_REQUEST);
	free(name);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_scram_signs_in),
		TEST(test_scram_binds_channels),
		TEST(test_scram_refuses_downgrades),
		TEST(test_failed_exchange_stays_failed),
		TEST(test_unknown_account_looks_like_wrong_password),
		TEST(test_names_are_prepared),
		TEST(test_authorization_identity),
		TEST(test_locked_account_is_told_after_the_secret),
		TEST(test_temporary_failures),
		TEST(test_malformed_scram),
		TEST(test_malformed_second_message),
		TEST(test_plain),
		TEST(test_plain_needs_tls_and_tells_locks_late),
		TEST(test_external),
		TEST(test_escaped_names),
		TEST(test_long_messages_are_refused),
	};
	struct iris_error error;
	int failed;

	if (!cyrus_open(&error)) {
		fprintf(stderr, "%s (%s)\n", error.message, error.hint);
		return 1;
	}
	failed = cmocka_run_group_tests_name("sasl", tests, NULL, NULL);
	cyrus_close();
	return failed;
}
