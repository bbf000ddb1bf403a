/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modules/rooms/config.c: what a form makes of a room's configuration, that it is the same after it
 * was kept as text and shown as a form, what is refused, and what a policy has fixed.
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
#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"

extern const struct iris_module iris_module_rooms;

static struct iris_config *file;

struct entry {
	const char *var, *value; /* of "muc#roomconfig_var"; several values: a line each */
};

/* --- helpers --- */

static struct iris_element *
form_of(const struct entry *entries, size_t count)
{
	struct iris_element *form = form_add(element_new(arena, "query", NS_MUC_OWNER), "submit",
					     NS_MUC "#roomconfig");

	for (size_t i = 0; i < count; i++) {
		struct iris_str var =
			strcmp(entries[i].var, "maxhistoryfetch") == 0 ?
				IRIS_STR("muc#maxhistoryfetch") :
				arena_printf(arena, "muc#roomconfig_%s", entries[i].var);
		struct iris_element *field = form_add_field(form, NULL, var.base, IRIS_STR_NONE);

		for (const char *at = entries[i].value; at; at = strchr(at, '\n')) {
			at += *at == '\n';
			form_field_add_value(field, (struct iris_str){ at, strcspn(at, "\n") });
		}
	}
	return form;
}

static enum iris_condition
submit(struct room_config *config, struct entry entry, const char *fixed, const char **text_r)
{
	return room_config_submit(config, form_of(&entry, 1), fixed, text_r);
}

static void
assert_same(const struct room_config *a, const struct room_config *b)
{
	assert_memory_equal(a->numbers, b->numbers, sizeof(a->numbers));
	for (int i = 0; i < ROOM_CONFIG_TEXT_COUNT; i++) {
		assert_int_equal(a->texts[i] == NULL, b->texts[i] == NULL);
		if (a->texts[i])
			assert_string_equal(a->texts[i], b->texts[i]);
	}
}

/* Kept as text over other values, and shown as a form that is submitted over the defaults. */
static void
assert_survives(const struct room_config *config)
{
	struct iris_str text = room_config_write(arena, config);
	struct iris_element *parent = element_new(arena, "query", NS_MUC_OWNER);
	struct room_config kept, shown;
	const char *why = NULL;

	room_config_init(&kept, IRIS_STR("membersonly=1\nmaxusers=7\npresencebroadcast=\n"));
	room_config_set(&kept, text);
	assert_same(&kept, config);
	room_config_add_form(parent, config);
	assert_non_null(form_find(parent, "form"));
	room_config_init(&shown, IRIS_STR_NONE);
	assert_int_equal(room_config_submit(&shown, form_find(parent, "form"), NULL, &why),
			 IRIS_NO_ERROR);
	assert_same(&shown, config);
	room_config_free(&kept);
	room_config_free(&shown);
}

/* --- tests --- */

static void
test_defaults(void **state)
{
	struct room_config config;

	room_config_init(&config, IRIS_STR_NONE);
	assert_int_equal(config.numbers[ROOM_CONFIG_PERSISTENT], 0);
	assert_int_equal(config.numbers[ROOM_CONFIG_PUBLIC], 1);
	assert_int_equal(config.numbers[ROOM_CONFIG_WHOIS], ROOM_WHOIS_MODERATORS);
	assert_int_equal(config.numbers[ROOM_CONFIG_PRESENCE_VISITOR], 1);
	assert_int_equal(config.numbers[ROOM_CONFIG_PRESENCE_PARTICIPANT], 1);
	assert_int_equal(config.numbers[ROOM_CONFIG_PRESENCE_MODERATOR], 1);
	assert_survives(&config);
}

static const struct {
	struct entry entry;
	int field; /* a number, or -1: a text, which is what was submitted */
	int32_t number;
} taken[] = {
	{ { "persistentroom", "1" }, ROOM_CONFIG_PERSISTENT, 1 },
	{ { "publicroom", "false" }, ROOM_CONFIG_PUBLIC, 0 },
	{ { "membersonly", "true" }, ROOM_CONFIG_MEMBERS_ONLY, 1 },
	{ { "moderatedroom", "1" }, ROOM_CONFIG_MODERATED, 1 },
	{ { "whois", "anyone" }, ROOM_CONFIG_WHOIS, ROOM_WHOIS_ANYONE },
	{ { "changesubject", "1" }, ROOM_CONFIG_CHANGE_SUBJECT, 1 },
	{ { "allowinvites", "0" }, ROOM_CONFIG_ALLOW_INVITES, 0 },
	{ { "allowpm", "moderators" }, ROOM_CONFIG_ALLOW_PM, ROOM_PM_MODERATORS },
	{ { "maxusers", "none" }, ROOM_CONFIG_MAX_USERS, 0 },
	{ { "maxusers", "30" }, ROOM_CONFIG_MAX_USERS, 30 },
	{ { "maxusers", "33" }, ROOM_CONFIG_MAX_USERS, 33 },
	{ { "maxhistoryfetch", "0" }, ROOM_CONFIG_HISTORY, 0 },
	{ { "maxhistoryfetch", "40" }, ROOM_CONFIG_HISTORY, 40 },
	{ { "enablelogging", "0" }, ROOM_CONFIG_ARCHIVE, 0 },
	{ { "presencebroadcast", "moderator\nvisitor" }, ROOM_CONFIG_PRESENCE_PARTICIPANT, 0 },
	{ { "presencebroadcast", NULL }, ROOM_CONFIG_PRESENCE_MODERATOR, 0 },
	{ { "getmemberlist", "moderator" }, ROOM_CONFIG_GET_MEMBER_LIST, 1 << ROOM_MODERATOR },
	{ { "getmemberlist", NULL }, ROOM_CONFIG_GET_MEMBER_LIST, 0 },
	{ { "allowregister", "0" }, ROOM_CONFIG_REGISTER, 0 },
	{ { "allowvoicerequests", "0" }, ROOM_CONFIG_VOICE_REQUESTS, 0 },
	{ { "allownickchange", "0" }, ROOM_CONFIG_CHANGE_NICK, 0 },
	{ { "roomname", "A sword = a pen" }, -1, ROOM_CONFIG_NAME },
	{ { "roomdesc", "membersonly=1" }, -1, ROOM_CONFIG_DESCRIPTION },
	{ { "roomsecret", "cauldronburn" }, -1, ROOM_CONFIG_SECRET },
	{ { "lang", "it" }, -1, ROOM_CONFIG_LANGUAGE },
};

static void
test_submitted_survives(void **state)
{
	for (size_t i = 0; i < IRIS_COUNT(taken); i++) {
		struct room_config config;
		const char *why = NULL;

		room_config_init(&config, IRIS_STR_NONE);
		if (submit(&config, taken[i].entry, NULL, &why) != IRIS_NO_ERROR)
			fail_msg("%s=%s: %s", taken[i].entry.var, taken[i].entry.value, why);
		if (taken[i].field >= 0)
			assert_int_equal(config.numbers[taken[i].field], taken[i].number);
		else
			assert_string_equal(config.texts[taken[i].number], taken[i].entry.value);
		assert_survives(&config);
		room_config_free(&config);
	}
}

static void
test_all_at_once(void **state)
{
	struct room_config config, copy;
	struct entry entries[IRIS_COUNT(taken)];
	const char *why = NULL;

	for (size_t i = 0; i < IRIS_COUNT(taken); i++)
		entries[i] = taken[i].entry;
	room_config_init(&config, IRIS_STR_NONE);
	assert_int_equal(room_config_submit(&config, form_of(entries, IRIS_COUNT(entries)), NULL,
					    &why),
			 IRIS_NO_ERROR);
	assert_survives(&config);
	room_config_copy(&copy, &config);
	assert_same(&copy, &config);
	room_config_free(&config);
	assert_survives(&copy); /* nothing of it was the other's */
	room_config_free(&copy);
}

static void
test_refused(void **state)
{
	static const struct entry refused[] = {
		{ "whois", "nobody" },
		{ "membersonly", "perhaps" },
		{ "allowpm", "1" },
		{ "maxusers", "101" },
		{ "maxusers", "-1" },
		{ "maxusers", "many" },
		{ "maxhistoryfetch", "51" },
		{ "presencebroadcast", "owner" },
		{ "presencebroadcast", "none" },
		{ "getmemberlist", "moderators" },
		{ "lang", "en-with-a-very-long-private-use-subtag-x" },
	};

	for (size_t i = 0; i < IRIS_COUNT(refused); i++) {
		struct room_config config, before;
		const char *why = NULL;

		room_config_init(&config, IRIS_STR_NONE);
		room_config_init(&before, IRIS_STR_NONE);
		if (submit(&config, refused[i], NULL, &why) != IRIS_NOT_ACCEPTABLE)
			fail_msg("%s=%s", refused[i].var, refused[i].value);
		/* Which field it is, stands in the text. */
		assert_non_null(why);
		assert_non_null(strstr(why, refused[i].var));
		assert_same(&config, &before);
	}
}

/* §10.1.3 */
static void
test_password_is_needed(void **state)
{
	static const struct entry both[] = { { "passwordprotectedroom", "1" },
					     { "roomsecret", "x" } };
	struct room_config config;
	const char *why = NULL;

	room_config_init(&config, IRIS_STR_NONE);
	assert_int_equal(submit(&config, both[0], NULL, &why), IRIS_NOT_ACCEPTABLE);
	room_config_free(&config);
	room_config_init(&config, IRIS_STR_NONE);
	assert_int_equal(room_config_submit(&config, form_of(both, 2), NULL, &why),
			 IRIS_NO_ERROR);
	assert_int_equal(submit(&config, (struct entry){ "roomsecret", "" }, NULL, &why),
			 IRIS_NOT_ACCEPTABLE);
	room_config_free(&config);
}

/* What is not known, not done, without a value, or not a form's to say, changes nothing. */
static void
test_left_alone(void **state)
{
	static const struct entry entries[] = {
		{ "unheard_of", "1" }, { "roomadmins", "juliet@example" }, { "pubsub", "x" },
		{ "maxusers", "" },    { "membersonly", NULL },		   { "policy", "archived" },
	};
	struct room_config config, before;
	const char *why = NULL;

	room_config_init(&config, IRIS_STR_NONE);
	room_config_init(&before, IRIS_STR_NONE);
	assert_int_equal(room_config_submit(&config, form_of(entries, IRIS_COUNT(entries)), NULL,
					    &why),
			 IRIS_NO_ERROR);
	assert_same(&config, &before);
}

/* SECURITY: no text may set a field behind it. */
static void
test_lines_in_texts(void **state)
{
	struct iris_element *form = form_of(NULL, 0);
	struct room_config config;
	const char *why = NULL;

	form_add_field(form, NULL, "muc#roomconfig_roomname",
		       IRIS_STR("one\nmembersonly=1\r\npolicy=archived"));
	room_config_init(&config, IRIS_STR_NONE);
	assert_int_equal(room_config_submit(&config, form, NULL, &why), IRIS_NO_ERROR);
	assert_string_equal(config.texts[ROOM_CONFIG_NAME],
			    "one membersonly=1  policy=archived");
	assert_survives(&config);
	room_config_free(&config);
}

/* What a version before, or after, has written. */
static void
test_unknown_lines(void **state)
{
	struct room_config config;

	room_config_init(&config, IRIS_STR("unheard_of=1\n\nno equals sign\nwhois=nobody\n"
					   "maxusers=5\n=\nroomname="));
	assert_int_equal(config.numbers[ROOM_CONFIG_WHOIS], ROOM_WHOIS_MODERATORS);
	assert_int_equal(config.numbers[ROOM_CONFIG_MAX_USERS], 5);
	assert_null(config.texts[ROOM_CONFIG_NAME]);
	room_config_free(&config);
}

static void
test_fixed(void **state)
{
	static const char fixed[] = "membersonly=1\npersistentroom=1\npresencebroadcast=moderator "
				    "participant visitor\n";
	static const struct {
		struct entry entry;
		bool taken;
	} cases[] = {
		{ { "membersonly", "1" }, true },
		{ { "membersonly", "true" }, true },
		{ { "membersonly", "0" }, false },
		{ { "persistentroom", "0" }, false },
		{ { "presencebroadcast", "visitor\nparticipant\nmoderator" }, true },
		{ { "presencebroadcast", "moderator" }, false },
		{ { "roomname", "x" }, true },
	};

	for (size_t i = 0; i < IRIS_COUNT(cases); i++) {
		struct room_config config;
		const char *why = NULL;

		room_config_init(&config, str_from(fixed));
		if ((submit(&config, cases[i].entry, fixed, &why) == IRIS_NO_ERROR) !=
		    cases[i].taken)
			fail_msg("%s=%s", cases[i].entry.var, cases[i].entry.value);
		room_config_free(&config);
	}
}

/* The password is for owners; what a policy keeps is in no form. */
static void
test_what_is_shown(void **state)
{
	struct iris_element *query = element_new(arena, "query", NS_MUC), *parent;
	struct room room = { .state = ROOM_OPEN };
	struct iris_strbuf text = STRBUF_INIT(arena);

	room_config_init(&room.config,
			 IRIS_STR("roomsecret=open-sesame\npasswordprotectedroom=1\n"
				  "policy=archived\nroomname=Cave\nmaxusers=12\n"));
	room_config_add_info(query, &room);
	element_write(&text, query, IRIS_STR_NONE);
	assert_non_null(strstr(strbuf_str(&text).base, "muc_passwordprotected"));
	assert_null(strstr(text.base, "open-sesame"));
	assert_null(strstr(text.base, "archived"));
	parent = element_new(arena, "query", NS_MUC_OWNER);
	room_config_add_form(parent, &room.config);
	text = STRBUF_INIT(arena);
	element_write(&text, parent, IRIS_STR_NONE);
	assert_non_null(strstr(strbuf_str(&text).base, "open-sesame"));
	assert_null(strstr(text.base, "archived"));
	assert_true(str_is(room_config_get(&room, "maxusers"), "12"));
	assert_true(str_is(room_config_get(&room, "policy"), "archived"));
	assert_true(str_is(room_config_get(&room, "presencebroadcast"),
			   "moderator participant visitor"));
	assert_true(str_is_none(room_config_get(&room, "unheard_of")));
	room_config_free(&room.config);
}

static int
group_setup(void **state)
{
	struct iris_report report = { .error_count = 0 };

	file = config_parse("test", IRIS_STR("rooms: {max-occupants: 100, history: 50}\n"),
			    &report);
	if (!file)
		return -1;
	atomic_store(&rooms_self.settings,
		     settings_make(file, "rooms", iris_module_rooms.options, &report));
	report_clear(&report);
	return 0;
}

static int
group_teardown(void **state)
{
	atomic_store(&rooms_self.settings, NULL);
	config_free(&file);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(test_defaults),	     ARENA_TEST(test_submitted_survives),
		ARENA_TEST(test_all_at_once),	     ARENA_TEST(test_refused),
		ARENA_TEST(test_password_is_needed), ARENA_TEST(test_left_alone),
		ARENA_TEST(test_lines_in_texts),     ARENA_TEST(test_unknown_lines),
		ARENA_TEST(test_fixed),		     ARENA_TEST(test_what_is_shown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
