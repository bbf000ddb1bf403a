/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0115 §5.1: the verification string of an answer to disco#info, and the checks of §5.4.  Any
 * thread.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "xep/xep0004_forms.h"
#include "xep/xep0030_disco.h"
#include "xep/xep0115_caps.h"

static int
caps_compare(const void *a, const void *b)
{
	const struct iris_str *x = a, *y = b;
	size_t len = x->len < y->len ? x->len : y->len;
	int order = len ? memcmp(x->base, y->base, len) : 0;

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* A list of strings in the arena, to be sorted and written with '<' behind each. */
struct caps_strings {
	struct iris_arena *arena;
	struct iris_str *items;
	size_t count, cap;
	bool twice; /* the same item came again: §5.4 3.2 and 3.3 */
};

static void
caps_strings_add(struct caps_strings *strings, struct iris_str item)
{
	if (strings->count == strings->cap) {
		struct iris_str *larger;

		strings->cap = strings->cap ? strings->cap * 2 : 16;
		larger = arena_alloc(strings->arena, strings->cap * sizeof(*larger));
		if (strings->count)
			memcpy(larger, strings->items, strings->count * sizeof(*larger));
		strings->items = larger;
	}
	strings->items[strings->count++] = item;
}

static void
caps_strings_write(struct caps_strings *strings, struct iris_strbuf *text, bool with_separator)
{
	if (strings->count > 1)
		qsort(strings->items, strings->count, sizeof(*strings->items), caps_compare);
	for (size_t i = 0; i < strings->count; i++) {
		if (i > 0 && str_equal(strings->items[i], strings->items[i - 1]))
			strings->twice = true;
		strbuf_add(text, strings->items[i]);
		if (with_separator)
			strbuf_add_char(text, '<');
	}
}

static bool
caps_write_identities(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *child = element_child(query, "identity", NS_INFO);

	for (; child; child = element_next(child, "identity", NS_INFO))
		caps_strings_add(&strings,
				 arena_printf(text->arena, "%.*s/%.*s/%.*s/%.*s",
					      IRIS_STR_FMT(element_get(child, "category")),
					      IRIS_STR_FMT(element_get(child, "type")),
					      IRIS_STR_FMT(element_lang(child)),
					      IRIS_STR_FMT(element_get(child, "name"))));
	caps_strings_write(&strings, text, true);
	return !strings.twice;
}

static bool
caps_write_features(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *child = element_child(query, "feature", NS_INFO);

	for (; child; child = element_next(child, "feature", NS_INFO))
		caps_strings_add(&strings, element_get(child, "var"));
	caps_strings_write(&strings, text, true);
	return !strings.twice;
}

static struct iris_str
caps_field_text(struct iris_arena *arena, const struct iris_element *field)
{
	struct caps_strings values = { .arena = arena };
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_element *value = element_child(field, "value", NULL);

	strbuf_add(&text, element_get(field, "var"));
	strbuf_add_char(&text, '<');
	for (; value; value = element_next(value, "value", NULL))
		caps_strings_add(&values, element_get_text(value));
	caps_strings_write(&values, &text, true);
	return strbuf_str(&text);
}

/*
 * §5.1 7: FORM_TYPE's value first, then the fields by var. None: a form without a hidden
 * FORM_TYPE, not counted.
 */
static struct iris_str
caps_form_text(struct iris_arena *arena, const struct iris_element *form)
{
	struct caps_strings fields = { .arena = arena };
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_str form_type = IRIS_STR_NONE;
	struct iris_element *field = element_child(form, "field", NULL);

	for (; field; field = element_next(field, "field", NULL)) {
		if (!str_is(element_get(field, "var"), "FORM_TYPE"))
			caps_strings_add(&fields, caps_field_text(arena, field));
		else if (str_is(element_get(field, "type"), "hidden"))
			form_type = element_child_text(field, "value", NULL);
	}
	if (str_is_none(form_type))
		return IRIS_STR_NONE;
	strbuf_add(&text, form_type);
	strbuf_add_char(&text, '<');
	caps_strings_write(&fields, &text, false);
	return strbuf_str(&text);
}

static void
caps_write_forms(struct iris_strbuf *text, const struct iris_element *query)
{
	struct caps_strings strings = { .arena = text->arena };
	struct iris_element *form = element_child(query, "x", NS_DATA);

	for (; form; form = element_next(form, "x", NS_DATA)) {
		struct iris_str form_text = caps_form_text(text->arena, form);

		if (!str_is_none(form_text))
			caps_strings_add(&strings, form_text);
	}
	caps_strings_write(&strings, text, false);
}

struct iris_str
caps_hash(struct iris_arena *arena, const struct iris_element *query)
{
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_strbuf *written = &text;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	bool well_formed = caps_write_identities(written, query);

	well_formed = caps_write_features(written, query) && well_formed;
	caps_write_forms(written, query);
	if (!well_formed ||
	    EVP_Digest(text.len ? text.base : "", text.len, digest, &length, EVP_sha1(), NULL) != 1)
		return IRIS_STR_NONE;
	return base64_encode(arena, (struct iris_str){ (const char *)digest, length });
}
