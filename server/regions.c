/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region map in force, and the ledger of the gate (P2.8).  Main thread, but for the commands.
 *
 * A map becomes that of the gate when its signature is right and it is not older than the one
 * before, which the vault remembers.  Until then the gate lets nothing pass.
 */
#include <stdlib.h>

#include "config_private.h"
#include "gate_private.h"
#include "iris/module.h"
#include "iris/route.h"
#include "region_role.h"
#include "region_secret.h"
#include "vault_private.h"
#include "worker_private.h"

#define FLUSH_MS 60000

enum { OPT_MAP, OPT_KEY, OPT_ID, OPT_SECRET, OPT_OPENLY };

static struct iris_module_self regions_self;
static struct iris_timer regions_timer;
static bool regions_flushing;
static struct region_map *regions_next; /* read, and not yet in force */

static struct iris_query region_query_known = {
	.name = "region.known", .table = "region_map",
	.sql = "SELECT serial, digest FROM region_map WHERE one = $1",
	.params = { { "one", IRIS_INT } },
	.columns = { { "serial", IRIS_INT }, { "digest", IRIS_TEXT } },
};

static struct iris_query region_query_remember = {
	.name = "region.remember", .table = "region_map", .write = true,
	.sql = "INSERT INTO region_map (one, serial, digest) VALUES ($1, $2, $3) "
	       "ON CONFLICT (one) DO UPDATE SET serial = excluded.serial, digest = excluded.digest",
	.params = { { "one", IRIS_INT }, { "serial", IRIS_INT }, { "digest", IRIS_TEXT } },
};

static struct iris_query ledger_query_add = {
	.name = "ledger.add", .table = "gate_ledger", .write = true,
	.sql = "INSERT INTO gate_ledger (sender, receiver, category, verdict, amount, since) "
	       "VALUES ($1, $2, $3, $4, $5, $6) "
	       "ON CONFLICT (sender, receiver, category, verdict) "
	       "DO UPDATE SET amount = gate_ledger.amount + excluded.amount",
	.params = { { "sender", IRIS_TEXT }, { "receiver", IRIS_TEXT }, { "category", IRIS_TEXT },
		    { "verdict", IRIS_TEXT }, { "amount", IRIS_INT }, { "since", IRIS_INT } },
};

static struct iris_query ledger_query_all = {
	.name = "ledger.all", .table = "gate_ledger",
	.sql = "SELECT sender, receiver, category, verdict, amount, since FROM gate_ledger "
	       "ORDER BY sender, receiver, category, verdict",
	.columns = { { "sender", IRIS_TEXT }, { "receiver", IRIS_TEXT }, { "category", IRIS_TEXT },
		     { "verdict", IRIS_TEXT }, { "amount", IRIS_INT }, { "since", IRIS_INT } },
};

static struct iris_query *const regions_queries[] = {
	&region_query_known, &region_query_remember, &ledger_query_add, &ledger_query_all, NULL,
};

/* --- the ledger --- */

static bool
ledger_add_cell(struct region_map *map, size_t cell, struct iris_batch *batch)
{
	size_t verdict = cell % IRIS_GATE_VERDICT_COUNT, rest = cell / IRIS_GATE_VERDICT_COUNT;
	size_t category = rest % IRIS_GATE_CATEGORY_COUNT, pair = rest / IRIS_GATE_CATEGORY_COUNT;
	int64_t amount = atomic_exchange(&map->counts[cell], 0);
	const char *from = region_map_id(map, (unsigned)(pair / (map->count + 1)));
	const char *to = region_map_id(map, (unsigned)(pair % (map->count + 1)));

	if (amount == 0)
		return false;
	batch_add(batch, &ledger_query_add,
		  VALUES(value_str(str_from(from)), value_str(str_from(to)),
			 value_str(str_from(gate_category_name((enum iris_gate_category)category))),
			 value_str(str_from(gate_verdict_name((enum iris_gate_verdict)verdict))),
			 value_int(amount), value_int(worker_wall_ms())));
	return true;
}

static size_t
map_cells(const struct region_map *map)
{
	return (size_t)(map->count + 1) * (map->count + 1) * IRIS_GATE_CATEGORY_COUNT *
	       IRIS_GATE_VERDICT_COUNT;
}

/*
 * What was counted since the last time, into the vault (fiber; waits). What a full vault does not
 * take is counted again with what comes.
 */
static void
ledger_flush(struct region_map *map)
{
	int64_t *taken;
	struct iris_batch *batch;
	bool any = false;

	if (!map || region_is_edge()) /* where counts stay in memory */
		return;
	taken = iris_calloc(map_cells(map), sizeof(*taken));
	batch = batch_new_own();
	for (size_t cell = 0; cell < map_cells(map); cell++) {
		taken[cell] = atomic_load(&map->counts[cell]);
		any |= ledger_add_cell(map, cell, batch);
	}
	if (!any)
		batch_drop(&batch);
	else if (batch_write(&batch) != IRIS_VAULT_OK)
		for (size_t cell = 0; cell < map_cells(map); cell++)
			atomic_fetch_add(&map->counts[cell], taken[cell]);
	free(taken);
}

/* Maps are swapped and flushed one at a time: on the main thread, under this lock. */
#define REGIONS_LOCK IRIS_STR("regions: map")

static void
ledger_flush_current(void *arg)
{
	fiber_lock(REGIONS_LOCK);
	ledger_flush(gate_current_map());
	fiber_unlock(REGIONS_LOCK);
}

static void
ledger_run(void *arg)
{
	ledger_flush_current(NULL);
	regions_flushing = false;
}

static void
ledger_due(void *arg)
{
	if (!regions_flushing && gate_current_map())
		regions_flushing = fiber_start("regions: ledger", ledger_run, NULL);
	timer_start(&regions_timer, FLUSH_MS, ledger_due, NULL);
}

/* --- the map --- */

static bool
regions_has_us(const struct iris_settings *settings, const struct region_map *map,
	       struct iris_error *error)
{
	struct iris_str id = settings_str(settings, OPT_ID);

	if (region_map_index(map, id) < map->count)
		return true;
	error_set(error, "the region map has no region \"%.*s\"", IRIS_STR_FMT(id));
	return error_hint(error, "regions: {id: …} names the region of this server");
}

/*
 * A server does not start with a map that does not have its region, or that its secret does not
 * fit. SECURITY: one that runs takes it: it was left out, and everything is closed.
 */
static void
regions_refuse(const struct iris_error *error)
{
	metric_add(&gate_metrics[GATE_METRIC_MAPS_REFUSED], 1);
	log_error(IRIS_LOG_ERROR, "regions", "map-refused", error);
}

static struct region_map *
regions_read(const struct iris_settings *settings, struct iris_error *error)
{
	EVP_PKEY *key = region_key_load(settings_str(settings, OPT_KEY).base, false, error);
	struct region_map *map =
		key ? region_map_load(settings_str(settings, OPT_MAP).base, key, error) : NULL;

	EVP_PKEY_free(key);
	if (map && !gate_current_map() && !regions_has_us(settings, map, error))
		region_map_free(&map);
	if (map && !gate_current_map() &&
	    !region_secret_fits(map, region_map_index(map, settings_str(settings, OPT_ID)),
				settings_str(settings, OPT_SECRET), false, error))
		region_map_free(&map);
	return map;
}

/* The categories of `refuse-openly`. */
static bool
regions_read_openly(const struct iris_settings *settings, unsigned *categories_r,
		    struct iris_error *error)
{
	*categories_r = 0;
	for (size_t i = 0; i < settings_count(settings, OPT_OPENLY); i++) {
		struct iris_str name = settings_item(settings, OPT_OPENLY, i);
		enum iris_gate_category category = gate_category_find(name);

		if (category == IRIS_GATE_CATEGORY_COUNT) {
			error_set(error, "refuse-openly: there is no category \"%.*s\"",
				  IRIS_STR_FMT(name));
			return error_hint(error, "irisctl boundary explain names them");
		}
		*categories_r |= 1u << category;
	}
	return true;
}

static void
regions_set_openly(const struct iris_settings *settings)
{
	struct iris_error error = { .message = "" };
	unsigned categories;

	/* It was checked. */
	if (regions_read_openly(settings, &categories, &error))
		gate_set_openly(categories);
}

/*
 * SECURITY: an old map that somebody kept would open what was closed since.  An edge has nowhere to
 * remember it: there any map passes that is signed, and what it can open is no more than an edge
 * has.
 */
static bool
regions_is_newer(const struct region_map *map, struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct iris_rows rows;
	bool ok = vault_read(&region_query_known, 0, VALUES(value_int(1)), arena, &rows) ==
		  IRIS_VAULT_OK;

	if (!ok) {
		error_set(error, "the vault does not tell which region map was in force");
	} else if (rows.count > 0 && map->serial < row_value(&rows, 0, 0)->number) {
		ok = error_set(error, "the region map %lld is older than %lld, which was in force",
			       (long long)map->serial,
			       (long long)row_value(&rows, 0, 0)->number);
	} else if (rows.count > 0 && map->serial == row_value(&rows, 0, 0)->number &&
		   !str_is(row_value(&rows, 0, 1)->bytes, map->digest)) {
		ok = error_set(error, "another region map has the serial %lld, too",
			       (long long)map->serial);
		error_hint(error, "a map that was changed gets a higher serial");
	}
	arena_unref(&arena);
	return ok;
}

static bool
regions_remember(const struct region_map *map)
{
	struct iris_batch *batch = batch_new_own();

	batch_add(batch, &region_query_remember,
		  VALUES(value_int(1), value_int(map->serial), value_str(str_from(map->digest))));
	return batch_write(&batch) == IRIS_VAULT_OK;
}

static void
regions_nothing(void *arg)
{
}

static unsigned
regions_own(const struct region_map *map)
{
	return region_map_index(map, option_str(&regions_self, OPT_ID));
}

/* The map before, which nobody reads any more. */
static struct region_map *
regions_swap(struct region_map *map)
{
	struct region_map *before = gate_current_map();

	gate_set_map(map, regions_own(map));
	if (before)
		workers_each(regions_nothing, NULL);
	return before;
}

/* The secret of the map that is in force now, as the file has it now. */
static void
regions_share(void)
{
	const struct iris_settings *settings = atomic_load(&regions_self.settings);
	const struct region_map *map = gate_current_map();
	struct iris_error error = { .message = "" };

	if (map->own == map->count) { /* left out: it is told already */
		region_secret_forget();
	} else if (!region_secret_fits(map, map->own, settings_str(settings, OPT_SECRET), true,
				       &error)) {
		region_secret_forget();
		log_error(IRIS_LOG_ERROR, "regions", "secret-refused", &error);
	}
	region_secret_changed();
}

static void
regions_tell(const struct region_map *map)
{
	bool has_us = map->own < map->count;
	struct iris_error error = { .message = "" };

	if (!has_us) {
		(void)regions_has_us(atomic_load(&regions_self.settings), map, &error);
		error_detail(&error, "nothing crosses the boundary any more");
		log_error(IRIS_LOG_ERROR, "regions", "left-out", &error);
	}
	LOG(IRIS_LOG_NOTICE, "regions", "map-in-force", LOG_CSTR("name", map->name),
	    LOG_INT("serial", map->serial), LOG_INT("regions", map->count),
	    LOG_CSTR("class", has_us ? region_class_name(map->regions[map->own].class) : "none"),
	    LOG_CSTR("older", region_is_edge() ? "not remembered at an edge" : "refused"));
}

/* Fiber of the main thread, under the lock. False: the one before stays. */
static bool
regions_install(struct region_map *map, struct iris_error *error)
{
	struct region_map *before;

	if (!region_is_edge() &&
	    (!regions_is_newer(map, error) ||
	     (!regions_remember(map) && !error_set(error, "the vault does not take the map")))) {
		regions_refuse(error);
		region_map_free(&map);
		return false;
	}
	before = regions_swap(map);
	regions_tell(map);
	regions_share();
	if (map->own < map->count)
		region_role_follow(map->regions[map->own].class);
	ledger_flush(before);
	region_map_free(&before);
	return true;
}

/* On a fiber of the main thread: what regions_next names becomes the gate's. */
static void
regions_apply(void *arg)
{
	struct iris_error error = { .message = "" };
	struct region_map *map;
	bool is_new;

	fiber_lock(REGIONS_LOCK);
	map = regions_next;
	regions_next = NULL;
	is_new = map && regions_install(map, &error);
	fiber_unlock(REGIONS_LOCK);
	if (is_new)
		gate_changed();
}

static void
regions_begin(struct region_map *map)
{
	region_map_free(&regions_next);
	regions_next = map;
	if (!fiber_start("regions: map", regions_apply, NULL)) {
		LOG(IRIS_LOG_ERROR, "regions", "map-not-applied", LOG_INT("serial", map->serial));
		region_map_free(&regions_next);
	}
}

static bool
regions_is_configured(const struct iris_settings *settings)
{
	return !str_is_empty(settings_str(settings, OPT_MAP));
}

static bool
regions_is_complete(const struct iris_settings *settings)
{
	return regions_is_configured(settings) && !str_is_empty(settings_str(settings, OPT_KEY)) &&
	       !str_is_empty(settings_str(settings, OPT_ID));
}

static bool
regions_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct region_map *map;
	unsigned openly;

	if (!regions_read_openly(settings, &openly, error))
		return false;
	if (!regions_is_configured(settings))
		return true;
	if (!regions_is_complete(settings)) {
		error_set(error, "a region map needs the key that signs it, and our region");
		return error_hint(error, "regions: {map: FILE, key: FILE, id: …}");
	}
	map = regions_read(settings, error);
	if (!map)
		metric_add(&gate_metrics[GATE_METRIC_MAPS_REFUSED], 1);
	region_map_free(&map);
	return error->message[0] == '\0';
}

static bool
regions_start(struct iris_error *error)
{
	const struct iris_settings *settings = atomic_load(&regions_self.settings);
	struct region_map *map;

	gate_open();
	regions_set_openly(settings);
	if (!regions_is_configured(settings))
		return true;
	map = regions_read(settings, error);
	if (!map)
		return false;
	gate_expect_map();
	regions_begin(map);
	timer_start(&regions_timer, FLUSH_MS, ledger_due, NULL);
	return true;
}

static void
regions_reload(void)
{
	const struct iris_settings *settings = atomic_load(&regions_self.settings);
	struct region_map *before = gate_current_map(), *map;
	struct iris_error error = { .message = "" };

	regions_set_openly(settings);
	if (!regions_is_configured(settings))
		return;
	map = regions_read(settings, &error);
	if (!map) {
		regions_refuse(&error);
	} else if (before && strcmp(before->digest, map->digest) == 0) {
		region_map_free(&map);
		regions_share(); /* the file may be there only now */
	} else {
		regions_begin(map);
	}
}

static void
regions_stop(void)
{
	struct region_map *map = gate_current_map();

	timer_stop(&regions_timer);
	gate_set_map(NULL, 0);
	region_secret_forget();
	region_map_free(&map);
	region_map_free(&regions_next);
	gate_close();
}

/* --- commands --- */

static void
region_run_show(struct iris_command_call *call)
{
	static const char *const columns[] = { "region", "class", "external", "domains", "rooms",
					       NULL };
	const struct region_map *map = gate_current_map();

	if (!map) {
		call->note = IRIS_STR("There is no region map.");
		return;
	}
	command_table(call, columns);
	for (unsigned i = 0; i < map->count; i++) {
		const struct region *region = &map->regions[i];
		struct iris_strbuf domains = { .arena = call->arena }, rooms = domains;

		for (const char **name = region->domains; *name; name++)
			strbuf_printf(&domains, "%s%s", domains.len ? " " : "", *name);
		for (const char **name = region->rooms; *name; name++)
			strbuf_printf(&rooms, "%s%s", rooms.len ? " " : "", *name);
		command_row(call, (struct iris_str[]){ str_from(region->id),
						       str_from(region_class_name(region->class)),
						       str_from(region->external ? "yes" : "no"),
						       strbuf_str(&domains), strbuf_str(&rooms) });
	}
	call->note = arena_printf(call->arena, "Map \"%s\", serial %lld; this is the region %.*s.",
				  map->name, (long long)map->serial,
				  IRIS_STR_FMT(option_str(&regions_self, OPT_ID)));
}

static void
boundary_run_report(struct iris_command_call *call)
{
	static const char *const columns[] = { "from", "to", "category", "verdict", "stanzas",
					       "since", NULL };
	struct iris_rows rows;

	worker_call(worker_at(WORKER_MAIN), "regions: ledger", ledger_flush_current, NULL);
	if (vault_read(&ledger_query_all, 0, NULL, call->arena, &rows) != IRIS_VAULT_OK) {
		call->refusal.condition = IRIS_INTERNAL_SERVER_ERROR;
		return;
	}
	command_table(call, columns);
	for (size_t i = 0; i < rows.count; i++)
		command_row(call, (struct iris_str[]){
					  row_value(&rows, i, 0)->bytes,
					  row_value(&rows, i, 1)->bytes,
					  row_value(&rows, i, 2)->bytes,
					  row_value(&rows, i, 3)->bytes,
					  arena_printf(call->arena, "%lld",
						       (long long)row_value(&rows, i, 4)->number),
					  datetime_format(call->arena,
							  row_value(&rows, i, 5)->number) });
}

/* The stanza with these addresses; NULL: it is none. */
static struct iris_stanza *
explain_stanza(struct iris_command_call *call)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, call->values[2]);
	struct iris_stanza *stanza = NULL;
	const char *condition;

	if (root && str_is(root->ns, "")) /* written without a namespace */
		root->ns = IRIS_STR(NS_CLIENT);
	if (root) {
		element_set(root, "from", call->values[0]);
		element_set(root, "to", call->values[1]);
		stanza = stanza_from_element(arena, root, &condition);
	}
	if (!stanza)
		arena_unref(&arena);
	return stanza;
}

static void
boundary_run_explain(struct iris_command_call *call)
{
	struct iris_stanza *stanza = explain_stanza(call);
	struct iris_gate_opinion opinion;
	struct iris_strbuf text = { .arena = call->arena };

	if (!stanza) {
		call->refusal = (struct iris_refusal){ .condition = IRIS_BAD_REQUEST,
						       .text = "That is no stanza" };
		return;
	}
	opinion = gate_explain(stanza, &stanza->to);
	strbuf_printf(&text, "%s → %s:", opinion.from, opinion.to);
	for (unsigned i = 0; i < IRIS_GATE_CATEGORY_COUNT; i++)
		if (opinion.categories & (1u << i))
			strbuf_printf(&text, " %s", gate_category_name((enum iris_gate_category)i));
	strbuf_printf(&text, ": %s", gate_verdict_name(opinion.verdict));
	call->note = strbuf_str(&text);
	stanza_unref(&stanza);
}

static const struct iris_command_field explain_fields[] = {
	{ "from", IRIS_FIELD_JID, .required = true, .positional = true, .label = "Who sends it" },
	{ "to", IRIS_FIELD_JID, .required = true, .positional = true, .label = "To whom" },
	{ "stanza", IRIS_FIELD_TEXT, .required = true, .positional = true,
	  .label = "The stanza, as XML" },
	{ .name = NULL },
};

static const struct iris_command command_show = {
	.noun = "region", .verb = "show", .summary = "Show the region map in force",
	.role = IRIS_ROLE_OPERATOR, .run = region_run_show,
};

static const struct iris_command command_report = {
	.noun = "boundary", .verb = "report",
	.summary = "Count what came to the gate, by pair of regions, category and verdict",
	.role = IRIS_ROLE_OPERATOR, .run = boundary_run_report,
};

static const struct iris_command command_explain = {
	.noun = "boundary", .verb = "explain",
	.summary = "Tell what the gate would say of a stanza",
	.role = IRIS_ROLE_OPERATOR, .fields = explain_fields, .run = boundary_run_explain,
};

static const struct iris_command *const regions_commands[] = { &command_show, &command_report,
							       &command_explain, NULL };

static const struct iris_option regions_options[] = {
	[OPT_MAP] = { "map", IRIS_OPT_PATH, NULL, .optional = true, .reloadable = true,
		      .help = "The signed map of all regions (P2); none: this server is in none." },
	[OPT_KEY] = { "key", IRIS_OPT_PATH, NULL, .optional = true,
		      .help = "The public key that maps are signed with (Ed25519, PEM)." },
	[OPT_ID] = { "id", IRIS_OPT_STRING, NULL, .optional = true, .max = REGION_ID_MAX,
		     .help = "The region of this server." },
	[OPT_SECRET] = { "secret", IRIS_OPT_PATH, NULL, .optional = true, .reloadable = true,
			 .help = "The file with the secret that federated regions share (P2.6); "
				 "isolated ones and edges get none." },
	[OPT_OPENLY] = { "refuse-openly", IRIS_OPT_STRINGS, NULL, .optional = true,
			 .reloadable = true,
			 .help = "Categories whose refusals are named (policy-violation); of the "
				 "others who sends hears what an address that does not exist "
				 "would answer." },
	IRIS_OPTIONS_END,
};

/* What is wrong is reported by the check of this module, which comes later. */
void
regions_decide_role(struct iris_config *config)
{
	struct iris_report ignored = { .error_count = 0 };
	struct iris_error error = { .message = "" };
	const struct iris_settings *settings =
		settings_make(config, "regions", regions_options, &ignored);
	struct region_map *map = ignored.error_count == 0 && regions_is_complete(settings) ?
					 regions_read(settings, &error) :
					 NULL;

	region_role_set(map ? map->regions[region_map_index(map, settings_str(settings, OPT_ID))]
					   .class
			    : REGION_FEDERATED);
	region_map_free(&map);
	report_clear(&ignored);
}

struct iris_metric gate_metrics[GATE_METRIC_COUNT + 1] = {
	[GATE_METRIC_DENIED] = { .name = "iris_gate_stanzas_total", .labels = "verdict=\"deny\"",
				 .help = "Stanzas that came to the gate" },
	[GATE_METRIC_TRANSIT] = { .name = "iris_gate_stanzas_total",
				  .labels = "verdict=\"transit\"",
				  .help = "Stanzas that came to the gate" },
	[GATE_METRIC_DELIVERED] = { .name = "iris_gate_stanzas_total",
				    .labels = "verdict=\"deliver\"",
				    .help = "Stanzas that came to the gate" },
	[GATE_METRIC_SERIAL] = { .name = "iris_region_map_serial", .kind = IRIS_GAUGE,
				 .help = "Of the region map in force; 0: none is",
				 .value = gate_serial },
	[GATE_METRIC_MAPS_REFUSED] = { .name = "iris_region_maps_refused_total",
				       .help = "Region maps that were refused: unsigned, wrong, or "
					       "older" },
	{ .name = NULL },
};

const struct iris_module iris_module_regions = {
	IRIS_MODULE_HEAD,
	.name = "regions",
	.summary = "The region map, and the ledger of the gate (P2)",
	.self = &regions_self,
	.options = regions_options,
	.queries = regions_queries,
	.metrics = gate_metrics,
	.commands = regions_commands,
	.not_unloadable = true,
	.at_edge = true, /* its queries are refused there */
	.check = regions_check,
	.start = regions_start,
	.reload = regions_reload,
	.stop = regions_stop,
};
