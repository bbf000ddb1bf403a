/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passwords checked and set, accounts made and locked (P3.2).  On a fiber; PBKDF2 runs on the CPU
 * pool. Plain text lives in an arena for the time of a call, and is wiped.
 */
#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "accounts.h"
#include "accounts_private.h"
#include "iris/sasl.h"

#define OPERATOR_PASSWORD_BITS 240 /* 40 characters */

struct hashing {
	struct iris_arena *arena;
	struct iris_str password;                    /* prepared */
	const struct credential_hash *hash;          /* to check: which one … */
	const struct iris_scram *scram;              /* … against what */
	struct accounts_verifiers *verifiers;        /* to derive: into here, salts are set */
	bool ok;
};

static void
check_on_pool(void *arg)
{
	struct hashing *hashing = arg;

	hashing->ok = credential_matches(hashing->hash, hashing->scram, hashing->password);
}

static void
derive_on_pool(void *arg)
{
	struct hashing *hashing = arg;
	unsigned iterations = accounts_iterations();
	char salt[CREDENTIAL_SALT_SIZE];

	hashing->ok = true;
	for (size_t i = 0; i < CREDENTIAL_HASHES && hashing->ok; i++) {
		const struct credential_hash *hash = credential_hash_at(i);

		if (strcmp(hash->mechanism, "SCRAM-SHA-1") == 0 && !sasl_wants_sha1())
			continue;
		hashing->ok = RAND_bytes((unsigned char *)salt, sizeof(salt)) == 1 &&
			credential_derive(hashing->arena, hash, hashing->password,
					  (struct iris_str){ salt, sizeof(salt) }, iterations,
					  &hashing->verifiers->scram[hashing->verifiers->count++]);
	}
}

static bool
derive(struct iris_arena *arena, struct iris_str prepared, struct accounts_verifiers *verifiers_r)
{
	struct hashing hashing = { .arena = arena, .password = prepared, .verifiers = verifiers_r };

	verifiers_r->count = 0;
	pool_call("accounts: derive", derive_on_pool, &hashing);
	return hashing.ok;
}

static void
wipe(struct iris_str secret)
{
	if (secret.len > 0)
		OPENSSL_cleanse((void *)(uintptr_t)secret.base, secret.len);
}

/* The options were changed since it was set: the password is at hand only now. */
static void
renew(struct iris_arena *arena, const struct iris_jid *jid, struct iris_str prepared)
{
	struct accounts_verifiers verifiers;

	if (!derive(arena, prepared, &verifiers) ||
	    accounts_update(jid, &verifiers) != IRIS_NO_ERROR)
		LOG(IRIS_LOG_WARNING, "accounts", "verifier-not-renewed",
		    LOG_JID("jid", jid_bare(jid)));
}

static enum iris_auth_result
check_prepared(struct iris_arena *arena, const struct iris_jid *jid, struct iris_str prepared,
	       struct iris_account *account_r)
{
	struct iris_credentials credentials;
	bool outdated;
	struct hashing hashing = { .password = prepared, .hash = credential_hash_at(1) };

	if (!accounts_load(arena, jid, &credentials, &outdated))
		return IRIS_AUTH_UNAVAILABLE;
	hashing.scram = &credentials.scram[1]; /* SCRAM-SHA-256, which is always there */
	pool_call("accounts: check password", check_on_pool, &hashing);
	if (!hashing.ok || credentials.account.id == 0)
		return IRIS_AUTH_WRONG;
	*account_r = credentials.account;
	if (outdated)
		renew(arena, jid, prepared);
	return account_r->locked ? IRIS_AUTH_LOCKED : IRIS_AUTH_OK;
}

enum iris_auth_result
accounts_check_password(const struct iris_jid *jid, struct iris_str password,
			struct iris_account *account_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_str prepared;
	enum iris_auth_result result = IRIS_AUTH_WRONG;

	*account_r = (struct iris_account){ .id = 0 };
	/* What cannot be prepared is nobody's password; the answer depends on it alone. */
	if (password_prepare(arena, password, &prepared)) {
		result = check_prepared(arena, jid, prepared, account_r);
		wipe(prepared);
	}
	arena_unref(&arena);
	return result;
}

/* Prepares and judges a new password, and derives its verifiers. */
static enum iris_condition
make_verifiers(struct iris_arena *arena, struct iris_str password,
	       struct accounts_verifiers *verifiers_r, const char **text_r)
{
	struct password_rules rules = {
		.length_min = (unsigned)option_int(&accounts_self, OPTION_LENGTH_MIN),
		.classes = (unsigned)option_int(&accounts_self, OPTION_CLASSES),
	};
	struct iris_str prepared;
	enum iris_condition condition = IRIS_NO_ERROR;

	*text_r = NULL;
	if (!password_prepare(arena, password, &prepared)) {
		*text_r = "The password has characters that are not allowed";
		return IRIS_NOT_ACCEPTABLE;
	}
	*text_r = password_refusal(prepared, &rules);
	if (*text_r)
		condition = IRIS_NOT_ACCEPTABLE;
	else if (!derive(arena, prepared, verifiers_r))
		condition = IRIS_INTERNAL_SERVER_ERROR;
	wipe(prepared);
	return condition;
}

/* May there be an account of this address? */
static enum iris_condition
judge_address(struct iris_arena *arena, const struct iris_jid *jid, const char **text_r)
{
	struct iris_host *host = host_find(jid_domain(jid));
	struct iris_account account;
	struct iris_str node;

	*text_r = NULL;
	if (jid->node_len == 0 || !jid_prepare_new_node(arena, jid_node(jid), &node) ||
	    !str_equal(node, jid_node(jid))) {
		*text_r = "The name is not allowed";
		return IRIS_JID_MALFORMED;
	}
	if (!host || host->is_component) {
		*text_r = "Accounts of this domain are not kept here";
		return IRIS_NOT_ALLOWED;
	}
	/* Before the password is judged and its verifiers derived; inserting looks again. */
	if (!accounts_find(jid, &account))
		return IRIS_INTERNAL_SERVER_ERROR;
	return account.id == 0 ? IRIS_NO_ERROR : IRIS_CONFLICT;
}

/* What asks other regions comes last: only who would get the account anyway. */
enum iris_condition
accounts_create_as(struct iris_arena *arena, const struct accounts_new *new, const char **text_r)
{
	struct accounts_verifiers verifiers;
	struct accounts_email email;
	bool with_email = !str_is_empty(new->email);
	enum iris_condition condition = judge_address(arena, &new->jid, text_r);

	if (condition == IRIS_NO_ERROR)
		condition = make_verifiers(arena, new->password, &verifiers, text_r);
	if (condition == IRIS_NO_ERROR && with_email)
		condition = email_take(arena, new->email, &email, text_r);
	if (condition != IRIS_NO_ERROR)
		return condition;
	condition = accounts_insert(&new->jid, new->role, &verifiers, with_email ? &email : NULL);
	if (with_email)
		unique_settle(&email.claim);
	return condition;
}

static bool
has_verifier(const struct accounts_verifiers *verifiers, struct iris_str mechanism)
{
	for (size_t i = 0; i < verifiers->count; i++)
		if (str_equal(verifiers->scram[i].mechanism, mechanism))
			return true;
	return false;
}

static bool
parse_verifiers(struct iris_arena *arena, struct iris_str text,
		struct accounts_verifiers *verifiers_r)
{
	verifiers_r->count = 0;
	while (text.len > 0) {
		struct iris_scram *scram = &verifiers_r->scram[verifiers_r->count];
		const char *space = memchr(text.base, ' ', text.len);
		struct iris_str word = { text.base,
					 space ? (size_t)(space - text.base) : text.len };

		if (verifiers_r->count == CREDENTIAL_HASHES ||
		    !credential_parse(arena, word, scram) ||
		    has_verifier(verifiers_r, scram->mechanism))
			return false;
		verifiers_r->count++;
		text.base += word.len + (space ? 1 : 0);
		text.len -= word.len + (space ? 1 : 0);
	}
	return has_verifier(verifiers_r, IRIS_STR("SCRAM-SHA-512")) &&
		has_verifier(verifiers_r, IRIS_STR("SCRAM-SHA-256"));
}

/* What the password behind them is like cannot be seen: whoever made them has judged it. */
enum iris_condition
accounts_adopt(const struct iris_jid *jid, struct iris_str text, enum iris_role role,
	       const char **text_r)
{
	struct iris_arena *arena = arena_new();
	struct accounts_verifiers verifiers;
	enum iris_condition condition = judge_address(arena, jid, text_r);

	if (condition == IRIS_NO_ERROR && !parse_verifiers(arena, text, &verifiers)) {
		*text_r = "Not verifiers of RFC 5803 for SCRAM-SHA-512 and SCRAM-SHA-256";
		condition = IRIS_NOT_ACCEPTABLE;
	}
	if (condition == IRIS_NO_ERROR)
		condition = accounts_insert(jid, role, &verifiers, NULL);
	arena_unref(&arena);
	return condition;
}

enum iris_condition
accounts_create(const struct iris_jid *jid, struct iris_str password, const char **text_r)
{
	struct iris_arena *arena = arena_new();
	const struct accounts_new new = { .jid = *jid, .password = password,
					  .role = IRIS_ROLE_USER };
	/* Without an address, texts are constants. */
	enum iris_condition condition = accounts_create_as(arena, &new, text_r);

	arena_unref(&arena);
	return condition;
}

/* --- what follows from a change, at the account's home --- */

/*
 * Closes the sessions and lets go of what is in memory, which would outlive the row or be older
 * than it.
 */
static void
forget_at_home(void *arg)
{
	user_forget(jid_bare(arg), "not-authorized");
}

static void
secure_at_home(void *arg)
{
	const struct iris_jid *jid = arg;
	struct iris_account_removed secured = { .jid = *jid };

	if (accounts_find(jid, &secured.account) && secured.account.id != 0)
		(void)hook_run_account_secured(&secured);
}

void
accounts_secure(const struct iris_jid *jid)
{
	home_call(jid_bare(jid), "accounts: secure", secure_at_home, (void *)(uintptr_t)jid);
}

void
accounts_close_sessions(const struct iris_jid *jid)
{
	home_call(jid_bare(jid), "accounts: close sessions", forget_at_home,
		  (void *)(uintptr_t)jid);
}

/* Sessions go on: it may be one of them that asks. Tokens do not. */
enum iris_condition
accounts_set_password(const struct iris_jid *jid, struct iris_str password, const char **text_r)
{
	struct iris_arena *arena = arena_new();
	struct accounts_verifiers verifiers;
	enum iris_condition condition = make_verifiers(arena, password, &verifiers, text_r);

	if (condition == IRIS_NO_ERROR)
		condition = accounts_update(jid, &verifiers);
	if (condition == IRIS_NO_ERROR)
		accounts_secure(jid);
	arena_unref(&arena);
	return condition;
}

enum iris_condition
accounts_set_locked(const struct iris_jid *jid, bool locked)
{
	enum iris_condition condition = accounts_update_locked(jid, locked);

	if (condition != IRIS_NO_ERROR || !locked)
		return condition;
	accounts_secure(jid);
	accounts_close_sessions(jid);
	return IRIS_NO_ERROR;
}

bool
accounts_init_operator(const char *host, char *password_r, size_t size, struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct iris_str password = random_id(arena, OPERATOR_PASSWORD_BITS);
	struct accounts_verifiers verifiers;
	struct iris_jid jid;
	enum iris_condition condition = IRIS_INTERNAL_SERVER_ERROR;

	if (!jid_make(arena, IRIS_STR(OPERATOR_NODE), str_from(host), IRIS_STR_NONE, &jid)) {
		arena_unref(&arena);
		return error_set(error, "\"%s\" is not a domain", host);
	}
	if (str_copy_to(password_r, size, password) && derive(arena, password, &verifiers)) {
		condition = accounts_insert(&jid, IRIS_ROLE_OPERATOR, &verifiers, NULL);
		if (condition == IRIS_CONFLICT)
			condition = accounts_update(&jid, &verifiers);
	}
	wipe(password);
	arena_unref(&arena);
	if (condition == IRIS_NO_ERROR)
		return true;
	error_set(error, "the operator's account cannot be written");
	return error_detail(error, "%s", condition_name(condition));
}
