/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0220 1.1.1: Server Dialback, with XEP-0344's checks: only over TLS, and without calling back
 * when the certificate proves the domain.  The worker of the stream; on its fiber, or on one of its
 * own where the stream has other pairs meanwhile.
 *
 * Without the module `xep0220` only what certificates prove is taken, and we ask nobody.
 *
 * SECURITY: it proves no more than that the DNS leads to who sends: who lies in it, or on the way,
 * is whom he says he is.  So it is off by default, and can be left to some domains.
 */
#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "iris/vault.h"
#include "modules/federation/link_private.h"

#define NS_DIALBACK_FEATURE "urn:xmpp:features:dialback"
#define VERIFYING_MAX 4u /* keys of one stream at a time */

enum { OPT_ONLY };

static struct iris_module_self dialback_self;
/* The region's: who asks after a restart, or another worker, is told the same. */
static unsigned char secret[VAULT_SECRET_SIZE];

/* --- whom it may prove --- */

bool
dialback_may_prove(struct link *link, struct iris_str domain)
{
	const struct iris_settings *settings = atomic_load(&dialback_self.settings);
	size_t count;

	if (!module_is_loaded("xep0220") || !region_leaves_to_dns(link, domain))
		return false;
	count = settings_count(settings, OPT_ONLY);
	return count == 0 || policy_is_listed(settings, OPT_ONLY, domain);
}

void
dialback_offer(struct iris_element *features)
{
	if (module_is_loaded("xep0220"))
		element_add(element_add(features, "dialback", NS_DIALBACK_FEATURE), "errors", NULL);
}

/* --- keys (XEP-0185) --- */

static struct iris_str
make_key(struct iris_arena *arena, struct iris_str receiving, struct iris_str originating,
	 struct iris_str id)
{
	struct iris_str text = arena_printf(arena, "%.*s %.*s %.*s", IRIS_STR_FMT(receiving),
					    IRIS_STR_FMT(originating), IRIS_STR_FMT(id));
	struct iris_strbuf hex = STRBUF_INIT(arena);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	IRIS_ASSERT(HMAC(EVP_sha256(), secret, sizeof(secret), (const unsigned char *)text.base,
			 text.len, digest, &len));
	for (unsigned i = 0; i < len; i++)
		strbuf_printf(&hex, "%02x", digest[i]);
	return strbuf_str(&hex);
}

/* --- elements --- */

struct dialback {
	struct iris_str from, to, id, type, key;
};

/* The prefix is the one of our header, which some insist on. */
static struct iris_element *
dialback_new(struct iris_arena *arena, const char *name, const struct dialback *values)
{
	struct iris_element *element = element_new(arena, name, NS_SERVER);

	element_set(element, "from", values->from);
	element_set(element, "to", values->to);
	element_set(element, "id", values->id);
	element_set(element, "type", values->type);
	if (!str_is_none(values->key))
		element_text(element, values->key);
	return element;
}

static void
dialback_send(struct link *link, const char *name, const struct dialback *values)
{
	struct iris_arena *arena = arena_new();

	stream_send(link->stream, dialback_new(arena, name, values));
	arena_unref(&arena);
}

/* §2.4: something is wrong with the question; the stream goes on. */
static void
dialback_send_error(struct link *link, const char *name, const struct dialback *question,
		    enum iris_condition condition)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element =
		dialback_new(arena, name,
			     &(struct dialback){ .from = question->to, .to = question->from,
						 .id = question->id, .type = IRIS_STR("error") });
	struct iris_element *error = element_add(element, "error", NULL);

	element_set(error, "type", str_from(condition_default_type(condition)));
	element_add(error, condition_name(condition), NS_STANZAS);
	stream_send(link->stream, element);
	arena_unref(&arena);
}

static bool
read_domain(const struct iris_element *element, const char *name, struct iris_str *domain_r)
{
	struct iris_jid jid;
	bool right = jid_parse(element->arena, element_get(element, name), &jid) &&
		     jid.node_len == 0 && jid_is_bare(&jid);

	*domain_r = right ? jid_domain(&jid) : IRIS_STR_NONE;
	return right;
}

static bool
dialback_read(const struct iris_element *element, struct dialback *values_r)
{
	*values_r = (struct dialback){ .id = element_get(element, "id"),
				       .type = element_get(element, "type"),
				       .key = element_get_text(element) };
	return read_domain(element, "from", &values_r->from) &&
	       read_domain(element, "to", &values_r->to);
}

/* --- links of ours: asking --- */

void
dialback_ask(struct link *link)
{
	struct iris_arena *arena = arena_new();
	struct dialback values = { .from = str_from(link->route->local),
				   .to = route_remote(link->route) };

	link->asks = true;
	values.key = make_key(arena, values.to, values.from, stream_id(link->stream));
	dialback_send(link, "db:result", &values);
	arena_unref(&arena);
}

void
dialback_ask_for_key(struct link *link)
{
	const struct dial_purpose *purpose = link->attempt->purpose;

	/* SECURITY: who is not whom the DNS names by its certificate has no say. */
	if (stream_is_pinned(link->stream) && !stream_proves(link->stream, purpose->theirs)) {
		link_end_attempt(link, DIAL_LATER, "its certificate is not what the DNS says");
		stream_error(link->stream, "not-authorized", NULL);
		return;
	}
	link->asks = true;
	dialback_send(link, "db:verify",
		      &(struct dialback){ .from = purpose->ours, .to = purpose->theirs,
					  .id = purpose->id, .key = purpose->key });
}

static void
taken(struct iris_stream *stream, void *arg)
{
	if (stream_state(stream) == IRIS_STREAM_AUTHENTICATED)
		link_agree(link_of(stream));
}

static void
result_of_ours(struct iris_stream *stream, const struct iris_element *element,
	       const struct dialback *answer)
{
	struct link *link = link_of(stream);
	struct iris_jid jid;

	/* SECURITY: an answer to what was asked here, and to nothing else. */
	if (!link->asks || !link->route || link->is_up ||
	    !str_equal(answer->from, route_remote(link->route)) ||
	    !str_is(answer->to, link->route->local))
		return;
	if (!str_is(answer->type, "valid")) {
		link_refuse(link, "not-authorized", "it does not believe us by dialback");
		return;
	}
	IRIS_ASSERT(jid_make(element->arena, IRIS_STR_NONE, answer->from, IRIS_STR_NONE, &jid));
	stream_authenticated(stream, &jid, false, taken, NULL);
}

static void
verdict_on_key(struct iris_stream *stream, const struct dialback *answer)
{
	struct link *link = link_of(stream);
	const struct dial_purpose *purpose = link->attempt ? link->attempt->purpose : NULL;

	/* SECURITY: who serves one domain must not vouch for another's keys. */
	if (!link->asks || !purpose || purpose->route || !str_equal(answer->id, purpose->id) ||
	    !str_equal(answer->from, purpose->theirs) || !str_equal(answer->to, purpose->ours))
		return;
	if (str_is(answer->type, "valid"))
		link_end_attempt(link, DIAL_UP, NULL);
	else if (str_is(answer->type, "invalid"))
		link_end_attempt(link, DIAL_REFUSED, "the key is not its own");
	else
		link_end_attempt(link, DIAL_LATER, "it could not say");
	stream_close(stream);
}

/* --- links of theirs: being asked to take a pair --- */

struct asked { /* in the memory of the one who handles it */
	struct iris_stream *stream; /* referenced */
	struct iris_arena *arena;
	struct dialback question;
	enum dial_outcome outcome;
};

/* NULL: the stream has ended meanwhile, and the link with it. */
static struct link *
asked_link(const struct asked *asked)
{
	return stream_state(asked->stream) < IRIS_STREAM_CLOSING ? link_of(asked->stream) : NULL;
}

static void
asked_free(struct asked **asked_p)
{
	stream_unref(&(*asked_p)->stream);
	arena_unref(&(*asked_p)->arena);
	free(*asked_p);
	*asked_p = NULL;
}

static void
send_valid(struct link *link, const struct dialback *question)
{
	link_prove(link, question->from, question->to);
	dialback_send(link, "db:result",
		      &(struct dialback){ .from = question->to, .to = question->from,
					  .type = IRIS_STR("valid") });
}

/* §2.2.1: the first pair that is not proven ends the stream, a later one only itself. */
static void
send_invalid(struct link *link, const struct dialback *question, enum dial_outcome outcome)
{
	LOG(IRIS_LOG_NOTICE, "xep0220", "refused", LOG_STR("theirs", question->from),
	    LOG_STR("ours", question->to),
	    LOG_STR("address", stream_peer_address(link->stream)));
	if (outcome != DIAL_REFUSED || link->pairs.count > 0) {
		dialback_send_error(link, "db:result", question,
				    outcome == DIAL_REFUSED ? IRIS_FORBIDDEN :
							      IRIS_REMOTE_SERVER_TIMEOUT);
		return;
	}
	dialback_send(link, "db:result",
		      &(struct dialback){ .from = question->to, .to = question->from,
					  .type = IRIS_STR("invalid") });
	stream_close(link->stream);
}

/* At home, for the first pair of a stream. */
static void
first_pair(struct iris_stream *stream, void *arg)
{
	struct asked *asked = arg;

	if (stream_state(stream) == IRIS_STREAM_AUTHENTICATED) {
		send_valid(link_of(stream), &asked->question);
		link_go_up(link_of(stream));
	}
	arena_unref(&asked->arena);
	free(asked);
}

static void
asked_decide(struct asked *asked)
{
	struct iris_stream *stream = asked->stream;
	struct link *link = asked_link(asked);
	struct iris_jid jid;

	if (!link) {
		asked_free(&asked);
	} else if (asked->outcome != DIAL_UP) {
		send_invalid(link, &asked->question, asked->outcome);
		asked_free(&asked);
	} else if (stream_state(stream) == IRIS_STREAM_BOUND) {
		send_valid(link, &asked->question);
		asked_free(&asked);
	} else {
		IRIS_ASSERT(jid_make(asked->arena, IRIS_STR_NONE, asked->question.from,
				     IRIS_STR_NONE, &jid));
		stream_unref(&asked->stream);
		stream_authenticated(stream, &jid, false, first_pair, asked);
	}
}

static void
asked_verify(void *arg)
{
	struct asked *asked = arg;
	const struct dial_purpose purpose = { .ours = asked->question.to,
					      .theirs = asked->question.from,
					      .key = asked->question.key,
					      .id = stream_id(asked->stream) };
	struct link *link = link_of(asked->stream);
	const char *why;

	link->verifying++;
	asked->outcome = dial(&purpose, &why);
	link = asked_link(asked);
	if (link)
		link->verifying--;
	asked_decide(asked);
}

static struct asked *
asked_new(struct iris_stream *stream, const struct dialback *question)
{
	struct asked *asked = iris_calloc(1, sizeof(*asked));

	asked->stream = stream;
	stream_ref(stream);
	asked->arena = arena_new();
	asked->question = (struct dialback){
		.from = arena_copy_str(asked->arena, question->from),
		.to = arena_copy_str(asked->arena, question->to),
		.key = arena_copy_str(asked->arena, question->key),
	};
	return asked;
}

/* Why the pair is not even looked at; NO_ERROR: it is. */
static enum iris_condition
find_refusal(const struct link *link, const struct dialback *question)
{
	if (!federation_host(question->to))
		return IRIS_ITEM_NOT_FOUND;
	if (!policy_knows(question->from))
		return IRIS_POLICY_VIOLATION;
	/* SECURITY: a stream that proves ever more domains, or makes us dial for each. */
	if (!link_has_room_for_pair(link) || link->verifying >= VERIFYING_MAX)
		return IRIS_RESOURCE_CONSTRAINT;
	return IRIS_NO_ERROR;
}

static void
result_of_theirs(struct iris_stream *stream, const struct dialback *question)
{
	struct link *link = link_of(stream);
	enum iris_condition refusal = find_refusal(link, question);
	struct asked *asked;

	if (refusal != IRIS_NO_ERROR) {
		dialback_send_error(link, "db:result", question, refusal);
		return;
	}
	asked = asked_new(stream, question);
	if (link_proves(link, question->from) || !dialback_may_prove(link, question->from)) {
		asked->outcome = link_proves(link, question->from) ? DIAL_UP : DIAL_REFUSED;
		asked_decide(asked);
	} else if (!link->is_up) {
		asked_verify(asked); /* nothing else is to be done for this stream meanwhile */
	} else if (!fiber_start_spare("dialback", asked_verify, asked)) {
		dialback_send_error(link, "db:result", question, IRIS_RESOURCE_CONSTRAINT);
		asked_free(&asked);
	}
}

/* --- links of theirs: being asked for our keys (§2.2.2) --- */

static void
verify_of_theirs(struct iris_stream *stream, const struct iris_element *element,
		 const struct dialback *question)
{
	struct link *link = link_of(stream);
	bool right = module_is_loaded("xep0220") && question->id.len > 0 &&
		     str_equal_secret(question->key, make_key(element->arena, question->from,
							      question->to, question->id));

	if (!federation_host(question->to)) {
		dialback_send_error(link, "db:verify", question, IRIS_ITEM_NOT_FOUND);
		return;
	}
	dialback_send(link, "db:verify",
		      &(struct dialback){ .from = question->to, .to = question->from,
					  .id = question->id,
					  .type = right ? IRIS_STR("valid") :
							  IRIS_STR("invalid") });
}

/* --- both --- */

void
dialback_handle_result(struct iris_stream *stream, struct iris_element *element)
{
	struct dialback values;

	if (!dialback_read(element, &values))
		stream_error(stream, "improper-addressing", NULL);
	else if (stream_is_initiated(stream))
		result_of_ours(stream, element, &values);
	else if (str_is_none(values.type))
		result_of_theirs(stream, &values);
}

void
dialback_handle_verify(struct iris_stream *stream, struct iris_element *element)
{
	struct dialback values;

	if (!dialback_read(element, &values))
		stream_error(stream, "improper-addressing", NULL);
	else if (stream_is_initiated(stream))
		verdict_on_key(stream, &values);
	else if (str_is_none(values.type))
		verify_of_theirs(stream, element, &values);
}

static bool
dialback_start(struct iris_error *error)
{
	/* Without a vault (role edge) keys are good for streams of this process. */
	return vault_derive_secret("iris dialback", secret) ||
	       RAND_priv_bytes(secret, sizeof(secret)) == 1 ||
	       error_set(error, "OpenSSL has no random bytes");
}

static void
dialback_stop(void)
{
	OPENSSL_cleanse(secret, sizeof(secret));
}

static bool
dialback_check(const struct iris_settings *settings, struct iris_error *error)
{
	return policy_check_domains(settings, OPT_ONLY, error);
}

static const struct iris_option dialback_options[] = {
	[OPT_ONLY] = { "only", IRIS_OPT_STRINGS, .optional = true, .reloadable = true,
		       .help = "Domains, with those below them, that may prove themselves in this "
			       "way; none: all." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_xep0220 = {
	IRIS_MODULE_HEAD,
	.name = "xep0220",
	.summary = "Server Dialback",
	.xep = "XEP-0220 1.1.1, XEP-0185 1.0, XEP-0344 0.4",
	.needs = IRIS_NAMES("federation", "vault"),
	.self = &dialback_self,
	.options = dialback_options,
	.off_by_default = true,
	.outward = true,
	.not_unloadable = true,
	.check = dialback_check,
	.start = dialback_start,
	.stop = dialback_stop,
};
