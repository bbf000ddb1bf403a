/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of this folder. */
#ifndef UNIQUE_PRIVATE_H
#define UNIQUE_PRIVATE_H

#include "iris/hash.h"
#include "iris/module.h"
#include "modules/unique/unique.h"

#define NS_UNIQUE "urn:iris:unique:0"

enum { OPT_RESERVATION, OPT_PROMISE, OPT_TIMEOUT, OPT_RATE };

extern struct iris_module_self unique_self;
extern struct iris_metric unique_metrics[];
enum {
	METRIC_ASKED_FREE, METRIC_ASKED_TAKEN, METRIC_ASKED_SILENT,
	METRIC_ANSWERED, METRIC_LIMITED, METRIC_STRANGER,
};

/* --- claims.c: pure, one table for each worker --- */

#define CLAIMS_MAX 65536 /* of one worker: 12 MiB when full */
#define CLAIM_OURS IRIS_STR("") /* the region of our own claims */

struct claims;

struct claim_request {
	struct iris_str hash;
	struct iris_str region; /* CLAIM_OURS, or who asks */
	int64_t stamp_ms;
	int64_t id;             /* of one of ours */
	int64_t now_ms, until_ms; /* monotonic */
};

enum claim_verdict {
	CLAIM_MADE,
	CLAIM_REFUSED, /* somebody goes first */
	CLAIM_NO_ROOM,
};

struct claims *claims_new(size_t most);
void claims_free(struct claims **claims_p);
/* own: the id of our region, which decides between equal stamps. */
enum claim_verdict claims_make(struct claims *claims, const struct claim_request *request,
			       struct iris_str own);
/* Ours, still? Then nobody displaces it, and it does not end, before it is dropped. */
bool claims_hold(struct claims *claims, struct iris_str hash, int64_t id, int64_t now_ms);
void claims_drop_own(struct claims *claims, struct iris_str hash, int64_t id);
/* What another region has reserved, if it is not newer than this. */
void claims_drop_theirs(struct claims *claims, struct iris_str hash, struct iris_str region,
			int64_t stamp_ms);
size_t claims_count(const struct claims *claims);

/* This worker's. */
struct claims *unique_claims(void);

/* --- unique.c --- */

/* Fiber, at home_of(hash). */
enum unique_found unique_look_up(const struct unique_name *name);

/* --- ask.c (fiber) --- */

enum ask_result { ASK_FREE, ASK_TAKEN, ASK_SILENT };

/* silent_r: a region that did not answer, or not to what was asked; in the federation's arena. */
enum ask_result unique_ask(const struct iris_region_federation *federation,
			   const struct unique_claim *claim, struct iris_str *silent_r);
/* They need not hold it for us any more; nobody waits for whether they hear it. */
void unique_ask_release(const struct iris_region_federation *federation,
			const struct unique_claim *claim);

/* --- answer.c --- */

extern const struct iris_iq unique_iq[];

#endif
