/* SPDX-License-Identifier: Apache-2.0 */
/* Modules are chosen, checked, ordered, registered, refused and undone; and documented. */
#include "module_common.h"

/* --- choosing --- */

static void
descriptors_are_checked(void **state)
{
	struct iris_module module = base;

	module.magic = 7;
	assert_not_selected(LIST(&module), "{}",
			    "base: wrong magic 0x00000007: this is no module of Iris");
	module = base;
	module.abi = 99;
	assert_not_selected(LIST(&module), "{}",
			    "base: wrong ABI: the module has 99, this server 1");
	module = base;
	module.size = 8;
	assert_not_selected(LIST(&module), "{}", "base: wrong size: the descriptor has 8 bytes");
	module = base;
	module.self = NULL;
	assert_not_selected(LIST(&module), "{}", "options, but no self");
	module = base;
	module.name = "../x";
	assert_not_selected(LIST(&module), "{}", "no proper name");
}

static void
load_and_skip(void **state)
{
	run_modules(LIST(&base, &optional), "modules: {load: [optional], skip: [base]}\n");
	assert_true(module_is_loaded("optional"));
	assert_false(module_is_loaded("base"));
	modules_stop();
	run_modules(LIST(&base, &optional), "{}");
	assert_false(module_is_loaded("optional"));
	modules_stop();
	assert_not_selected(LIST(&base), "modules: {load: [bsae]}\n",
			    "there is no module \"bsae\", did you mean \"base\"?");
	assert_not_selected(LIST(&base), "modules: {skip: [nobody]}\n",
			    "there is no module \"nobody\"");
	assert_not_selected(LIST(&base), "modules: {load: [base], skip: [base]}\n",
			    "both in load and in skip");
	assert_not_selected(LIST(&base), "bas: {limit: 3}\n",
			    "iris.yaml:1: there is no module \"bas\", did you mean \"base\"?");
}

static void
every_section_is_checked(void **state)
{
	assert_not_selected(LIST(&base, &optional),
			    "optional: {limit: 12}\nbase: {limt: 1, limit: x, greeting: boo}\n",
			    "optional.limit: \"12\" is out of range 1 … 9");
	assert_not_selected(
		LIST(&base), "base:\n  limt: 1\n",
		"iris.yaml:2: base: there is no option \"limt\", did you mean \"limit\"?");
	assert_not_selected(LIST(&base), "base:\n  greeting: boo\n", "base: boo is no greeting");
}

static const struct iris_module circle_a = {
	IRIS_MODULE_HEAD,
	.name = "a",
	.summary = "x",
	.needs = IRIS_NAMES("b"),
};
static const struct iris_module circle_b = {
	IRIS_MODULE_HEAD,
	.name = "b",
	.summary = "x",
	.needs = IRIS_NAMES("c"),
};
static const struct iris_module circle_c = {
	IRIS_MODULE_HEAD,
	.name = "c",
	.summary = "x",
	.needs = IRIS_NAMES("a"),
};

static void
order_follows_needs(void **state)
{
	run_modules(LIST(&upper, &base), "{}");
	assert_string_equal(diary, "+base +upper");
	modules_stop();
	assert_string_equal(diary, "+base +upper -upper -base");
	assert_not_selected(LIST(&upper), "{}", "an-upper needs base, which is not there");
	assert_not_selected(LIST(&upper, &base), "modules: {skip: [base]}\n",
			    "an-upper needs base, which is not loaded");
	assert_not_selected(LIST(&base, &circle_a, &circle_b, &circle_c), "{}",
			    "in a circle: a → b → c → a");
}

/* --- registering --- */

static void
collect(const char *var, void *arg)
{
	note(var);
}

static void
everything_is_registered_and_undone(void **state)
{
	const struct iris_module *module;
	struct iris_request request = { .arena = NULL };

	run_modules(LIST(&base, &upper), "base: {greeting: hi}\n");
	assert_true(str_is(option_str(&base_self, GREETING), "hi"));
	assert_ptr_equal(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"), &module),
		&base_iq[0]);
	assert_ptr_equal(iq_find(IRIS_TO_ACCOUNT, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"),
				 &module),
			 &base_iq[0]);
	assert_ptr_equal(module, &base);
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_SET, IRIS_STR("query"), IRIS_STR("urn:test"), &module));
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:tesd"), &module));
	assert_int_equal(iq_run(&base_iq[0], &base, &request), IRIS_DONE);
	assert_true(request.is_self);
	diary[0] = '\0';
	stream_handler_run(stream_handler_find(IRIS_STR("a"), IRIS_STR("urn:test"), &module),
			   module, NULL, NULL);
	feature_each(IRIS_DISCO_HOST, collect, NULL);
	assert_string_equal(diary, "element urn:a urn:z"); /* sorted, each once */
	assert_ptr_equal(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("base"), IRIS_STR("list")),
			 &base_command);
	assert_ptr_equal(stream_role_find(IRIS_STR("test-role")), &base_role);
	assert_ptr_equal(accounts(), &base_accounts);
	assert_true(hook_is_used(IRIS_HOOK_ID_stanza_out));
	assert_false(hook_is_used(IRIS_HOOK_ID_stanza_in));
	metric_add(&base_metrics[0], 2);
	assert_int_equal(metric_value(&base_metrics[0]), 2);

	modules_stop();
	assert_null(
		iq_find(IRIS_TO_HOST, IRIS_GET, IRIS_STR("query"), IRIS_STR("urn:test"), &module));
	assert_null(stream_handler_find(IRIS_STR("a"), IRIS_STR("urn:test"), &module));
	assert_null(command_find(IRIS_ROLE_OPERATOR, IRIS_STR("base"), IRIS_STR("list")));
	assert_null(stream_role_find(IRIS_STR("test-role")));
	assert_false(hook_is_used(IRIS_HOOK_ID_stanza_out));
	assert_false(module_is_loaded("base"));
	assert_int_equal(base_metrics[0].slot, 0);
}

static void
conflicts_name_both(void **state)
{
	struct iris_module twin = {
		IRIS_MODULE_HEAD,
		.name = "twin",
		.summary = "x",
		.self = &other_self,
	};

	twin.iq = base_iq;
	assert_not_started(LIST(&base, &twin, &upper),
			   "the modules base and twin both handle <query xmlns='urn:test'/>");
	twin.iq = NULL, twin.elements = base_elements;
	assert_not_started(LIST(&base, &twin),
			   "the modules base and twin both handle <a xmlns='urn:test'/>");
	twin.elements = NULL, twin.commands = base.commands;
	assert_not_started(LIST(&base, &twin), "both have the command \"base list\"");
	twin.commands = NULL, twin.accounts = base.accounts;
	assert_not_started(LIST(&base, &twin), "the modules base and twin both keep accounts");
	twin.accounts = NULL, twin.roles = base.roles;
	assert_not_started(LIST(&base, &twin), "both have the stream role \"test-role\"");
	assert_string_equal(diary, ""); /* nobody was started for it */
}

static void
a_failing_start_leaves_the_others_to_be_stopped(void **state)
{
	assert_not_started(LIST(&base, &upper, &failing),
			   "the module failing did not start: it rains");
	assert_string_equal(error.hint, "none");
	assert_string_equal(diary, "+base +upper -upper -base");
}

/* --- documents --- */

static char *
written(void (*write)(FILE *out, const struct iris_module *const *modules))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	write(out, LIST(&optional, &base, &iris_module_modules));
	fclose(out);
	return text;
}

static void
assert_says(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

/* The sample, but for its head, without the first '#' of all lines that are not prose ("# …"). */
static char *
uncommented(const char *sample)
{
	char *text = calloc(1, strlen(sample) + 1), *to = text;

	for (const char *from = strstr(sample, "\n\n# "); *from;) {
		from += from[0] == '#' && !(from[1] == ' ' && from[2] != ' ');
		while (*from && *from != '\n')
			*to++ = *from++;
		if (*from)
			*to++ = *from++;
	}
	return text;
}

static void
documents(void **state)
{
	char *manual = written(config_write_manual), *sample = written(config_write_sample),
	     *doap = written(modules_write_doap), *yaml = uncommented(sample);

	assert_says(manual, ".Ss base\n");
	assert_says(manual, ".It Cm limit\n");
	assert_says(manual, "Value: an integer, 1 … 9.\nDefault: 3.\nA change needs a restart.\n");
	assert_says(manual, "It is a secret and never printed.\n");
	assert_says(sample, "#base:\n");
	assert_says(sample, "#  limit: 3\n");
	assert_says(doap, "rdf:resource=\"https://xmpp.org/extensions/xep-9999.html\"");
	assert_says(doap, "<xmpp:version>1.2</xmpp:version>");
	if (!select_(LIST(&optional, &base, &iris_module_modules), yaml))
		fail_msg("%s in:\n%s", report.errors[0], yaml);
	modules_stop();
	free(yaml);
	free(manual);
	free(sample);
	free(doap);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_are_checked),
		cmocka_unit_test(load_and_skip),
		cmocka_unit_test(every_section_is_checked),
		cmocka_unit_test(order_follows_needs),
		cmocka_unit_test(everything_is_registered_and_undone),
		cmocka_unit_test(conflicts_name_both),
		cmocka_unit_test(a_failing_start_leaves_the_others_to_be_stopped),
		cmocka_unit_test(documents),
	};
	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
