/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules/pubsub/config.c: what a form makes of a node's configuration, that it is the same after
 * it was kept as text and shown as a form, what is refused, and preconditions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "arena_common.h"
#include "config_private.h"
#include "module_private.h"
#include "modules/pubsub/pubsub_private.h"
#include "xep/xep0004_forms.h"

extern const struct iris_module iris_module_pubsub;

static struct iris_config *file;

struct entry {
	const char *var, *value; /* of "pubsub#var"; several values: a line each */
};

/* --- helpers --- */

static struct iris_element *
form_of(const struct entry *entries, size_t count)
{
	struct iris_element *form = form_add(element_new(arena, "configure", NS_PUBSUB), "submit",
					     NS_PUBSUB "#node_config");

	for (size_t i = 0; i < count; i++) {
		struct iris_str var = arena_printf(arena, "pubsub#%s", entries[i].var);
		struct iris_element *field = form_add_field(form, NULL, var.base, IRIS_STR_NONE);

		for (const char *at = entries[i].value; at; at = strchr(at, '\n')) {
			at += *at == '\n';
			form_field_add_value(field, (struct iris_str){ at, strcspn(at, "\n") });
		}
	}
	return form;
}

static bool
submit(struct pubsub_config *config, bool of_account, struct entry entry,
       struct config_problem *problem_r)
{
	return node_config_submit(config, of_account, form_of(&entry, 1), problem_r);
}

static bool
meets(const struct pubsub_config *config, struct entry entry, struct config_problem *problem_r)
{
	return node_config_meets(config, form_of(&entry, 1), problem_r);
}

static void
assert_same(const struct pubsub_config *a, const struct pubsub_config *b)
{
	assert_memory_equal(a->numbers, b->numbers, sizeof(a->numbers));
	for (int i = 0; i < CONFIG_TEXT_COUNT; i++) {
		assert_int_equal(a->texts[i] == NULL, b->texts[i] == NULL);
		if (a->texts[i])
			assert_string_equal(a->texts[i], b->texts[i]);
	}
}

/* Kept as text over other defaults, and shown as a form that is submitted over other defaults. */
static void
assert_survives(const struct pubsub_config *config, bool of_account)
{
	struct iris_str text = node_config_write(arena, config);
	struct iris_element *parent = element_new(arena, "configure", NS_PUBSUB), *form;
	struct config_problem problem;
	struct pubsub_config kept, shown;

	node_config_init(&kept, !of_account, text);
	assert_same(&kept, config);
	node_config_add_form(parent, config, of_account);
	form = form_find(parent, "form");
	assert_non_null(form);
	assert_true(node_config_meets(config, form, &problem));
	node_config_init(&shown, of_account, IRIS_STR_NONE);
	assert_true(node_config_submit(&shown, of_account, form, &problem));
	assert_same(&shown, config);
	node_config_free(&kept);
	node_config_free(&shown);
}

/* --- tests --- */

static void
test_defaults(void **state)
{
	struct pubsub_config account, host;

	node_config_init(&account, true, IRIS_STR_NONE);
	node_config_init(&host, false, IRIS_STR_NONE);
	/* XEP-0163 §2 */
	assert_int_equal(account.numbers[CONFIG_ACCESS_MODEL], ACCESS_PRESENCE);
	assert_int_equal(account.numbers[CONFIG_SEND_LAST], SEND_ON_SUB_AND_PRESENCE);
	assert_int_equal(node_config_items_max(&account), 1);
	assert_int_equal(host.numbers[CONFIG_ACCESS_MODEL], ACCESS_OPEN);
	assert_int_equal(node_config_items_max(&host), 100);
	assert_survives(&account, true);
	assert_survives(&host, false);
}

static const struct {
	struct entry entry;
	int field; /* a number, or -1: a text, which is what was submitted */
	int32_t number;
} taken[] = {
	{ { "access_model", "open" }, CONFIG_ACCESS_MODEL, ACCESS_OPEN },
	{ { "access_model", "roster" }, CONFIG_ACCESS_MODEL, ACCESS_ROSTER },
	{ { "access_model", "authorize" }, CONFIG_ACCESS_MODEL, ACCESS_AUTHORIZE },
	{ { "access_model", "whitelist" }, CONFIG_ACCESS_MODEL, ACCESS_WHITELIST },
	{ { "publish_model", "open" }, CONFIG_PUBLISH_MODEL, PUBLISH_OPEN },
	{ { "publish_model", "subscribers" }, CONFIG_PUBLISH_MODEL, PUBLISH_SUBSCRIBERS },
	{ { "persist_items", "false" }, CONFIG_PERSIST_ITEMS, 0 },
	{ { "persist_items", "1" }, CONFIG_PERSIST_ITEMS, 1 },
	{ { "max_items", "max" }, CONFIG_MAX_ITEMS, CONFIG_MAX },
	{ { "max_items", "100" }, CONFIG_MAX_ITEMS, 100 },
	{ { "item_expire", "604800" }, CONFIG_ITEM_EXPIRE, 604800 },
	{ { "item_expire", "max" }, CONFIG_ITEM_EXPIRE, CONFIG_MAX },
	{ { "send_last_published_item", "never" }, CONFIG_SEND_LAST, SEND_NEVER },
	{ { "deliver_payloads", "0" }, CONFIG_DELIVER_PAYLOADS, 0 },
	{ { "notify_config", "true" }, CONFIG_NOTIFY_CONFIG, 1 },
	{ { "notification_type", "normal" }, CONFIG_NOTIFICATION_TYPE, NOTIFY_NORMAL },
	{ { "publish_node_full", "reject" }, CONFIG_NODE_FULL, FULL_REJECT },
	{ { "publish_node_full", "retract-oldest" }, CONFIG_NODE_FULL, FULL_DISCARD },
	{ { "title", "A sword = a pen" }, -1, CONFIG_TITLE },
	{ { "description", "access_model=open" }, -1, CONFIG_DESCRIPTION },
	{ { "type", "urn:example:x" }, -1, CONFIG_TYPE },
	{ { "language", "it" }, -1, CONFIG_LANGUAGE },
	{ { "roster_groups_allowed", "Friends\nMontagues=\nx=y" }, -1, CONFIG_GROUPS },
};

static void
test_submitted_survives(void **state)
{
	for (size_t i = 0; i < IRIS_COUNT(taken); i++) {
		struct pubsub_config config;
		struct config_problem problem;

		node_config_init(&config, true, IRIS_STR_NONE);
		if (!submit(&config, true, taken[i].entry, &problem))
			fail_msg("%s=%s", taken[i].entry.var, taken[i].entry.value);
		if (taken[i].field >= 0)
			assert_int_equal(config.numbers[taken[i].field], taken[i].number);
		else
			assert_string_equal(config.texts[taken[i].number], taken[i].entry.value);
		assert_survives(&config, true);
		assert_true(meets(&config, taken[i].entry, &problem));
		node_config_free(&config);
	}
}

static void
test_all_at_once(void **state)
{
	struct pubsub_config config, copy;
	struct config_problem problem;
	struct entry entries[IRIS_COUNT(taken)];

	for (size_t i = 0; i < IRIS_COUNT(taken); i++)
		entries[i] = taken[i].entry;
	node_config_init(&config, true, IRIS_STR_NONE);
	assert_true(node_config_submit(&config, true, form_of(entries, IRIS_COUNT(entries)),
				       &problem));
	assert_survives(&config, true);
	node_config_copy(&copy, &config);
	assert_same(&copy, &config);
	node_config_free(&config);
	assert_survives(&copy, true); /* nothing of it was the other's */
	node_config_free(&copy);
}

static void
test_refused(void **state)
{
	static const struct {
		struct entry entry;
		bool of_account;
		const char *app;
	} refused[] = {
		{ { "access_model", "nobody" }, true, "unsupported-access-model" },
		{ { "access_model", "roster" }, false, "unsupported-access-model" },
		{ { "access_model", "presence" }, false, "unsupported-access-model" },
		{ { "presence_based_delivery", "1" }, false, NULL },
		{ { "publish_model", "everybody" }, true, NULL },
		{ { "persist_items", "perhaps" }, true, NULL },
		{ { "max_items", "101" }, true, NULL },
		{ { "max_items", "0" }, true, NULL },
		{ { "max_items", "-1" }, true, NULL },
		{ { "max_items", "99999999999" }, true, NULL },
		{ { "max_items", "1 " }, true, NULL },
		{ { "item_expire", "315360001" }, true, NULL },
		{ { "notification_type", "chat" }, true, NULL },
		{ { "language", "en-with-a-very-long-private-use-subtag-x" }, true, NULL },
	};

	for (size_t i = 0; i < IRIS_COUNT(refused); i++) {
		struct pubsub_config config, before;
		struct config_problem problem = { .text = IRIS_STR_NONE };

		node_config_init(&config, refused[i].of_account, IRIS_STR_NONE);
		node_config_init(&before, refused[i].of_account, IRIS_STR_NONE);
		if (submit(&config, refused[i].of_account, refused[i].entry, &problem))
			fail_msg("%s=%s", refused[i].entry.var, refused[i].entry.value);
		assert_int_equal(problem.condition, IRIS_NOT_ACCEPTABLE);
		assert_true(str_equal(str_from(problem.app), str_from(refused[i].app)));
		/* Which field it is, stands in the text. */
		assert_non_null(memmem(problem.text.base, problem.text.len, refused[i].entry.var,
				       strlen(refused[i].entry.var)));
		assert_same(&config, &before);
		node_config_free(&config);
		node_config_free(&before);
	}
}

/* What is not known, not done, or without a value, changes nothing. */
static void
test_left_alone(void **state)
{
	static const struct entry entries[] = {
		{ "unheard_of", "1" }, { "tempsub", "1" },	 { "collection", "x" },
		{ "max_items", "" },   { "access_model", NULL }, { "max_payload_size", "7" },
	};
	struct pubsub_config config, before;
	struct config_problem problem;

	node_config_init(&config, true, IRIS_STR_NONE);
	node_config_init(&before, true, IRIS_STR_NONE);
	assert_true(node_config_submit(&config, true, form_of(entries, IRIS_COUNT(entries)),
				       &problem));
	assert_same(&config, &before);
	node_config_free(&config);
	node_config_free(&before);
}

/* A host does of it what it can, and says what that is. */
static void
test_of_a_host(void **state)
{
	static const struct entry entries[] = {
		{ "send_last_published_item", "on_sub_and_presence" },
		{ "roster_groups_allowed", "Friends" }, { "presence_based_delivery", "0" },
	};
	struct pubsub_config config, before;
	struct config_problem problem;

	node_config_init(&config, false, IRIS_STR_NONE);
	node_config_init(&before, false, IRIS_STR_NONE);
	assert_true(node_config_submit(&config, false, form_of(entries, IRIS_COUNT(entries)),
				       &problem));
	assert_int_equal(config.numbers[CONFIG_SEND_LAST], SEND_ON_SUB);
	assert_same(&config, &before);
	assert_survives(&config, false);
	node_config_free(&config);
	node_config_free(&before);
}

/* SECURITY: no text may set a field behind it. */
static void
test_lines_in_texts(void **state)
{
	struct iris_element *form = form_of(&(struct entry){ "unheard_of", "" }, 1), *field;
	struct pubsub_config config;
	struct config_problem problem;

	field = form_add_field(form, NULL, "pubsub#title", IRIS_STR_NONE);
	form_field_add_value(field, IRIS_STR("one\naccess_model=open\r\npersist_items=0"));
	node_config_init(&config, true, IRIS_STR_NONE);
	assert_true(node_config_submit(&config, true, form, &problem));
	assert_string_equal(config.texts[CONFIG_TITLE],
			    "one access_model=open  persist_items=0");
	assert_survives(&config, true);
	node_config_free(&config);
}

/* What a version before, or after, has written. */
static void
test_unknown_lines(void **state)
{
	struct pubsub_config config;

	node_config_init(&config, true,
			 IRIS_STR("unheard_of=1\n\nno equals sign\naccess_model=nobody\n"
				  "max_items=5\n=\ntitle="));
	assert_int_equal(config.numbers[CONFIG_ACCESS_MODEL], ACCESS_PRESENCE);
	assert_int_equal(config.numbers[CONFIG_MAX_ITEMS], 5);
	assert_null(config.texts[CONFIG_TITLE]);
	node_config_free(&config);
}

static void
test_preconditions(void **state)
{
	static const struct {
		struct entry entry;
		bool met;
	} cases[] = {
		{ { "access_model", "presence" }, true },
		{ { "access_model", "whitelist" }, false },
		{ { "access_model", "nobody" }, false },
		{ { "persist_items", "true" }, true },
		{ { "persist_items", "1" }, true },
		{ { "max_items", "1" }, true },
		{ { "max_items", "max" }, false },
		{ { "publish_node_full", "retract-oldest" }, true },
		{ { "title", "x" }, false },
		{ { "tempsub", "1" }, true },
		{ { "unheard_of", "1" }, false },
	};
	struct pubsub_config config;

	node_config_init(&config, true, IRIS_STR_NONE);
	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct config_problem problem = { .app = NULL };

		if (meets(&config, cases[i].entry, &problem) != cases[i].met)
			fail_msg("%s=%s", cases[i].entry.var, cases[i].entry.value);
		if (cases[i].met)
			continue;
		assert_int_equal(problem.condition, IRIS_CONFLICT);
		assert_string_equal(problem.app, "precondition-not-met");
	}
	node_config_free(&config);
}

/* A form for the owner of a host's node offers nothing that needs a roster. */
static void
test_form_of_a_host(void **state)
{
	struct iris_element *parent = element_new(arena, "configure", NS_PUBSUB), *form;
	struct pubsub_config config;
	struct iris_strbuf text = STRBUF_INIT(arena);

	node_config_init(&config, false, IRIS_STR_NONE);
	node_config_add_form(parent, &config, false);
	form = form_find(parent, "form");
	assert_true(form_is_type(form, NS_PUBSUB "#node_config"));
	element_write(&text, form, IRIS_STR_NONE);
	assert_null(strstr(strbuf_str(&text).base, "<option label='presence'>"));
	assert_null(strstr(text.base, "<option label='roster'>"));
	assert_null(strstr(text.base, "roster_groups_allowed"));
	assert_non_null(strstr(text.base, "<option label='whitelist'>"));
	node_config_free(&config);
}

static void
test_metadata_tells_little(void **state)
{
	struct iris_element *form = form_add(element_new(arena, "query", NS_PUBSUB), "result",
					     NS_PUBSUB "#meta-data");
	struct pubsub_config config;
	struct config_problem problem;

	node_config_init(&config, true, IRIS_STR_NONE);
	assert_true(submit(&config, true, (struct entry){ "title", "Balcony" }, &problem));
	assert_true(submit(&config, true, (struct entry){ "roster_groups_allowed", "Secret" },
			   &problem));
	node_config_add_metadata(form, &config);
	assert_true(str_is(form_value(form, "pubsub#title"), "Balcony"));
	assert_true(str_is(form_value(form, "pubsub#access_model"), "presence"));
	assert_true(str_is_none(form_value(form, "pubsub#roster_groups_allowed")));
	node_config_free(&config);
}

static int
group_setup(void **state)
{
	struct iris_report report = { .error_count = 0 };

	file = config_parse("test", IRIS_STR("pubsub: {items-max: 100}\n"), &report);
	if (!file)
		return -1;
	atomic_store(&pubsub_self.settings,
		     settings_make(file, "pubsub", iris_module_pubsub.options, &report));
	report_clear(&report);
	return 0;
}

static int
group_teardown(void **state)
{
	atomic_store(&pubsub_self.settings, NULL);
	config_free(&file);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(test_defaults),
		ARENA_TEST(test_submitted_survives),
		ARENA_TEST(test_all_at_once),
		ARENA_TEST(test_refused),
		ARENA_TEST(test_left_alone),
		ARENA_TEST(test_of_a_host),
		ARENA_TEST(test_lines_in_texts),
		ARENA_TEST(test_unknown_lines),
		ARENA_TEST(test_preconditions),
		ARENA_TEST(test_form_of_a_host),
		ARENA_TEST(test_metadata_tells_little),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
