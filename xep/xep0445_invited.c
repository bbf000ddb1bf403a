/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0445 0.2: Pre-Authenticated In-Band Registration, off by default.  On the fiber of a stream
 * that is not signed in; what becomes of an invitation is decided at the home of who invited.
 *
 * A token is looked up when it is shown, and looked at once more when an account is made: then it
 * is claimed, and used up only if there is an account (§4).  Its expiry counts when it is shown.
 */
#include <stdlib.h>

#include "xep/xep0077_register.h"
#include "xep/xep0401_tokens.h"

#define NS_TOKEN "urn:xmpp:ibr-token:0"
#define TRIES_MAX 3 /* tokens that a stream may show in vain */

/* Of a stream that has shown a token. */
struct invited {
	unsigned failures;
	bool admitted;
	char token[INVITE_TOKEN_SIZE];
	unsigned rights;
	char *inviter; /* bare */
	char *name;    /* of the account to be: bare, or its domain only; or NULL */
	struct iris_user *claimed; /* held, at the inviter's home; NULL: no claim */
};

static struct iris_module_self invited_self;

static struct iris_metric invited_metrics[] = {
	{ .name = "iris_invited_registrations_total",
	  .help = "Accounts registered with an invitation" },
	{ .name = NULL },
};

static struct invited *
invited_of(struct iris_stream *stream)
{
	return *stream_slot(stream, &invited_self);
}

static void
invited_clear(struct invited *invited)
{
	free(invited->inviter);
	free(invited->name);
	invited->inviter = invited->name = NULL;
	invited->admitted = false;
}

static enum iris_verdict
invited_stream_close(struct iris_stream *stream)
{
	struct invited *invited = invited_of(stream);

	if (!invited)
		return IRIS_PASS;
	IRIS_ASSERT(!invited->claimed);
	invited_clear(invited);
	free(invited);
	*stream_slot(stream, &invited_self) = NULL;
	return IRIS_PASS;
}

/* --- showing a token: §4 --- */

static void
invited_features(struct iris_stream *stream, struct iris_element *features)
{
	element_add(features, "register", NS_TOKEN);
}

static bool
invited_admits(struct iris_stream *stream)
{
	struct invited *invited = invited_of(stream);

	return invited && invited->admitted;
}

/* Good for an account on this host, now? */
static bool
invited_check(struct iris_stream *stream, const struct invite_record *record)
{
	struct iris_str host = stream_host(stream)->name;
	struct iris_jid name = str_is_none(record->name) ? record->inviter :
							    jid_from_prepared(record->name);

	return (record->rights & INVITE_REGISTER) && record->expires_ms > worker_wall_ms() &&
	       str_equal(jid_domain(&name), host);
}

static bool
invited_show(struct iris_stream *stream, struct invited *invited, struct iris_str secret)
{
	struct iris_arena *arena = arena_new();
	struct invite_record record;
	bool good;

	invited_clear(invited);
	invite_hash(secret, invited->token);
	good = invite_look_up(invited->token, arena, &record) && invited_check(stream, &record);
	if (good) {
		invited->admitted = true;
		invited->rights = record.rights;
		invited->inviter = str_dup(jid_bare(&record.inviter));
		invited->name = record.name.base ? str_dup(record.name) : NULL;
	}
	arena_unref(&arena);
	return good;
}

/* SECURITY: tokens cannot be guessed; whoever tries anyway makes us read the vault thrice only. */
static bool
invited_handle_iq(struct iris_stream *stream, struct iris_element *iq,
		  struct iris_refusal *refusal_r)
{
	struct iris_element *preauth = element_child(iq, "preauth", NS_PREAUTH);
	void **slot = stream_slot(stream, &invited_self);
	struct invited *invited = *slot;

	if (!preauth || !str_is(element_get(iq, "type"), "set"))
		return false;
	if (!invited)
		*slot = invited = iris_calloc(1, sizeof(*invited));
	if (invited->failures < TRIES_MAX &&
	    invited_show(stream, invited, element_get(preauth, "token")))
		return true;
	invited->failures++;
	*refusal_r = (struct iris_refusal){ .condition = IRIS_ITEM_NOT_FOUND,
					    .text = "The provided token is invalid or expired" };
	return true;
}

/* --- registering --- */

struct invited_job { /* at the inviter's home */
	struct invited *invited;
	struct iris_jid inviter;
	const struct iris_jid *guest;
	bool done;
};

static void
invited_claim_at_home(void *arg)
{
	struct invited_job *job = arg;
	struct iris_user *user = user_get(&job->inviter);
	struct invite *invite = user ? invite_find(user, job->invited->token) : NULL;

	if (invite && !invite->claimed) {
		invite->claimed = true;
		job->invited->claimed = user;
		job->done = true;
	} else if (user) {
		user_release(&user);
	}
}

static bool
invited_call(struct invited *invited, const struct iris_jid *guest, void (*fn)(void *arg))
{
	struct invited_job job = { .invited = invited, .guest = guest };

	job.inviter = jid_from_prepared(str_from(invited->inviter));
	home_call(jid_bare(&job.inviter), "xep0445: invitation", fn, &job);
	return job.done;
}

static enum iris_condition
invited_claim(struct iris_stream *stream, const struct iris_jid *jid, const char **text_r)
{
	struct invited *invited = invited_of(stream);
	bool admitted = invited && invited->admitted;

	if (admitted && invited->name && strchr(invited->name, '@') &&
	    !str_is(jid_bare(jid), invited->name)) {
		*text_r = "The invitation is for another name";
		return IRIS_NOT_ACCEPTABLE;
	}
	if (invite_is_reserved(jid, admitted ? invited->token : NULL)) {
		*text_r = "The name is reserved";
		return IRIS_CONFLICT;
	}
	if (admitted && !invited_call(invited, jid, invited_claim_at_home)) {
		*text_r = "The invitation was used, or taken back";
		return IRIS_NOT_ALLOWED;
	}
	return IRIS_NO_ERROR;
}

/* A token that the vault does not drop now stays claimed: it is no good any more. */
static void
invited_settle_at_home(void *arg)
{
	struct invited_job *job = arg;
	struct iris_user *user = job->invited->claimed;
	struct invite *invite = invite_find(user, job->invited->token);

	job->invited->claimed = NULL;
	if (invite && !job->guest)
		invite->claimed = false;
	else if (invite && !invite_use(user, &invite))
		LOG(IRIS_LOG_WARNING, "xep0445", "invitation-not-dropped",
		    LOG_JID("inviter", jid_bare(&user->jid)));
	user_release(&user);
}

struct invited_subscription {
	struct iris_jid user, contact;
	enum iris_stanza_type type;
};

static void
invited_subscribe_at_home(void *arg)
{
	struct invited_subscription *job = arg;
	struct iris_user *user = user_get(&job->user);

	if (!user)
		return;
	if (user_subscribe(user, &job->contact, job->type, NULL) != IRIS_NO_ERROR)
		LOG(IRIS_LOG_INFO, "xep0445", "not-subscribed",
		    LOG_JID("user", jid_bare(&user->jid)));
	user_release(&user);
}

/* XEP-0401 §4.2: both approve before, then both ask; so each request is granted at once. */
static void
invited_subscribe(const struct iris_jid *inviter, const struct iris_jid *guest)
{
	const struct invited_subscription steps[] = {
		{ *inviter, *guest, IRIS_SUBSCRIBED },
		{ *guest, *inviter, IRIS_SUBSCRIBED },
		{ *guest, *inviter, IRIS_SUBSCRIBE },
		{ *inviter, *guest, IRIS_SUBSCRIBE },
	};

	for (size_t i = 0; i < IRIS_COUNT(steps); i++) {
		struct invited_subscription step = steps[i];

		home_call(jid_bare(&step.user), "xep0445: subscription", invited_subscribe_at_home,
			  &step);
	}
}

static void
invited_settle(struct iris_stream *stream, const struct iris_jid *jid, bool registered)
{
	struct invited *invited = invited_of(stream);
	struct iris_jid inviter;

	if (!invited || !invited->claimed)
		return;
	(void)invited_call(invited, registered ? jid : NULL, invited_settle_at_home);
	if (!registered)
		return;
	metric_add(&invited_metrics[0], 1);
	inviter = jid_from_prepared(str_from(invited->inviter));
	if (invited->rights & INVITE_ROSTER)
		invited_subscribe(&inviter, jid);
	invited_clear(invited);
}

static const struct register_admission invited_admission = {
	.features = invited_features,
	.handle_iq = invited_handle_iq,
	.admits = invited_admits,
	.claim = invited_claim,
	.settle = invited_settle,
};

static bool
invited_start(struct iris_error *error)
{
	register_set_admission(&invited_admission);
	return true;
}

static void
invited_stop(void)
{
	register_set_admission(NULL);
}

static const struct iris_hook_handler invited_hooks[] = {
	HOOK(stream_close, IRIS_NEUTRAL, invited_stream_close),
	HOOKS_END,
};

const struct iris_module iris_module_xep0445 = {
	IRIS_MODULE_HEAD,
	.name = "xep0445",
	.summary = "Pre-Authenticated In-Band Registration",
	.xep = "XEP-0445 0.2.0",
	.needs = IRIS_NAMES("xep0077", "xep0401"),
	.self = &invited_self,
	.hooks = invited_hooks,
	.metrics = invited_metrics,
	.off_by_default = true,
	.not_unloadable = true,
	.start = invited_start,
	.stop = invited_stop,
};
