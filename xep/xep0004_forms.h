/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0004: Data Forms, built and read; for plug-ins that name "xep0004" in their needs.  All in
 * the arena of the form; any thread.
 */
#ifndef IRIS_XEP0004_FORMS_H
#define IRIS_XEP0004_FORMS_H

#include "iris/module.h"

#define NS_DATA "jabber:x:data"

/* <x type='form|result|submit'/> as a child of parent. form_type: the hidden FORM_TYPE, or NULL. */
struct iris_element *form_add(struct iris_element *parent, const char *type, const char *form_type);
void form_set_title(struct iris_element *form, struct iris_str title, struct iris_str instructions);
/* A field with a value, or none when it is none. type NULL: no type attribute (results). */
struct iris_element *form_add_field(struct iris_element *form, const char *type, const char *var,
				    struct iris_str value);
void form_field_add_value(struct iris_element *field, struct iris_str value);
void form_field_add_option(struct iris_element *field, struct iris_str value);
void form_field_set_label(struct iris_element *field, struct iris_str label);
void form_field_set_required(struct iris_element *field);
/* Tables (§3.4): the columns once, then rows. */
void form_add_reported(struct iris_element *form, const char *const *columns);
void form_add_item(struct iris_element *form, const char *const *columns,
		   const struct iris_str *cells);

/* The form that is a child of parent, of this type ("submit", "cancel"); NULL: none. */
struct iris_element *form_find(const struct iris_element *parent, const char *type);
/* Does the submitted form have this FORM_TYPE? */
bool form_is_type(const struct iris_element *form, const char *form_type);
/* The (first) value of a field; none when the field is missing or empty. */
struct iris_str form_value(const struct iris_element *form, const char *var);
/* All values of a field, joined by newlines; none when the field is missing. */
struct iris_str form_values(const struct iris_element *form, const char *var);
/* "1", "true" */
bool form_value_is_true(struct iris_str value);

#endif
