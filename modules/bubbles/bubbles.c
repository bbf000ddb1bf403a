/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bubbles (P6): rooms with an organizer.  The descriptor, and the end of an account that has some
 * (P10.2); the rest is in the files that README.md names.
 */
#include "modules/bubbles/acts_private.h"

#define PAGE 100 /* of an account's bubbles */

struct iris_module_self bubbles_self;

static struct iris_metric bubbles_metrics[] = {
	[METRIC_NOTICES_DONE] = { "iris_bubbles_notices_total", "end=\"done\"", IRIS_COUNTER,
				  "What members of bubbles were owed, by what came of it" },
	[METRIC_NOTICES_PUT_OFF] = { "iris_bubbles_notices_total", "end=\"put-off\"", IRIS_COUNTER,
				     "What members of bubbles were owed, by what came of it" },
	[METRIC_NOTICES_GIVEN_UP] = { "iris_bubbles_notices_total", "end=\"given-up\"",
				      IRIS_COUNTER,
				      "What members of bubbles were owed, by what came of it" },
	{ .name = NULL },
};

void
bubbles_count(enum bubbles_metric metric)
{
	metric_add(&bubbles_metrics[metric], 1);
}

/* --- an account ends --- */

static bool
orphan_all(const struct room_found *found, size_t count)
{
	bool done = true;

	for (size_t i = 0; i < count; i++) {
		struct bubble_orphaning orphaning = { .bubble = found[i].jid };

		if (found[i].affiliation != ROOM_OWNER)
			continue;
		home_call(jid_bare(&orphaning.bubble), "bubbles: orphan", act_orphan, &orphaning);
		done = done && orphaning.done;
	}
	return done;
}

/*
 * Before the engine takes its affiliations away (P10.2): what it was the organizer of is archived,
 * so that no bubble is ever open without one.
 */
static enum iris_verdict
bubbles_account_removed(struct iris_account_removed *removed)
{
	struct iris_jid after = IRIS_JID_NONE;
	struct room_found *found;
	size_t count = PAGE;
	bool done = true;

	for (struct iris_arena *arena = arena_new(), *next; arena; arena = next) {
		next = NULL;
		done = done &&
		       rooms_of(&removed->jid, &after, PAGE, arena, &found, &count) &&
		       orphan_all(found, count);
		if (done && count == PAGE) {
			next = arena_new();
			after = jid_copy(next, &found[count - 1].jid);
		}
		arena_unref(&arena);
	}
	if (done)
		done = vault_post(&notice_query_forget, removed->account.owner,
				  VALUES(value_int(vault_peer_id(jid_bare(&removed->jid)))),
				  NULL) == IRIS_VAULT_OK;
	return done ? IRIS_PASS : IRIS_REFUSE;
}

static bool
bubbles_start(struct iris_error *error)
{
	rooms_policy_set(&bubbles_policy);
	notices_start();
	return true;
}

static void
bubbles_stop(void)
{
	notices_stop();
	rooms_policy_set(NULL);
}

static const struct iris_hook_handler bubbles_hooks[] = {
	HOOK(account_removed, IRIS_EARLY, bubbles_account_removed),
	HOOKS_END,
};

static const struct iris_option bubbles_options[] = {
	[OPT_MAX_MEMBERS] = { "max-members", IRIS_OPT_INT, "5000", .min = 2, .max = 100000,
			      .reloadable = true,
			      .help = "How many members a bubble may have, with its organizer." },
	[OPT_PER_ACCOUNT] = { "per-account", IRIS_OPT_INT, "100", .min = 0, .max = 100000,
			      .reloadable = true,
			      .help = "How many bubbles an account may be the organizer of when "
				      "it creates one; it may be given more." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_bubbles = {
	IRIS_MODULE_HEAD,
	.name = "bubbles",
	.summary = "Bubbles: rooms with an organizer",
	.needs = IRIS_NAMES("rooms", "xep0004", "xep0050", "xep0402"),
	.self = &bubbles_self,
	.options = bubbles_options,
	.queries = (struct iris_query *const[]){ &notice_query_put, &notice_query_due,
						 &notice_query_rooms, &notice_query_open,
						 &notice_query_done, &notice_query_put_off,
						 &notice_query_force, &notice_query_wake,
						 &notice_query_deleted, &notice_query_forget,
						 NULL },
	.hooks = bubbles_hooks,
	.commands = bubbles_commands,
	.metrics = bubbles_metrics,
	.not_unloadable = true, /* bubbles would be without rules */
	.start = bubbles_start,
	.stop = bubbles_stop,
};
