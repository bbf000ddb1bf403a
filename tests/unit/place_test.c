/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/place.c and server/service.c, on the main worker: places whose load ends when the test
 * says so, and what is told in which order.  Errors go to a domain that nobody serves, and are seen
 * there.
 */
#include <stdio.h>
#include <string.h>

#include "config_private.h"
#include "im_private.h"
#include "iris/place.h"
#include "iris/service.h"
#include "module_private.h"
#include "worker_common.h"

struct thing {
	struct iris_place place;
};

static struct {
	char diary[400];              /* what happened, in order */
	enum iris_place_found found;  /* what a load finds */
	struct iris_wait *load_gate;  /* a load waits for it, once */
	struct iris_wait *unloading;  /* told of the next end */
	int64_t bounds[3];
	const char *echo; /* comes for the same place while something is received */
} test;

static void
note(const char *mark, struct iris_str word)
{
	size_t len = strlen(test.diary);

	(void)snprintf(&test.diary[len], sizeof(test.diary) - len, "%s%s%.*s", len ? " " : "", mark,
		       IRIS_STR_FMT(word));
}

static void
expect(const char *diary)
{
	if (strcmp(test.diary, diary) != 0)
		fprintf(stderr, "came: %s\nexpected: %s\n", test.diary, diary);
	IRIS_ASSERT(strcmp(test.diary, diary) == 0);
	test.diary[0] = '\0';
}

/* --- the kind --- */

static struct iris_places things;
static void send_to(const char *key, enum iris_stanza_kind kind, const char *id);

static enum iris_place_found
thing_load(struct iris_place *place)
{
	struct iris_wait *gate = test.load_gate;
	enum iris_place_found found = test.found;

	note("load:", place_key(place));
	test.load_gate = NULL;
	if (gate)
		wait_for(gate, "the test");
	return found;
}

static void
thing_unload(struct iris_place *place)
{
	struct iris_wait *unloading = test.unloading;

	note("unload:", place_key(place));
	test.unloading = NULL;
	if (unloading)
		wait_done(unloading);
}

static void
thing_receive(struct iris_place *place, const struct iris_delivery *delivery,
	      struct iris_ticket *ticket)
{
	const char *echo = test.echo;

	IRIS_ASSERT(place->state == IRIS_PLACE_READY && place->holds > 0);
	note("", delivery->stanza->id);
	test.echo = NULL;
	if (echo)
		send_to("a", IRIS_PRESENCE, echo);
}

static void
thing_absent(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	note("absent:", delivery->stanza->id);
}

static bool
thing_is_worth_loading(const struct iris_stanza *stanza)
{
	return stanza->kind != IRIS_PRESENCE;
}

static int64_t
thing_bound(enum iris_place_bound bound)
{
	return test.bounds[bound];
}

static struct iris_metric thing_metrics[3]; /* not registered: they count nothing */

static const struct iris_place_kind thing_kind = {
	.name = "thing",
	.size = sizeof(struct thing),
	.load = thing_load,
	.unload = thing_unload,
	.receive = thing_receive,
	.absent = thing_absent,
	.is_worth_loading = thing_is_worth_loading,
	.bound = thing_bound,
	.metrics = thing_metrics,
};
static struct iris_places things = { .kind = &thing_kind };

static void
send_to(const char *key, enum iris_stanza_kind kind, const char *id)
{
	struct iris_stanza *stanza =
		stanza_new(kind, kind == IRIS_PRESENCE ? IRIS_AVAILABLE : IRIS_NORMAL);
	struct iris_delivery delivery = { .stanza = stanza };
	struct iris_jid from, to;

	IRIS_ASSERT(jid_parse(stanza->arena, IRIS_STR("romeo@far.example"), &from) &&
		    jid_make(stanza->arena, str_from(key), IRIS_STR("things.example"),
			     IRIS_STR_NONE, &to));
	stanza_set_from(stanza, &from);
	stanza_set_to(stanza, &to);
	stanza_set_id(stanza, str_from(id));
	stanza_freeze(stanza);
	place_receive(&things, str_from(key), &delivery, NULL);
	stanza_unref(&stanza);
}

/* Errors come back to where nobody here serves. */
static void
take_error(const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	const struct iris_element *error = element_child(delivery->stanza->root, "error", NULL);

	IRIS_ASSERT(delivery->stanza->type == IRIS_ERROR && error);
	note("error:", delivery->stanza->id);
	if (element_child(error, "resource-constraint", NULL))
		note("", IRIS_STR("full"));
}

/* --- each test on a fiber --- */

static int
setup(void **state)
{
	memset(&test, 0, sizeof(test));
	test.bounds[IRIS_PLACE_KEEP] = 60000;
	test.bounds[IRIS_PLACE_MAX] = test.bounds[IRIS_PLACE_INBOX] = 100;
	if (setup_workers(0) != 0)
		return -1;
	places_open(&things);
	route_set_remote(take_error);
	return 0;
}

static int
teardown(void **state)
{
	places_shut();
	places_close(&things);
	route_set_remote(NULL);
	return teardown_workers(state);
}

static void
run(void *arg)
{
	((void (*)(void))(uintptr_t)arg)();
	worker_main_quit();
}

#define TEST_ON_FIBER(name)                              \
	static void test_##name(void **state)            \
	{                                                \
		on_fiber(run, (void *)(uintptr_t)name); \
	}

static void
keeps_the_order(void)
{
	struct iris_wait gate;

	wait_init(&gate);
	test.load_gate = &gate;
	test.echo = "echo";
	send_to("a", IRIS_PRESENCE, "unseen"); /* loads nobody */
	expect("");
	send_to("a", IRIS_MESSAGE, "1");
	send_to("a", IRIS_MESSAGE, "2");
	send_to("a", IRIS_PRESENCE, "unseen");
	IRIS_ASSERT(!place_find(&things, IRIS_STR("a")) &&
		    place_lookup(&things, IRIS_STR("a"))->state == IRIS_PLACE_LOADING);
	expect("load:a");
	wait_done(&gate);
	IRIS_ASSERT(fiber_sleep(1)); /* the load goes on when this fiber waits */
	expect("1 2 echo");
	send_to("a", IRIS_MESSAGE, "3");
	send_to("a", IRIS_PRESENCE, "4");
	expect("3 4");
	IRIS_ASSERT(places_count(&things) == 1 && place_find(&things, IRIS_STR("a"))->is_idle);
}
TEST_ON_FIBER(keeps_the_order)

static void
get_and_note(void *arg)
{
	enum iris_place_found found;
	struct iris_place *place = place_get(&things, IRIS_STR("a"), &found);

	IRIS_ASSERT((place != NULL) == (found == IRIS_PLACE_FOUND));
	note(arg, place ? place_key(place) :
			  found == IRIS_PLACE_NOBODY ? IRIS_STR("nobody") : IRIS_STR("failed"));
	if (place)
		place_release(place);
}

static void
loads_once_for_all(void)
{
	struct iris_wait gate;

	wait_init(&gate);
	test.load_gate = &gate;
	IRIS_ASSERT(fiber_start("first", get_and_note, "first:"));
	IRIS_ASSERT(fiber_start("second", get_and_note, "second:"));
	send_to("a", IRIS_MESSAGE, "1");
	expect("load:a");
	wait_done(&gate);
	IRIS_ASSERT(fiber_sleep(1));
	expect("1 first:a second:a"); /* the inbox goes before who waits */
	get_and_note("third:");
	expect("third:a");
}
TEST_ON_FIBER(loads_once_for_all)

static void
tells_who_is_not_there(void)
{
	test.found = IRIS_PLACE_NOBODY;
	send_to("a", IRIS_MESSAGE, "1");
	expect("load:a absent:1 unload:a");
	get_and_note("");
	expect("load:a unload:a nobody");
	test.found = IRIS_PLACE_FAILED;
	send_to("a", IRIS_MESSAGE, "2");
	expect("load:a error:2 unload:a");
	get_and_note("");
	expect("load:a unload:a failed");
	IRIS_ASSERT(places_count(&things) == 0);
}
TEST_ON_FIBER(tells_who_is_not_there)

static void
bounds_the_inbox(void)
{
	struct iris_wait gate;

	wait_init(&gate);
	test.load_gate = &gate;
	test.bounds[IRIS_PLACE_INBOX] = 2;
	send_to("a", IRIS_MESSAGE, "1");
	send_to("a", IRIS_MESSAGE, "2");
	send_to("a", IRIS_MESSAGE, "3");
	expect("load:a error:3 full");
	wait_done(&gate);
	IRIS_ASSERT(fiber_sleep(1));
	expect("1 2");
}
TEST_ON_FIBER(bounds_the_inbox)

static void
lets_the_longest_idle_go(void)
{
	struct iris_place *held;

	test.bounds[IRIS_PLACE_MAX] = 2;
	send_to("a", IRIS_MESSAGE, "1");
	send_to("b", IRIS_MESSAGE, "2");
	send_to("a", IRIS_MESSAGE, "3"); /* now b is */
	expect("load:a 1 load:b 2 3");
	send_to("c", IRIS_MESSAGE, "4");
	expect("unload:b load:c 4");
	held = place_get(&things, IRIS_STR("a"), NULL);
	place_hold(held);
	IRIS_ASSERT(held->holds == 2 && !held->is_idle);
	send_to("d", IRIS_MESSAGE, "5"); /* c goes, a is held */
	expect("unload:c load:d 5");
	place_hold(place_find(&things, IRIS_STR("d")));
	send_to("e", IRIS_MESSAGE, "6");
	IRIS_ASSERT(!place_get(&things, IRIS_STR("e"), NULL));
	expect("error:6 full");
	place_release(place_find(&things, IRIS_STR("d")));
	place_release(held);
	IRIS_ASSERT(held->holds == 1 && !held->is_idle);
	place_release(held);
	IRIS_ASSERT(held->is_idle);
}
TEST_ON_FIBER(lets_the_longest_idle_go)

/* Waits for the end of one; it is out of the table when its unload has returned. */
static void
await_unload(void)
{
	struct iris_wait unloaded;

	wait_init(&unloaded);
	test.unloading = &unloaded;
	wait_for(&unloaded, "the sweep");
	IRIS_ASSERT(fiber_sleep(1));
}

static void
sweeps_the_idle(void)
{
	struct iris_place *held;

	test.bounds[IRIS_PLACE_KEEP] = 20;
	held = place_get(&things, IRIS_STR("held"), NULL);
	send_to("a", IRIS_MESSAGE, "1");
	await_unload();
	expect("load:held load:a 1 unload:a");
	IRIS_ASSERT(places_count(&things) == 1 && !held->is_idle);
	place_release(held);
	await_unload();
	expect("unload:held");
	IRIS_ASSERT(places_count(&things) == 0);
}
TEST_ON_FIBER(sweeps_the_idle)

/* What waited gets what nobody gets, at once; the load ends later, and concerns nobody. */
static void
forgets_while_it_loads(void)
{
	struct iris_wait gate;
	struct iris_place *held;

	wait_init(&gate);
	test.load_gate = &gate;
	send_to("a", IRIS_MESSAGE, "1");
	IRIS_ASSERT(fiber_start("waiter", get_and_note, ""));
	place_forget(place_lookup(&things, IRIS_STR("a")));
	IRIS_ASSERT(!place_lookup(&things, IRIS_STR("a")));
	send_to("a", IRIS_MESSAGE, "2");
	expect("load:a absent:1 load:a 2");
	wait_done(&gate);
	IRIS_ASSERT(fiber_sleep(1));
	expect("nobody unload:a");
	held = place_get(&things, IRIS_STR("a"), NULL);
	place_forget(held);
	place_forget(held); /* once more is nothing */
	IRIS_ASSERT(held->state == IRIS_PLACE_GONE);
	expect("");
	place_release(held);
	expect("unload:a");
}
TEST_ON_FIBER(forgets_while_it_loads)

static struct iris_place *kept;

static void
keep_one(void)
{
	kept = place_get(&things, IRIS_STR("kept"), NULL);
	send_to("idle", IRIS_MESSAGE, "1");
}

static void
test_shuts(void **state)
{
	on_fiber(run, (void *)(uintptr_t)keep_one);
	places_shut();
	expect("load:kept load:idle 1 unload:idle");
	place_release(kept);
	expect("unload:kept");
	send_to("a", IRIS_MESSAGE, "2");
	expect("error:2 full");
}

/* --- services --- */

extern const struct iris_module iris_module_tls, iris_module_hosts;

static struct iris_module_self opener_self;
static const struct iris_module opener = {
	IRIS_MODULE_HEAD, .name = "opener", .summary = "Opens services", .self = &opener_self,
};
static const struct iris_service_kind kind = { .module = &opener, .places = &things };
static const struct iris_service_kind other_kind = { .module = &opener };

static int
setup_hosts(void **state)
{
	static const struct iris_module *const linked[] = { &iris_module_tls, &iris_module_hosts,
							    NULL };
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config = config_parse(
		"test.yaml",
		IRIS_STR("hosts: {domains: [{name: a.example}, {name: b.example}, "
			 "{name: taken.b.example}, {name: far.a.example}]}\n"),
		&report);
	struct iris_error error;

	worker_main_init();
	if (!config || !modules_select(linked, &config, &report))
		report_write(&report, stderr);
	if (report.error_count > 0 || !modules_start(&error))
		return -1;
	host_find(IRIS_STR("far.a.example"))->is_component = true;
	return 0;
}

static int
teardown_hosts(void **state)
{
	services_stop();
	modules_stop();
	worker_main_free();
	return 0;
}

static void
count_service(struct iris_service *service, void *arg)
{
	++*(unsigned *)arg;
}

static void
test_services_are_found(void **state)
{
	struct iris_host *host = host_find(IRIS_STR("a.example"));
	struct iris_error error;
	struct iris_service *service =
		service_open(&kind, host, IRIS_STR("Rooms"), &things, &error);
	unsigned count = 0;

	assert_non_null(service);
	assert_true(str_is(jid_full(&service->jid), "rooms.a.example"));
	assert_ptr_equal(service->host, host);
	assert_ptr_equal(service->arg, &things);
	assert_ptr_equal(service_find(IRIS_STR("rooms.a.example")), service);
	assert_null(service_find(IRIS_STR("rooms.b.example")));
	assert_null(service_find(IRIS_STR("a.example")));
	assert_ptr_equal(service_open(&kind, host, IRIS_STR("rooms"), NULL, &error), service);
	assert_ptr_equal(service->arg, &things); /* as it was */
	assert_non_null(service_open(&other_kind, host_find(IRIS_STR("b.example")),
				     IRIS_STR("rooms"), NULL, &error));
	service_each(host, count_service, &count);
	assert_int_equal(count, 1);
	service_each(NULL, count_service, &count);
	assert_int_equal(count, 3);
}

static void
test_services_take_nothing_from_others(void **state)
{
	struct iris_host *host = host_find(IRIS_STR("b.example"));
	struct iris_error error = { .message = "" };

	assert_null(service_open(&kind, host, IRIS_STR("taken"), NULL, &error));
	assert_non_null(strstr(error.message, "a host of its own"));
	assert_non_null(service_open(&kind, host, IRIS_STR("rooms"), NULL, &error));
	assert_null(service_open(&other_kind, host, IRIS_STR("rooms"), NULL, &error));
	assert_non_null(strstr(error.message, "is served by the module opener"));
	assert_null(service_open(&kind, host, IRIS_STR("no body"), NULL, &error));
	assert_null(service_open(&kind, host, IRIS_STR("a@b"), NULL, &error));
	assert_false(service_check_label(IRIS_STR("a@b"), &error));
	assert_false(service_check_label(IRIS_STR("a/b"), &error));
	assert_true(service_check_label(IRIS_STR("conference.eu"), &error));
}

/* One that cannot be opened does not keep the others from it; components have none. */
static void
test_services_of_all_hosts(void **state)
{
	struct iris_error error = { .message = "" };

	assert_true(service_open_all(&kind, IRIS_STR("rooms"), NULL, &error));
	assert_null(service_find(IRIS_STR("rooms.far.a.example")));
	assert_false(service_open_all(&kind, IRIS_STR("taken"), NULL, &error));
	assert_non_null(strstr(error.message, "taken.b.example"));
	assert_string_equal(error.hint, "give it another one: opener: {label: …}");
	assert_non_null(service_find(IRIS_STR("taken.a.example")));
}

#define ON_FIBER(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define WITH_HOSTS(name) cmocka_unit_test_setup_teardown(name, setup_hosts, teardown_hosts)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ON_FIBER(keeps_the_order),
		ON_FIBER(loads_once_for_all),
		ON_FIBER(tells_who_is_not_there),
		ON_FIBER(bounds_the_inbox),
		ON_FIBER(lets_the_longest_idle_go),
		ON_FIBER(sweeps_the_idle),
		ON_FIBER(forgets_while_it_loads),
		ON_FIBER(shuts),
		WITH_HOSTS(test_services_are_found),
		WITH_HOSTS(test_services_take_nothing_from_others),
		WITH_HOSTS(test_services_of_all_hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
