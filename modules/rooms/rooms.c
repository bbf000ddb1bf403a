/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0045 1.35: Multi-User Chat.  The descriptor, the services of each host, the policy.  See
 * README.md.
 */
#include "modules/rooms/rooms_private.h"
#include "xep/xep0054_vcard.h"
#include "xep/xep0077_register.h"
#include "xep/xep0313_mam.h"

struct iris_module_self rooms_self;

static const struct room_policy *_Atomic rooms_policy;

struct iris_metric rooms_metrics[] = {
	[METRIC_ROOMS] = { .name = "iris_rooms", .kind = IRIS_GAUGE, .help = "Rooms in memory" },
	[METRIC_LOADS] = { .name = "iris_room_loads_total", .kind = IRIS_COUNTER,
			   .help = "Rooms looked for in the vault" },
	[METRIC_FAILURES] = { .name = "iris_room_load_failures_total", .kind = IRIS_COUNTER,
			      .help = "Looks that failed: the vault was not there, or too many "
				      "rooms were" },
	[METRIC_OCCUPANTS] = { .name = "iris_room_occupants", .kind = IRIS_GAUGE,
			       .help = "Sessions in rooms" },
	[METRIC_MESSAGES] = { .name = "iris_room_messages_total", .kind = IRIS_COUNTER,
			      .help = "Messages to all" },
	[METRIC_DELIVERIES] = { .name = "iris_room_deliveries_total", .kind = IRIS_COUNTER,
				.help = "Stanzas sent to occupants" },
	[METRIC_ENTERED] = { .name = "iris_room_entered_total", .kind = IRIS_COUNTER,
			     .help = "Sessions that entered" },
	[METRIC_REFUSED] = { .name = "iris_room_refused_total", .kind = IRIS_COUNTER,
			     .help = "Sessions that were not let in" },
	[METRIC_GHOSTS] = { .name = "iris_room_ghosts_total", .kind = IRIS_COUNTER,
			    .help = "Sessions put out since nobody was there any more" },
	{ .name = NULL },
};

void
rooms_count(enum rooms_metric metric, int64_t amount)
{
	metric_add(&rooms_metrics[metric], amount);
}

/* --- policy --- */

void
rooms_policy_set(const struct room_policy *policy)
{
	atomic_store(&rooms_policy, policy);
}

bool
rooms_service_has_policy(const struct iris_service *service)
{
	return service->arg != NULL && atomic_load(&rooms_policy) != NULL;
}

bool
room_has_policy(const struct room *room)
{
	return rooms_service_has_policy(room->service);
}

const struct room_policy *
room_policy(const struct room *room)
{
	return room->service->arg ? atomic_load(&rooms_policy) : NULL;
}

/* --- services --- */

static bool
open_services(struct iris_error *error)
{
	static char with_policy; /* its address is the mark */
	struct iris_str label = option_str(&rooms_self, OPT_LABEL),
			plain = option_str(&rooms_self, OPT_PLAIN_LABEL);

	if (!service_open_all(&rooms_kind, label, &with_policy, error))
		return false;
	if (str_is_empty(plain) || service_open_all(&rooms_kind, plain, NULL, error))
		return true;
	return error_hint(error, "choose another plain-label");
}

struct found_service {
	struct iris_service *service;
};

static void
find_service(struct iris_service *service, void *arg)
{
	struct found_service *found = arg;

	if (service->kind == &rooms_kind && service->arg)
		found->service = service;
}

struct iris_service *
rooms_service(const struct iris_host *host)
{
	struct found_service found = { NULL };

	service_each(host, find_service, &found);
	return found.service;
}

static bool
rooms_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_str label = settings_str(settings, OPT_LABEL),
			plain = settings_str(settings, OPT_PLAIN_LABEL);

	if (!service_check_label(label, error) ||
	    (!str_is_empty(plain) && !service_check_label(plain, error)))
		return false;
	if (!str_equal(label, plain))
		return true;
	error_set(error, "label and plain-label are the same");
	return error_hint(error, "rooms with and without a policy need a domain each");
}

static bool
rooms_start(struct iris_error *error)
{
	places_open(&rooms_places);
	erasures_start();
	return open_services(error);
}

/* Of new hosts; the domains of those that were there stay what they are. */
static void
rooms_reload(void)
{
	struct iris_error error = { .message = "" };

	if (!open_services(&error))
		LOG(IRIS_LOG_ERROR, "rooms", "service not opened",
		    LOG_CSTR("reason", error.message), LOG_CSTR("hint", error.hint));
}

static void
rooms_stop(void)
{
	erasures_stop();
	places_close(&rooms_places);
}

static const struct iris_iq rooms_iq[] = {
	{ IRIS_TO_PLACE, IRIS_GET, "query", NS_MUC_ADMIN, IRIS_ANYONE, admin_get },
	{ IRIS_TO_PLACE, IRIS_SET, "query", NS_MUC_ADMIN, IRIS_ANYONE, admin_set },
	{ IRIS_TO_PLACE, IRIS_GET, "query", NS_MUC_OWNER, IRIS_ANYONE, owner_get },
	{ IRIS_TO_PLACE, IRIS_SET, "query", NS_MUC_OWNER, IRIS_ANYONE, owner_set },
	{ IRIS_TO_PLACE, IRIS_GET, "query", NS_REGISTER, IRIS_ANYONE, register_get },
	{ IRIS_TO_PLACE, IRIS_SET, "query", NS_REGISTER, IRIS_ANYONE, register_set },
	{ IRIS_TO_PLACE, IRIS_SET, "query", NS_MAM, IRIS_ANYONE, room_archive_query },
	{ IRIS_TO_PLACE, IRIS_GET, "query", NS_MAM, IRIS_ANYONE, room_archive_form },
	{ IRIS_TO_PLACE, IRIS_GET, "metadata", NS_MAM, IRIS_ANYONE, room_archive_metadata },
	{ IRIS_TO_PLACE, IRIS_GET, "vCard", NS_VCARD, IRIS_ANYONE, room_vcard_get },
	{ IRIS_TO_PLACE, IRIS_SET, "vCard", NS_VCARD, IRIS_ANYONE, room_vcard_set },
	{ IRIS_TO_SERVICE, IRIS_GET, "unique", NS_MUC_UNIQUE, IRIS_ANYONE, unique_get },
	{ IRIS_TO_SERVICE, IRIS_GET, "search", "urn:xmpp:channel-search:0:search", IRIS_ANYONE,
	  search_get },
	{ IRIS_TO_SERVICE, IRIS_GET, "query", "jabber:iq:search", IRIS_ANYONE, search_get },
	{ IRIS_TO_SERVICE, IRIS_SET, "query", "jabber:iq:search", IRIS_ANYONE, search_set },
	{ .name = NULL },
};

static const struct iris_hook_handler rooms_hooks[] = {
	HOOK(disco_info, IRIS_NEUTRAL, rooms_disco_info),
	HOOK(disco_items, IRIS_NEUTRAL, rooms_disco_items),
	/* behind a policy's, which wants to see what the account had */
	HOOK(account_removed, IRIS_LATE, rooms_account_removed),
	HOOKS_END,
};

static const char *const create_choices[] = { "accounts", "admins", "nobody", "anyone", NULL };

static const struct iris_option rooms_options[] = {
	[OPT_LABEL] = { "label", IRIS_OPT_STRING, "rooms", .min = 1, .max = 63,
			.help = "Rooms of a host are at this label before its domain." },
	[OPT_PLAIN_LABEL] = { "plain-label", IRIS_OPT_STRING, "", .max = 63,
			      .help = "Rooms that are only what XEP-0045 says are at this label "
				      "before the domain of a host; empty: there are none." },
	[OPT_KEEP] = { "keep", IRIS_OPT_DURATION, "60 seconds", .max = 86400000,
		       .reloadable = true,
		       .help = "How long a room stays in memory after the last one has left." },
	[OPT_MAX_ROOMS] = { "max-rooms", IRIS_OPT_INT, "50000", .min = 16, .max = 10000000,
			    .reloadable = true, .help = "Rooms in memory, for each worker." },
	[OPT_INBOX] = { "inbox", IRIS_OPT_INT, "256", .min = 1, .max = 65536, .reloadable = true,
			.help = "Stanzas that wait while a room is read, for each room." },
	[OPT_PER_ACCOUNT] = { "rooms-per-account", IRIS_OPT_INT, "100", .max = 1000000,
			      .reloadable = true, .help = "How many rooms an account may own." },
	[OPT_MAX_OCCUPANTS] = { "max-occupants", IRIS_OPT_INT, "5000", .min = 2, .max = 100000,
				.reloadable = true,
				.help = "How many sessions may be in a room, whatever its "
					"configuration says." },
	[OPT_MAX_AFFILIATES] = { "max-affiliates", IRIS_OPT_INT, "10000", .min = 2,
				 .max = 1000000, .reloadable = true,
				 .help = "How many members and outcasts a room may have." },
	[OPT_HISTORY] = { "history", IRIS_OPT_INT, "50", .max = 1000, .reloadable = true,
			  .help = "How many messages who enters is sent at most, whatever the "
				  "configuration of the room says." },
	[OPT_PRESENCE_MAX] = { "presence-max", IRIS_OPT_INT, "500", .max = 100000,
			       .reloadable = true,
			       .help = "In a room of more occupants only moderators are shown to "
				       "others." },
	[OPT_PING_AFTER] = { "ping-after", IRIS_OPT_DURATION, "10 minutes", .min = 1000,
			     .max = 86400000, .reloadable = true,
			     .help = "Occupants of other servers that were silent this long are "
				     "asked whether they are still there." },
	[OPT_CREATE] = { "create", IRIS_OPT_CHOICE, "accounts", .choices = create_choices,
			 .reloadable = true,
			 .help = "Who may create rooms: accounts of this server, administrators "
				 "among them, nobody, or anyone who can reach it." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_rooms = {
	IRIS_MODULE_HEAD,
	.name = "rooms",
	.summary = "Multi-User Chat",
	.xep = "XEP-0045 1.35.5, XEP-0055 1.3, XEP-0307 0.1, XEP-0410 1.1.0, XEP-0421 1.0.1, "
	       "XEP-0433 0.1.0, XEP-0463 0.2.0, XEP-0486 0.1.0, XEP-0502 0.1.0",
	.needs = IRIS_NAMES("accounts", "archive", "xep0004", "xep0030", "xep0054", "xep0059",
			    "xep0203", "xep0313", "xep0357"),
	.self = &rooms_self,
	.options = rooms_options,
	.queries = rooms_queries,
	.hooks = rooms_hooks,
	.metrics = rooms_metrics,
	.not_unloadable = true,
	.check = rooms_check,
	.start = rooms_start,
	.reload = rooms_reload,
	.stop = rooms_stop,
};

const struct iris_service_kind rooms_kind = {
	.module = &iris_module_rooms,
	.places = &rooms_places,
	.iq = rooms_iq,
};
