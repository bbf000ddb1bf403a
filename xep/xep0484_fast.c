/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0484 0.2: Fast Authentication Streamlining Tokens.  A client that has signed in gets a token,
 * and signs in with it next time, in one message (mechanisms HT-SHA-256-*).  Tokens are kept
 * sealed, by client installation, in two slots (§6.1).  Verifying and changing runs at the home of
 * the account, under its fiber lock.  TLS 0-RTT is not offered.
 */
#include "iris/module.h"
#include "iris/sasl.h"
#include "xep0388_sasl2.h"
#include "xep0484_token.h"

#define NS_FAST "urn:xmpp:fast:0"
#define TOKEN_BITS 256
#define OWNER_OF_NOBODY 1 /* whose rows are looked for when there is no account: there are none */

enum { OPTION_LIFETIME, OPTION_ROTATE, OPTION_CLIENTS };
enum { SLOT_CURRENT, SLOT_NEW };

static struct iris_module_self fast_self;

static struct iris_query query_load = {
	.name = "fast.load",
	.table = "fast_tokens",
	.sql = "SELECT slot, mechanism, token, issued_ms, expiry_ms, count FROM fast_tokens "
	       "WHERE account = $1 AND client = $2 ORDER BY slot DESC",
	.key = "account client slot",
	.params = { { "account", IRIS_INT }, { "client", IRIS_INT } },
	.columns = { { "slot", IRIS_INT }, { "mechanism", IRIS_TEXT }, { "token", IRIS_SEALED },
		{ "issued_ms", IRIS_INT }, { "expiry_ms", IRIS_INT }, { "count", IRIS_INT } },
};

static struct iris_query query_put = {
	.name = "fast.put",
	.table = "fast_tokens",
	.sql = "INSERT INTO fast_tokens (account, client, slot, mechanism, token, issued_ms, "
	       "expiry_ms, count) "
	       "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, client, slot) DO "
	       "UPDATE SET "
	       "mechanism = excluded.mechanism, token = excluded.token, issued_ms = "
	       "excluded.issued_ms, "
	       "expiry_ms = excluded.expiry_ms, count = excluded.count",
	.key = "account client slot",
	.write = true,
	.params = { { "account", IRIS_INT }, { "client", IRIS_INT }, { "slot", IRIS_INT },
		{ "mechanism", IRIS_TEXT }, { "token", IRIS_SEALED }, { "issued_ms", IRIS_INT },
		{ "expiry_ms", IRIS_INT }, { "count", IRIS_INT } },
};

static struct iris_query query_count = {
	.name = "fast.count",
	.table = "fast_tokens",
	.sql = "UPDATE fast_tokens SET count = $4 WHERE account = $1 AND client = $2 AND slot = $3",
	.write = true,
	.params = { { "account", IRIS_INT }, { "client", IRIS_INT }, { "slot", IRIS_INT },
		{ "count", IRIS_INT } },
};

static struct iris_query query_drop_client = {
	.name = "fast.drop-client",
	.table = "fast_tokens",
	.sql = "DELETE FROM fast_tokens WHERE account = $1 AND client = $2",
	.write = true,
	.params = { { "account", IRIS_INT }, { "client", IRIS_INT } },
};

static struct iris_query query_drop_expired = {
	.name = "fast.drop-expired",
	.table = "fast_tokens",
	.sql = "DELETE FROM fast_tokens WHERE account = $1 AND expiry_ms <= $2",
	.write = true,
	.params = { { "account", IRIS_INT }, { "now_ms", IRIS_INT } },
};

static struct iris_query query_drop_account = {
	.name = "fast.drop-account",
	.table = "fast_tokens",
	.sql = "DELETE FROM fast_tokens WHERE account = $1",
	.write = true,
	.params = { { "account", IRIS_INT } },
};

/* All but the clients whose tokens are the youngest. */
static struct iris_query query_drop_oldest = {
	.name = "fast.drop-oldest",
	.table = "fast_tokens",
	.sql = "DELETE FROM fast_tokens WHERE account = $1 AND client NOT IN (SELECT client FROM "
	       "fast_tokens "
	       "WHERE account = $1 GROUP BY client ORDER BY MAX(issued_ms) DESC LIMIT $2)",
	.write = true,
	.params = { { "account", IRIS_INT }, { "keep", IRIS_INT } },
};

static struct iris_query *const fast_queries[] = {
	&query_load,	     &query_put,	  &query_count,	      &query_drop_client,
	&query_drop_expired, &query_drop_account, &query_drop_oldest, NULL,
};

/* --- mechanisms: HT-SHA-256 with each type of channel binding --- */

struct fast_binding {
	const char *mechanism;
	const char *type; /* NULL: none */
};

static const struct fast_binding bindings[] = {
	{ "HT-SHA-256-EXPR", "tls-exporter" },
	{ "HT-SHA-256-UNIQ", "tls-unique" },
	{ "HT-SHA-256-ENDP", "tls-server-end-point" },
	{ "HT-SHA-256-NONE", NULL },
};

static const struct fast_binding *
binding_of(struct iris_str mechanism)
{
	for (size_t i = 0; i < IRIS_COUNT(bindings); i++)
		if (str_is(mechanism, bindings[i].mechanism))
			return &bindings[i];
	return NULL;
}

static bool
can_bind(struct iris_stream *stream, const struct fast_binding *binding)
{
	if (!stream_is_secure(stream))
		return false;
	if (!binding->type)
		return true;
	for (const char *const *type = stream_channel_bindings(stream); *type; type++)
		if (strcmp(*type, binding->type) == 0)
			return true;
	return false;
}

static bool
fast_is_offered(struct iris_stream *stream, const struct iris_sasl_mechanism *mechanism)
{
	return can_bind(stream, binding_of(str_from(mechanism->name)));
}

/* §3.1 */
static enum iris_verdict
fast_inline_features(struct iris_inline *offered)
{
	struct iris_element *fast = element_add(offered->response, "fast", NS_FAST);

	for (size_t i = 0; i < IRIS_COUNT(bindings); i++)
		if (can_bind(offered->stream, &bindings[i]))
			element_add_text(fast, "mechanism", NULL, str_from(bindings[i].mechanism));
	return IRIS_PASS;
}

static int64_t
client_id(struct iris_arena *arena, struct iris_str bare, struct iris_str agent)
{
	return vault_peer_id(
		arena_printf(arena, "fast %.*s %.*s", IRIS_STR_FMT(bare), IRIS_STR_FMT(agent)));
}

/* --- §3.4: signing in with a token, at home --- */

struct fast_check {
	struct iris_arena *arena;
	struct iris_jid jid;
	int64_t client;
	const struct fast_binding *binding;
	struct iris_str hash, binding_data;
	int64_t count;   /* -1: none was sent */
	bool invalidate;
	/* The answer: */
	enum iris_sasl_condition condition; /* none: it is the right token */
	struct iris_str response;
};

struct fast_token {
	int64_t slot, issued_ms, expiry_ms, count;
	struct iris_str mechanism, token;
};

/* The token whose hash it is, of the two that may be there. */
static bool
find_token(const struct fast_check *check, const struct iris_rows *rows, struct fast_token *token_r)
{
	bool found = false;

	*token_r = (struct fast_token){ .slot = SLOT_CURRENT };
	for (size_t row = 0; row < rows->count; row++) {
		struct fast_token token = {
			.slot = row_value(rows, row, 0)->number,
			.mechanism = row_value(rows, row, 1)->bytes,
			.token = row_value(rows, row, 2)->bytes,
			.issued_ms = row_value(rows, row, 3)->number,
			.expiry_ms = row_value(rows, row, 4)->number,
			.count = row_value(rows, row, 5)->number,
		};
		struct iris_str expected = ht_hash(check->arena, token.token, "Initiator",
						   check->binding_data);

		/* §3.4: a token is good for the mechanism it was asked for, and no other. */
		if (str_equal_secret(expected, check->hash) &&
		    str_is(token.mechanism, check->binding->mechanism) && !found) {
			*token_r = token;
			found = true;
		}
	}
	return found;
}

/* What becomes of the rows after a successful use (§3.5, §3.6). False: not written, so not used. */
static bool
record_use(const struct fast_check *check, const struct iris_account *account,
	   const struct fast_token *token)
{
	int64_t count = check->count >= 0 ? check->count : token->count;
	struct iris_batch *batch;

	if (!check->invalidate && token->slot == SLOT_CURRENT)
		return check->count < 0 ||
		       vault_write(&query_count, account->owner,
				   VALUES(value_int(account->id), value_int(check->client),
					  value_int(SLOT_CURRENT), value_int(count)),
				   NULL) == IRIS_VAULT_OK;
	batch = batch_new(account->owner);
	/*
	 * Used for the first time: the one before it ends. An invalidated one ends, and its
	 * successor was never used.
	 */
	batch_add(batch, &query_drop_client,
		  VALUES(value_int(account->id), value_int(check->client)));
	if (!check->invalidate)
		batch_add(batch, &query_put,
			  VALUES(value_int(account->id), value_int(check->client),
				 value_int(SLOT_CURRENT), value_str(token->mechanism),
				 value_str(token->token), value_int(token->issued_ms),
				 value_int(token->expiry_ms), value_int(count)));
	return batch_write(&batch) == IRIS_VAULT_OK;
}

static enum iris_sasl_condition
judge(struct fast_check *check)
{
	struct iris_account account;
	struct iris_rows rows;
	struct fast_token token;

	if (!accounts()->find(&check->jid, &account) ||
	    vault_read(&query_load, account.id ? account.owner : OWNER_OF_NOBODY,
		       VALUES(value_int(account.id), value_int(check->client)), check->arena,
		       &rows) != IRIS_VAULT_OK)
		return IRIS_SASL_TEMPORARY_AUTH_FAILURE;
	if (account.id == 0 || !find_token(check, &rows, &token))
		return IRIS_SASL_NOT_AUTHORIZED;
	if (token.expiry_ms <= worker_wall_ms())
		return IRIS_SASL_CREDENTIALS_EXPIRED;
	if (account.locked)
		return IRIS_SASL_ACCOUNT_DISABLED;
	/* SECURITY: §3.4, a recorded message is not taken a second time. */
	if (check->count >= 0 && check->count <= token.count)
		return IRIS_SASL_NOT_AUTHORIZED;
	if (!record_use(check, &account, &token))
		return IRIS_SASL_TEMPORARY_AUTH_FAILURE;
	check->response = ht_hash(check->arena, token.token, "Responder", check->binding_data);
	return IRIS_SASL_NO_CONDITION;
}

static void
check_at_home(void *arg)
{
	struct fast_check *check = arg;

	fiber_lock(jid_bare(&check->jid));
	check->condition = judge(check);
	fiber_unlock(jid_bare(&check->jid));
}

static bool
is_true(struct iris_str text)
{
	return str_is(text, "1") || str_is(text, "true");
}

/* Reads message and request; IRIS_SASL_NO_CONDITION when all is there. */
static enum iris_sasl_condition
read_call(const struct iris_sasl_call *call, struct fast_check *check)
{
	struct iris_element *fast = call->request ? element_child(call->request, "fast", NS_FAST) :
						    NULL;
	struct iris_str agent = call->request ? sasl2_user_agent(call->arena, call->request) :
						IRIS_STR_NONE;
	struct ht_message message;
	struct iris_str count;

	check->binding = binding_of(str_from(call->mechanism->name));
	if (!fast || str_is_none(agent) || !ht_parse(call->message, &message))
		return IRIS_SASL_MALFORMED_REQUEST;
	count = element_get(fast, "count");
	check->count = -1;
	if (!str_is_none(count) && !str_to_int(count, 0, INT64_MAX, &check->count))
		return IRIS_SASL_MALFORMED_REQUEST;
	check->invalidate = is_true(element_get(fast, "invalidate"));
	check->hash = message.hash;
	check->binding_data = IRIS_STR("");
	if (check->binding->type && !stream_channel_binding(call->stream, check->binding->type,
							    call->arena, &check->binding_data))
		return IRIS_SASL_INVALID_MECHANISM;
	if (!sasl_name_to_jid(call->arena, message.username, stream_host(call->stream)->name,
			      &check->jid))
		return IRIS_SASL_NOT_AUTHORIZED;
	check->client = client_id(call->arena, jid_bare(&check->jid), agent);
	return IRIS_SASL_NO_CONDITION;
}

static void
fast_respond(struct iris_sasl_call *call)
{
	struct fast_check check = { .arena = call->arena };

	check.condition = read_call(call, &check);
	if (check.condition == IRIS_SASL_NO_CONDITION)
		home_call(jid_bare(&check.jid), "fast: check token", check_at_home, &check);
	if (check.condition != IRIS_SASL_NO_CONDITION)
		*call->reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_FAILURE,
							 .condition = check.condition };
	else
		*call->reply = (struct iris_sasl_reply){ .outcome = IRIS_SASL_SUCCESS,
							 .data = check.response,
							 .jid = check.jid };
}

/* --- §3.2, §3.3, §3.5: giving tokens --- */

/* A new one into the slot "new"; none: it could not be written. The account's lock is held. */
static struct iris_str
issue(struct iris_arena *arena, const struct iris_account *account, int64_t client,
      struct iris_str mechanism, int64_t expiry_ms)
{
	struct iris_str token = random_id(arena, TOKEN_BITS);
	int64_t now = worker_wall_ms();
	struct iris_batch *batch = batch_new(account->owner);

	batch_add(batch, &query_drop_expired, VALUES(value_int(account->id), value_int(now)));
	batch_add(batch, &query_put,
		  VALUES(value_int(account->id), value_int(client), value_int(SLOT_NEW),
			 value_str(mechanism), value_str(token), value_int(now),
			 value_int(expiry_ms), value_int(0)));
	batch_add(
		batch, &query_drop_oldest,
		VALUES(value_int(account->id), value_int(option_int(&fast_self, OPTION_CLIENTS))));
	return batch_write(&batch) == IRIS_VAULT_OK ? token : IRIS_STR_NONE;
}

/* Is the token in use so old that the client should get another? */
static bool
is_rotation_due(struct iris_arena *arena, const struct iris_account *account, int64_t client)
{
	struct iris_rows rows;
	int64_t due_ms = worker_wall_ms() - option_int(&fast_self, OPTION_ROTATE);

	if (vault_read(&query_load, account->owner,
		       VALUES(value_int(account->id), value_int(client)), arena,
		       &rows) != IRIS_VAULT_OK)
		return false;
	for (size_t row = 0; row < rows.count; row++)
		if (row_value(&rows, row, 0)->number == SLOT_CURRENT)
			return row_value(&rows, row, 3)->number <= due_ms;
	return false;
}

/* For which mechanism may this client get a token? None: for none. */
static struct iris_str
wanted_mechanism(const struct iris_inline *answer, bool *asked_r)
{
	struct iris_element *asked = element_child(answer->request, "request-token", NS_FAST);
	struct iris_element *used = element_child(answer->request, "fast", NS_FAST);
	struct iris_str mechanism = asked ? element_get(asked, "mechanism") :
					    element_get(answer->request, "mechanism");
	const struct fast_binding *binding = binding_of(mechanism);

	*asked_r = asked != NULL;
	if (!binding || !can_bind(answer->stream, binding))
		return IRIS_STR_NONE;
	/* §3.6: who invalidates wants no other, unless it says so. */
	if (!asked && (!used || is_true(element_get(used, "invalidate"))))
		return IRIS_STR_NONE;
	return mechanism;
}

/* At home. What is needed of the stream is taken before the lock, behind which it may be gone. */
static enum iris_verdict
fast_inline_request(struct iris_inline *answer)
{
	struct iris_arena *arena = answer->response->arena;
	bool asked;
	struct iris_str mechanism = wanted_mechanism(answer, &asked), token = IRIS_STR_NONE;
	struct iris_str agent = sasl2_user_agent(arena, answer->request), bare;
	struct iris_account account;
	int64_t expiry_ms = worker_wall_ms() + option_int(&fast_self, OPTION_LIFETIME), client;
	struct iris_element *element;

	if (str_is_none(agent) || str_is_none(mechanism))
		return IRIS_PASS;
	account = *stream_account(answer->stream);
	bare = arena_copy_str(arena, jid_bare(stream_jid(answer->stream)));
	client = client_id(arena, bare, agent);
	fiber_lock(bare);
	if (asked || is_rotation_due(arena, &account, client))
		token = issue(arena, &account, client, mechanism, expiry_ms);
	fiber_unlock(bare);
	if (str_is_none(token))
		return IRIS_PASS;
	element = element_add(answer->response, "token", NS_FAST);
	element_set(element, "token", token);
	element_set(element, "expiry", datetime_format(arena, expiry_ms));
	return IRIS_PASS;
}

/* A new password, a lock, or the end of the account: no token is good any more. */
static enum iris_verdict
fast_account_removed(struct iris_account_removed *removed)
{
	return vault_write(&query_drop_account, removed->account.owner,
			   VALUES(value_int(removed->account.id)), NULL) == IRIS_VAULT_OK ?
		       IRIS_PASS :
		       IRIS_REFUSE;
}

static enum iris_verdict
fast_account_secured(struct iris_account_removed *secured)
{
	if (fast_account_removed(secured) != IRIS_PASS)
		LOG(IRIS_LOG_ERROR, "fast", "tokens-not-removed",
		    LOG_JID("jid", jid_bare(&secured->jid)));
	return IRIS_PASS;
}

static const struct iris_option fast_options[] = {
	[OPTION_LIFETIME] = { .name = "token-lifetime", .type = IRIS_OPT_DURATION,
		.fallback = "21 days", .min = 60000, .max = 31536000000, .reloadable = true,
		.help = "How long a token is good when it is not used." },
	[OPTION_ROTATE] = { .name = "rotate-after", .type = IRIS_OPT_DURATION, .fallback = "1 day",
		.min = 0, .max = 31536000000, .reloadable = true,
		.help = "The age of a token at which its client gets a new one." },
	[OPTION_CLIENTS] = { .name = "clients", .type = IRIS_OPT_INT, .fallback = "32", .min = 1,
		.max = 1000, .reloadable = true,
		.help = "Client installations of one account that may have tokens; the oldest "
			"give way." },
	IRIS_OPTIONS_END,
};

static const struct iris_sasl_mechanism fast_mechanisms[] = {
	{ "HT-SHA-256-EXPR", true, fast_is_offered, fast_respond },
	{ "HT-SHA-256-UNIQ", true, fast_is_offered, fast_respond },
	{ "HT-SHA-256-ENDP", true, fast_is_offered, fast_respond },
	{ "HT-SHA-256-NONE", true, fast_is_offered, fast_respond },
	{ .name = NULL },
};

static const struct iris_hook_handler fast_hooks[] = {
	HOOK(inline_features, IRIS_NEUTRAL, fast_inline_features),
	HOOK(inline_request, IRIS_EARLY, fast_inline_request),
	HOOK(account_secured, IRIS_NEUTRAL, fast_account_secured),
	HOOK(account_removed, IRIS_NEUTRAL, fast_account_removed),
	HOOKS_END,
};

const struct iris_module iris_module_xep0484 = {
	IRIS_MODULE_HEAD,
	.name = "xep0484",
	.summary = "Tokens to sign in again in one round trip (FAST)",
	.xep = "XEP-0484 0.2.0",
	.needs = IRIS_NAMES("xep0388", "accounts"),
	.self = &fast_self,
	.options = fast_options,
	.queries = fast_queries,
	.hooks = fast_hooks,
	.mechanisms = fast_mechanisms,
};
