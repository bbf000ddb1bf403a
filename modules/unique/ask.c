/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks all other federated regions at once whether one of them has a name (P2.6).  On a fiber,
 * which waits for the last answer, or for the time-out.  A region that cannot be asked is not
 * taken for one that has nothing.
 */
#include "iris/route.h"
#include "modules/unique/unique_private.h"

struct ask { /* on the stack of the fiber that waits */
	const struct iris_region_federation *federation;
	size_t open; /* questions without an answer; one more until all are sent */
	bool taken;
	struct iris_str silent; /* the first region without a usable answer */
	struct iris_wait wait;
};

struct ask_one {
	struct ask *ask;
	const struct iris_region_peer *peer;
};

static struct iris_stanza *
ask_stanza(const struct iris_region_federation *federation, const struct iris_region_peer *peer,
	   const struct unique_claim *claim, bool release)
{
	struct iris_stanza *iq = stanza_new(IRIS_IQ, release ? IRIS_SET : IRIS_GET);
	struct iris_element *payload;
	struct iris_jid from, to;

	if (!jid_parse(iq->arena, federation->domain, &from) ||
	    !jid_parse(iq->arena, peer->domain, &to)) {
		stanza_unref(&iq); /* the map has what is no domain */
		return NULL;
	}
	stanza_set_from(iq, &from);
	stanza_set_to(iq, &to);
	payload = element_add(iq->root, release ? "release" : "taken", NS_UNIQUE);
	element_set(payload, "key", str_from(claim->name.key));
	element_set(payload, "hash", str_from(claim->name.hash));
	element_set_int(payload, "stamp", claim->stamp_ms);
	return iq;
}

static void
ask_end_one(struct ask *ask)
{
	if (--ask->open == 0)
		wait_done(&ask->wait);
}

static void
ask_answered(const struct iris_stanza *reply, void *arg)
{
	struct ask_one *one = arg;
	struct iris_element *taken =
		reply && reply->type == IRIS_RESULT ?
			element_child(reply->root, "taken", NS_UNIQUE) :
			NULL;
	struct iris_str is = taken ? element_get(taken, "is") : IRIS_STR_NONE;

	if (str_is(is, "no")) {
		metric_add(&unique_metrics[METRIC_ASKED_FREE], 1);
	} else if (str_is(is, "yes") || str_is(is, "reserved")) {
		metric_add(&unique_metrics[METRIC_ASKED_TAKEN], 1);
		one->ask->taken = true;
	} else {
		metric_add(&unique_metrics[METRIC_ASKED_SILENT], 1);
		if (str_is_none(one->ask->silent))
			one->ask->silent = one->peer->id;
	}
	ask_end_one(one->ask);
}

static void
ask_send(struct ask_one *one, const struct unique_claim *claim)
{
	struct iris_stanza *iq = ask_stanza(one->ask->federation, one->peer, claim, false);

	if (iq)
		route_iq(&iq, (unsigned)option_int(&unique_self, OPT_TIMEOUT), ask_answered, one);
	else
		ask_answered(NULL, one);
}

enum ask_result
unique_ask(const struct iris_region_federation *federation, const struct unique_claim *claim,
	   struct iris_str *silent_r)
{
	struct ask ask = { .federation = federation, .open = federation->count + 1 };
	struct ask_one ones[REGION_PEERS_MAX];

	IRIS_ASSERT(federation->count <= REGION_PEERS_MAX);
	wait_init(&ask.wait);
	for (size_t i = 0; i < federation->count; i++) {
		ones[i] = (struct ask_one){ &ask, &federation->peers[i] };
		ask_send(&ones[i], claim);
	}
	ask_end_one(&ask);
	wait_for(&ask.wait, "unique: other regions");
	*silent_r = ask.silent;
	if (ask.taken)
		return ASK_TAKEN;
	return str_is_none(ask.silent) ? ASK_FREE : ASK_SILENT;
}

static void
release_answered(const struct iris_stanza *reply, void *arg)
{
}

void
unique_ask_release(const struct iris_region_federation *federation,
		   const struct unique_claim *claim)
{
	for (size_t i = 0; i < federation->count; i++) {
		struct iris_stanza *iq =
			ask_stanza(federation, &federation->peers[i], claim, true);

		if (iq)
			route_iq(&iq, (unsigned)option_int(&unique_self, OPT_TIMEOUT),
				 release_answered, NULL);
	}
}
