/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All modules that are linked in, as they are: their descriptors hold, nobody is in another's way,
 * what is documented can be read back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "module_private.h"

static struct iris_report report;

static void
check_options(const struct iris_module *module, const struct iris_option *options)
{
	for (; options && options->name; options++) {
		if (options->help == NULL || strlen(options->help) < 5)
			fail_msg("%s.%s has no help", module->name, options->name);
		for (const char *c = options->name; *c; c++)
			if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-'))
				fail_msg("%s.%s is no name of an option", module->name,
					 options->name);
		if ((options->type == IRIS_OPT_CHOICE) != (options->choices != NULL))
			fail_msg("%s.%s: choices", module->name, options->name);
		if ((options->type == IRIS_OPT_RECORDS) != (options->fields != NULL))
			fail_msg("%s.%s: fields", module->name, options->name);
		check_options(module, options->fields);
	}
}

/* "XEP-0124 1.11, XEP-0206 1.4": each is one that the DOAP file takes, and no other module's. */
static void
check_xeps(const struct iris_module *module, bool *seen)
{
	const char *entry = module->xep;
	unsigned number;
	int len;

	while (entry) {
		len = 0;
		if (sscanf(entry, "XEP-%4u %*[0-9.]%n", &number, &len) != 1 || len < 10 ||
		    entry[8] != ' ' || (entry[len] != '\0' && strncmp(&entry[len], ", ", 2) != 0))
			fail_msg("%s: xep is \"XEP-0000 version, XEP-0001 …\"", module->name);
		if (seen[number])
			fail_msg("%s: another module has XEP-%04u, too", module->name, number);
		seen[number] = true;
		entry = entry[len] ? &entry[len + 2] : NULL;
	}
}

static void
descriptors_hold(void **state)
{
	bool seen[10000] = { false };

	for (const struct iris_module *const *m = modules_linked; *m; m++) {
		struct iris_error error = { .message = "" };

		if (!module_check(*m, &error))
			fail_msg("%s: %s", (*m)->name, error.message);
		if (strlen((*m)->summary) < 5 || (*m)->summary[strlen((*m)->summary) - 1] == '.')
			fail_msg("%s: the summary is a phrase without a full stop", (*m)->name);
		check_xeps(*m, seen);
		check_options(*m, (*m)->options);
		for (const struct iris_hook_handler *h = (*m)->hooks; h && h->fn; h++)
			assert_true(h->id < IRIS_HOOK_COUNT && h->band <= IRIS_OBSERVE);
		for (const struct iris_iq *iq = (*m)->iq; iq && iq->name; iq++)
			if (!iq->ns || !iq->handle || !iq->targets ||
			    (iq->type != IRIS_GET && iq->type != IRIS_SET))
				fail_msg("%s: iq %s", (*m)->name, iq->name);
		for (const struct iris_command *const *c = (*m)->commands; c && *c; c++)
			if (!(*c)->noun || !(*c)->verb || !(*c)->summary || !(*c)->run)
				fail_msg("%s: a command", (*m)->name);
	}
}

/* Every default holds (asserted inside), every need is there; what is left, only operators know. */
static void
defaults_hold(void **state)
{
	struct module_choice *choice = calloc(1, sizeof(*choice));
	struct iris_config *config = config_parse("iris.yaml", IRIS_STR(""), &report);

	const bool chosen = module_choose(modules_linked, config, choice, &report);
	assert_int_equal(chosen, report.error_count == 0);
	for (size_t i = 0; i < report.error_count; i++)
		if (!strstr(report.errors[i], "is required") &&
		    !strstr(report.errors[i], "environment variable") &&
		    strncmp(report.errors[i], "modules: ", 9) == 0)
			fail_msg("%s", report.errors[i]);
	report_clear(&report);
	config_free(&config);
	free(choice);
}

static void
nobody_is_in_anothers_way(void **state)
{
	static const struct module_table *const tables[] = { &hook_table, &iq_table, &element_table,
							     &command_set, &feature_table };
	struct module_set *set = calloc(1, sizeof(*set));
	struct iris_error error;

	for (const struct iris_module *const *m = modules_linked; *m; m++)
		set->modules[set->count++] = *m;
	for (size_t i = 0; i < IRIS_COUNT(tables); i++) {
		void *table = tables[i]->build(set, &error);
		if (table == NULL)
			fail_msg("%s", error.message);
		tables[i]->free(table);
	}
	free(set);
}

static char *
written(void (*write)(FILE *out, const struct iris_module *const *modules))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	write(out, modules_linked);
	fclose(out);
	return text;
}

static void
documents_can_be_read(void **state)
{
	char *sample = written(config_write_sample), *doap = written(modules_write_doap),
	     *manual = written(config_write_manual);
	struct iris_arena *arena = arena_new();
	struct iris_config *config = config_parse("sample", str_from(sample), &report);
	const char *element = strstr(doap, "<rdf:RDF");

	assert_non_null(config); /* all commented: empty */
	assert_null(config->root->first);
	assert_non_null(element_parse(arena, str_from(element)));
	for (const struct iris_module *const *m = modules_linked; *m; m++)
		if ((*m)->options && (*m)->options->name && !strstr(manual, (*m)->name))
			fail_msg("%s is not in the manual", (*m)->name);
	config_free(&config);
	arena_unref(&arena);
	free(sample);
	free(doap);
	free(manual);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_hold),
		cmocka_unit_test(defaults_hold),
		cmocka_unit_test(nobody_is_in_anothers_way),
		cmocka_unit_test(documents_can_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
