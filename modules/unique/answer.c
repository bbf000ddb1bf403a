/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The questions of other federated regions (P2.6).  On a fiber of the worker where they arrive;
 * the claim is made at home_of(hash).  Nothing is written: a question may be in transit only.
 */
#include <pthread.h>

#include "modules/unique/unique_private.h"

#define HASH_BYTES 32
#define BURST 20 /* questions that a region may save up, beside a second's worth */

struct question {
	struct unique_name name;
	struct iris_region_peer peer;
	struct iris_region_federation federation;
	int64_t stamp_ms;
	enum claim_verdict verdict;
	enum unique_found found;
};

/* By the region's index in the map; after another map, for a second, another's. */
static pthread_mutex_t rate_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	int64_t thousandths; /* of questions */
	int64_t at_ms;
} rates[REGION_PEERS_MAX];

/* SECURITY: a region that asks for all addresses it can think of learns few of them. */
static bool
rate_allows(unsigned region)
{
	int64_t rate = option_int(&unique_self, OPT_RATE), most = (rate + BURST) * 1000;
	int64_t now = worker_now_ms();
	bool allows;

	pthread_mutex_lock(&rate_lock);
	if (rates[region].at_ms == 0)
		rates[region].thousandths = most;
	else if (now > rates[region].at_ms)
		rates[region].thousandths += (now - rates[region].at_ms) * rate;
	rates[region].at_ms = now;
	if (rates[region].thousandths > most)
		rates[region].thousandths = most;
	allows = rates[region].thousandths >= 1000;
	if (allows)
		rates[region].thousandths -= 1000;
	pthread_mutex_unlock(&rate_lock);
	return allows;
}

static enum iris_verdict
refuse(struct iris_request *request, enum iris_condition condition)
{
	request->refusal.condition = condition;
	return IRIS_REFUSE;
}

static bool
question_parse(struct iris_request *request, struct question *question)
{
	struct iris_str hash = element_get(request->payload, "hash"), bytes;

	return str_copy_to(question->name.key, sizeof(question->name.key),
			   element_get(request->payload, "key")) &&
	       str_copy_to(question->name.hash, sizeof(question->name.hash), hash) &&
	       base64_decode(request->arena, hash, &bytes) && bytes.len == HASH_BYTES &&
	       str_to_int(element_get(request->payload, "stamp"), 1, INT64_MAX,
			  &question->stamp_ms);
}

/*
 * SECURITY: who is not the server of a federated region gets what a namespace gives that nobody
 * knows (P5.7): users of ours and theirs, their rooms, everybody outside.
 */
static enum iris_condition
question_judge(struct iris_request *request, struct question *question)
{
	char key[REGION_SECRET_ID + 1];
	const char *text;

	if (!request->stanza->from_afar || request->stanza->from.node_len > 0 ||
	    !jid_is_bare(&request->stanza->from) ||
	    !region_peer_find(request->arena, jid_domain(&request->stanza->from),
			      &question->peer) ||
	    !region_federation(request->arena, &question->federation) ||
	    !str_equal(jid_bare(&request->stanza->to), question->federation.domain)) {
		metric_add(&unique_metrics[METRIC_STRANGER], 1);
		return IRIS_SERVICE_UNAVAILABLE;
	}
	if (!rate_allows(question->peer.index)) {
		metric_add(&unique_metrics[METRIC_LIMITED], 1);
		return IRIS_RESOURCE_CONSTRAINT;
	}
	if (!question_parse(request, question))
		return IRIS_BAD_REQUEST;
	/* Of another secret: whatever was said would be wrong. */
	if (unique_key_id(key, &text) != IRIS_NO_ERROR || strcmp(key, question->name.key) != 0)
		return IRIS_NOT_ACCEPTABLE;
	return IRIS_NO_ERROR;
}

/* First the claim, then the look: what is being kept meanwhile is in one of them. */
static void
answer_at_home(void *arg)
{
	struct question *question = arg;
	const struct claim_request claim = {
		.hash = str_from(question->name.hash),
		.region = question->peer.id,
		.stamp_ms = question->stamp_ms,
		.now_ms = worker_now_ms(),
		.until_ms = worker_now_ms() + option_int(&unique_self, OPT_PROMISE),
	};

	question->verdict = claims_make(unique_claims(), &claim, question->federation.id);
	if (question->verdict != CLAIM_MADE)
		return;
	question->found = unique_look_up(&question->name);
	if (question->found != UNIQUE_NOT_FOUND)
		claims_drop_theirs(unique_claims(), claim.hash, claim.region, claim.stamp_ms);
}

static enum iris_verdict
answer_taken(struct iris_request *request)
{
	struct question question = { .found = UNIQUE_NOT_READY };
	enum iris_condition condition = question_judge(request, &question);
	const char *is = "reserved";

	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition);
	home_call(str_from(question.name.hash), "unique: answer", answer_at_home, &question);
	metric_add(&unique_metrics[METRIC_ANSWERED], 1);
	if (question.verdict == CLAIM_NO_ROOM ||
	    (question.verdict == CLAIM_MADE && question.found == UNIQUE_NOT_READY))
		return refuse(request, IRIS_RESOURCE_CONSTRAINT);
	if (question.verdict == CLAIM_MADE)
		is = question.found == UNIQUE_FOUND ? "yes" : "no";
	request->reply = element_new(request->arena, "taken", NS_UNIQUE);
	element_set(request->reply, "is", str_from(is));
	return IRIS_DONE;
}

static void
release_at_home(void *arg)
{
	struct question *question = arg;

	claims_drop_theirs(unique_claims(), str_from(question->name.hash), question->peer.id,
			   question->stamp_ms);
}

static enum iris_verdict
answer_release(struct iris_request *request)
{
	struct question question = { .stamp_ms = 0 };
	enum iris_condition condition = question_judge(request, &question);

	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition);
	home_call(str_from(question.name.hash), "unique: release", release_at_home, &question);
	return IRIS_DONE;
}

const struct iris_iq unique_iq[] = {
	{ IRIS_TO_HOST, IRIS_GET, "taken", NS_UNIQUE, IRIS_ANYONE, answer_taken },
	{ IRIS_TO_HOST, IRIS_SET, "release", NS_UNIQUE, IRIS_ANYONE, answer_release },
	{ .name = NULL },
};
