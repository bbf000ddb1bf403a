/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: who is about to keep a name, until when, and who goes first.  A pure table: who owns it,
 * calls it; it knows no clock and asks nobody.
 *
 * SECURITY: bounded, and what other regions reserve cannot push out what is ours: a full table
 * takes nothing new.
 */
#include <stdlib.h>
#include <sys/queue.h>

#include "modules/unique/unique_private.h"

TAILQ_HEAD(claim_queue, claim);

struct claim {
	struct iris_hash_node node; /* by hash */
	TAILQ_ENTRY(claim) link;
	int64_t stamp_ms, until_ms;
	int64_t id;      /* of ours; 0: another region's */
	bool held;       /* ours, being kept: in no queue */
	char hash[UNIQUE_HASH];
	size_t region_len;
	char region[];
};

/*
 * Each queue has ends of one length (but for a reload), so its head ends first: nobody has to look
 * at all.
 */
struct claims {
	struct iris_hash names;
	struct claim_queue ours, theirs;
	size_t most;
};

struct claims *
claims_new(size_t most)
{
	struct claims *claims = iris_calloc(1, sizeof(*claims));

	claims->most = most;
	TAILQ_INIT(&claims->ours);
	TAILQ_INIT(&claims->theirs);
	return claims;
}

static struct claim_queue *
queue_of(struct claims *claims, const struct claim *claim)
{
	return claim->id ? &claims->ours : &claims->theirs;
}

static void
claim_drop(struct claims *claims, struct claim *claim)
{
	if (!claim->held)
		TAILQ_REMOVE(queue_of(claims, claim), claim, link);
	hash_remove(&claims->names, &claim->node);
	free(claim);
}

void
claims_free(struct claims **claims_p)
{
	struct claims *claims = *claims_p;

	*claims_p = NULL;
	if (!claims)
		return;
	HASH_FOREACH(node, &claims->names)
		claim_drop(claims, IRIS_CONTAINER(node, struct claim, node));
	hash_free(&claims->names);
	free(claims);
}

static void
queue_expire(struct claims *claims, struct claim_queue *queue, int64_t now_ms)
{
	struct claim *claim;

	while ((claim = TAILQ_FIRST(queue)) != NULL && claim->until_ms <= now_ms)
		claim_drop(claims, claim);
}

static struct claim *
claim_find(const struct claims *claims, struct iris_str hash)
{
	struct iris_hash_node *node = hash_find(&claims->names, hash);

	return node ? IRIS_CONTAINER(node, struct claim, node) : NULL;
}

static struct iris_str
claim_region(const struct claim *claim, struct iris_str own)
{
	return claim->id ? own : (struct iris_str){ claim->region, claim->region_len };
}

static int
str_order(struct iris_str a, struct iris_str b)
{
	int order = memcmp(a.base, b.base, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

/*
 * May the request have what this claim has? Our own never displaces: who was here first is first
 * here. Another region's displaces what is younger, and its own, which it asks for once more.
 */
static bool
claim_gives_way(const struct claim *claim, const struct claim_request *request,
		struct iris_str own)
{
	struct iris_str region = claim_region(claim, own);

	if (claim->until_ms <= request->now_ms && !claim->held)
		return true;
	if (claim->held || request->id)
		return false;
	if (str_equal(region, request->region))
		return true;
	if (claim->stamp_ms != request->stamp_ms)
		return request->stamp_ms < claim->stamp_ms;
	return str_order(request->region, region) < 0;
}

enum claim_verdict
claims_make(struct claims *claims, const struct claim_request *request, struct iris_str own)
{
	struct claim *claim = claim_find(claims, request->hash);

	IRIS_ASSERT(request->hash.len == UNIQUE_HASH);
	if (claim && !claim_gives_way(claim, request, own))
		return CLAIM_REFUSED;
	if (claim)
		claim_drop(claims, claim);
	queue_expire(claims, &claims->ours, request->now_ms);
	queue_expire(claims, &claims->theirs, request->now_ms);
	if (claims->names.count >= claims->most)
		return CLAIM_NO_ROOM;
	claim = iris_calloc(1, sizeof(*claim) + request->region.len);
	claim->stamp_ms = request->stamp_ms;
	claim->until_ms = request->until_ms;
	claim->id = request->id;
	claim->region_len = request->region.len;
	memcpy(claim->region, request->region.base, request->region.len);
	memcpy(claim->hash, request->hash.base, UNIQUE_HASH);
	TAILQ_INSERT_TAIL(queue_of(claims, claim), claim, link);
	hash_insert(&claims->names, &claim->node, (struct iris_str){ claim->hash, UNIQUE_HASH });
	return CLAIM_MADE;
}

bool
claims_hold(struct claims *claims, struct iris_str hash, int64_t id, int64_t now_ms)
{
	struct claim *claim = claim_find(claims, hash);

	if (!claim || claim->id != id || claim->until_ms <= now_ms)
		return false;
	IRIS_ASSERT(!claim->held);
	TAILQ_REMOVE(&claims->ours, claim, link);
	claim->held = true;
	return true;
}

void
claims_drop_own(struct claims *claims, struct iris_str hash, int64_t id)
{
	struct claim *claim = claim_find(claims, hash);

	if (claim && claim->id == id)
		claim_drop(claims, claim);
}

void
claims_drop_theirs(struct claims *claims, struct iris_str hash, struct iris_str region,
		   int64_t stamp_ms)
{
	struct claim *claim = claim_find(claims, hash);

	if (claim && !claim->id && claim->stamp_ms <= stamp_ms &&
	    str_equal((struct iris_str){ claim->region, claim->region_len }, region))
		claim_drop(claims, claim);
}

size_t
claims_count(const struct claims *claims)
{
	return claims->names.count;
}
