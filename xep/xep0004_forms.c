/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0004 2.13: Data Forms, built and read. No protocol of its own: see xep0004_forms.h. */
#include "xep/xep0004_forms.h"

static struct iris_module_self forms_self;

struct iris_element *
form_add(struct iris_element *parent, const char *type, const char *form_type)
{
	struct iris_element *form = element_add(parent, "x", NS_DATA);

	element_set(form, "type", str_from(type));
	if (form_type)
		form_add_field(form, "hidden", "FORM_TYPE", str_from(form_type));
	return form;
}

void
form_set_title(struct iris_element *form, struct iris_str title, struct iris_str instructions)
{
	element_add_text(form, "title", NULL, title);
	if (!str_is_empty(instructions))
		element_add_text(form, "instructions", NULL, instructions);
}

struct iris_element *
form_add_field(struct iris_element *form, const char *type, const char *var, struct iris_str value)
{
	struct iris_element *field = element_add(form, "field", NULL);

	element_set(field, "type", str_from(type));
	element_set(field, "var", str_from(var));
	if (!str_is_none(value))
		form_field_add_value(field, value);
	return field;
}

void
form_field_add_value(struct iris_element *field, struct iris_str value)
{
	element_add_text(field, "value", NULL, value);
}

void
form_field_add_option(struct iris_element *field, struct iris_str value)
{
	struct iris_element *option = element_add(field, "option", NULL);

	element_set(option, "label", value);
	element_add_text(option, "value", NULL, value);
}

void
form_field_set_label(struct iris_element *field, struct iris_str label)
{
	element_set(field, "label", label);
}

void
form_field_set_required(struct iris_element *field)
{
	element_add(field, "required", NULL);
}

void
form_add_reported(struct iris_element *form, const char *const *columns)
{
	struct iris_element *reported = element_add(form, "reported", NULL);

	for (; *columns; columns++) {
		struct iris_element *field =
			form_add_field(reported, "text-single", *columns, IRIS_STR_NONE);

		form_field_set_label(field, str_from(*columns));
	}
}

void
form_add_item(struct iris_element *form, const char *const *columns, const struct iris_str *cells)
{
	struct iris_element *item = element_add(form, "item", NULL);

	for (; *columns; columns++, cells++)
		form_add_field(item, NULL, *columns, str_is_none(*cells) ? IRIS_STR("") : *cells);
}

struct iris_element *
form_find(const struct iris_element *parent, const char *type)
{
	struct iris_element *form = element_child(parent, "x", NS_DATA);

	while (form && !str_is(element_get(form, "type"), type))
		form = element_next(form, "x", NS_DATA);
	return form;
}

static struct iris_element *
form_find_field(const struct iris_element *form, const char *var)
{
	struct iris_element *field = element_child(form, "field", NS_DATA);

	while (field && !str_is(element_get(field, "var"), var))
		field = element_next(field, "field", NS_DATA);
	return field;
}

bool
form_is_type(const struct iris_element *form, const char *form_type)
{
	return str_is(form_value(form, "FORM_TYPE"), form_type);
}

struct iris_str
form_value(const struct iris_element *form, const char *var)
{
	struct iris_element *field = form_find_field(form, var);
	struct iris_str value = field ? element_child_text(field, "value", NS_DATA) : IRIS_STR_NONE;

	return str_is_empty(value) ? IRIS_STR_NONE : value;
}

struct iris_str
form_values(const struct iris_element *form, const char *var)
{
	struct iris_element *field = form_find_field(form, var), *value;
	struct iris_strbuf text = STRBUF_INIT(form->arena);

	if (!field)
		return IRIS_STR_NONE;
	for (value = element_child(field, "value", NS_DATA); value;
	     value = element_next(value, "value", NS_DATA)) {
		if (text.len > 0)
			strbuf_add_char(&text, '\n');
		strbuf_add(&text, element_get_text(value));
	}
	return strbuf_str(&text);
}

bool
form_value_is_true(struct iris_str value)
{
	return str_is(value, "1") || str_is(value, "true");
}

static const struct iris_feature forms_features[] = { { IRIS_DISCO_HOST, NS_DATA },
						      { .var = NULL } };

const struct iris_module iris_module_xep0004 = {
	IRIS_MODULE_HEAD,
	.name = "xep0004",
	.summary = "Data Forms",
	.xep = "XEP-0004 2.13.2",
	.self = &forms_self,
	.features = forms_features,
	.not_unloadable = true,
};
