/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that one account of all federated regions has (P2.6): taking one.  On the fiber of who
 * wants it; claims are at home_of(hash).  What a name is for, and where it is kept, the registry
 * knows (modules/accounts).
 */
#include "iris/route.h"
#include "modules/unique/unique_private.h"

struct iris_module_self unique_self;

static const struct unique_registry *_Atomic unique_registry;
static _Atomic int64_t unique_last_id;
static struct claims *unique_tables[WORKER_LIMIT]; /* each is touched on its own worker only */

struct iris_metric unique_metrics[] = {
	[METRIC_ASKED_FREE] = { .name = "iris_unique_asked_total", .labels = "answer=\"free\"",
		.help = "Answers of other regions to whether they have a name" },
	[METRIC_ASKED_TAKEN] = { .name = "iris_unique_asked_total", .labels = "answer=\"taken\"",
		.help = "Answers of other regions to whether they have a name" },
	[METRIC_ASKED_SILENT] = { .name = "iris_unique_asked_total", .labels = "answer=\"none\"",
		.help = "Answers of other regions to whether they have a name" },
	[METRIC_ANSWERED] = { .name = "iris_unique_questions_total",
		.labels = "verdict=\"answered\"",
		.help = "Questions of others whether a name is taken" },
	[METRIC_LIMITED] = { .name = "iris_unique_questions_total",
		.labels = "verdict=\"limited\"",
		.help = "Questions of others whether a name is taken" },
	[METRIC_STRANGER] = { .name = "iris_unique_questions_total",
		.labels = "verdict=\"stranger\"",
		.help = "Questions of others whether a name is taken" },
	{ .name = NULL },
};

struct claims *
unique_claims(void)
{
	struct claims **claims = &unique_tables[worker_index()];

	if (!*claims)
		*claims = claims_new(CLAIMS_MAX);
	return *claims;
}

enum unique_found
unique_look_up(const struct unique_name *name)
{
	const struct unique_registry *registry = atomic_load(&unique_registry);

	return registry ? registry->find(name) : UNIQUE_NOT_READY;
}

void
unique_set_registry(const struct unique_registry *registry)
{
	atomic_store(&unique_registry, registry);
}

static void
unique_key_changed(void)
{
	const struct unique_registry *registry = atomic_load(&unique_registry);

	if (registry)
		registry->renew();
}

/* --- at home --- */

struct taking {
	struct unique_claim *claim;
	struct iris_str own; /* region */
	enum claim_verdict verdict;
	enum unique_found found;
};

/* First the claim, then the look: what is being kept meanwhile is in one of them. */
static void
claim_at_home(void *arg)
{
	struct taking *taking = arg;
	const struct claim_request request = {
		.hash = str_from(taking->claim->name.hash),
		.region = CLAIM_OURS,
		.stamp_ms = taking->claim->stamp_ms,
		.id = taking->claim->id,
		.now_ms = worker_now_ms(),
		.until_ms = worker_now_ms() + option_int(&unique_self, OPT_RESERVATION),
	};

	taking->verdict = claims_make(unique_claims(), &request, taking->own);
	if (taking->verdict != CLAIM_MADE)
		return;
	taking->found = unique_look_up(&taking->claim->name);
	if (taking->found != UNIQUE_NOT_FOUND)
		claims_drop_own(unique_claims(), request.hash, request.id);
}

static void
drop_at_home(void *arg)
{
	const struct unique_claim *claim = arg;

	claims_drop_own(unique_claims(), str_from(claim->name.hash), claim->id);
}

struct holding {
	const struct unique_claim *claim;
	bool held;
};

static void
hold_at_home(void *arg)
{
	struct holding *holding = arg;

	holding->held = claims_hold(unique_claims(), str_from(holding->claim->name.hash),
				    holding->claim->id, worker_now_ms());
}

static void
claim_drop(const struct unique_claim *claim)
{
	home_call(str_from(claim->name.hash), "unique: drop", drop_at_home,
		  (void *)(uintptr_t)claim);
}

/* --- taking --- */

static enum iris_condition
take_here(const struct iris_region_federation *federation, struct unique_claim *claim,
	  const char **text_r)
{
	struct taking taking = { .claim = claim, .own = federation->id };

	home_call(str_from(claim->name.hash), "unique: claim", claim_at_home, &taking);
	if (taking.verdict == CLAIM_NO_ROOM)
		return IRIS_RESOURCE_CONSTRAINT;
	if (taking.verdict == CLAIM_MADE && taking.found == UNIQUE_NOT_FOUND)
		return IRIS_NO_ERROR;
	if (taking.verdict == CLAIM_MADE && taking.found == UNIQUE_NOT_READY) {
		*text_r = "The addresses kept here are being renewed: try again later";
		return IRIS_RESOURCE_CONSTRAINT;
	}
	*text_r = taking.verdict == CLAIM_REFUSED ? "Somebody else is about to get the address" :
						    "Another account has the address";
	return IRIS_CONFLICT;
}

static enum iris_condition
take_elsewhere(struct iris_arena *arena, const struct iris_region_federation *federation,
	       const struct unique_claim *claim, const char **text_r)
{
	struct iris_str silent;

	if (federation->count > 0 && !host_find(federation->domain)) {
		*text_r = "The first domain that the region map has for this region is not served "
			  "here";
		return IRIS_NOT_ALLOWED;
	}
	switch (unique_ask(federation, claim, &silent)) {
	case ASK_FREE:
		return IRIS_NO_ERROR;
	case ASK_TAKEN:
		*text_r = "An account of another region has the address, or is about to get it";
		return IRIS_CONFLICT;
	case ASK_SILENT:
		break;
	}
	LOG(IRIS_LOG_WARNING, "unique", "region-silent", LOG_STR("region", silent),
	    LOG_CSTR("hint", "is it up, does the map let `service` pass both ways, and has it the "
			     "same secret?"));
	*text_r = arena_printf(arena, "The region %.*s cannot be asked now: try again later",
			       IRIS_STR_FMT(silent))
			  .base;
	return IRIS_RESOURCE_CONSTRAINT;
}

enum iris_condition
unique_take(struct iris_arena *arena, const struct unique_name *name, struct unique_claim *claim_r,
	    const char **text_r)
{
	struct iris_region_federation federation;
	char key[REGION_SECRET_ID + 1];
	enum iris_condition condition = unique_key_id(key, text_r);

	*claim_r = (struct unique_claim){ .name = *name,
					  .id = atomic_fetch_add(&unique_last_id, 1) + 1,
					  .stamp_ms = worker_wall_ms() };
	if (condition == IRIS_NO_ERROR &&
	    (strcmp(key, name->key) != 0 || !region_federation(arena, &federation))) {
		*text_r = "Another region map came into force: try again";
		condition = IRIS_RESOURCE_CONSTRAINT;
	}
	if (condition == IRIS_NO_ERROR)
		condition = take_here(&federation, claim_r, text_r);
	if (condition != IRIS_NO_ERROR)
		return condition;
	condition = take_elsewhere(arena, &federation, claim_r, text_r);
	if (condition != IRIS_NO_ERROR) {
		claim_drop(claim_r);
		unique_ask_release(&federation, claim_r);
	}
	return condition;
}

bool
unique_hold(const struct unique_claim *claim)
{
	struct holding holding = { .claim = claim };

	home_call(str_from(claim->name.hash), "unique: hold", hold_at_home, &holding);
	return holding.held;
}

void
unique_settle(const struct unique_claim *claim)
{
	struct iris_arena *arena = arena_new();
	struct iris_region_federation federation;

	claim_drop(claim);
	/* Kept or not, they need not remember it: if they ask, we know. */
	if (region_federation(arena, &federation))
		unique_ask_release(&federation, claim);
	arena_unref(&arena);
}

/* --- the descriptor --- */

static bool
unique_start(struct iris_error *error)
{
	region_listen(unique_key_changed);
	return true;
}

static void
unique_stop(void)
{
	region_listen(NULL);
	for (size_t i = 0; i < WORKER_LIMIT; i++)
		claims_free(&unique_tables[i]);
}

static const struct iris_option unique_options[] = {
	[OPT_RESERVATION] = { .name = "reservation", .type = IRIS_OPT_DURATION,
		.fallback = "10 minutes", .min = 10000, .max = 86400000, .reloadable = true,
		.help = "How long an address is reserved for who is about to get it." },
	[OPT_PROMISE] = { .name = "promise", .type = IRIS_OPT_DURATION, .fallback = "1 minute",
		.min = 1000, .max = 3600000, .reloadable = true,
		.help = "How long an address that another region asked for is kept free for it." },
	[OPT_TIMEOUT] = { .name = "timeout", .type = IRIS_OPT_DURATION, .fallback = "5 seconds",
		.min = 100, .max = 60000, .reloadable = true,
		.help = "How long the answers of other regions are waited for." },
	[OPT_RATE] = { .name = "questions-per-second", .type = IRIS_OPT_INT, .fallback = "20",
		.min = 1, .max = 1000, .reloadable = true,
		.help = "Questions of one region that are answered; what is over is told to "
			"wait." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_unique = {
	IRIS_MODULE_HEAD,
	.name = "unique",
	.summary = "Names that one account of all federated regions has (P2.6)",
	.self = &unique_self,
	.options = unique_options,
	.iq = unique_iq,
	.metrics = unique_metrics,
	.not_unloadable = true,
	.start = unique_start,
	.stop = unique_stop,
};
