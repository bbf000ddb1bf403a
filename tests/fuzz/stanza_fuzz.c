/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees and stanzas from any bytes.  Oracle: the written tree is parsed to the same tree, which is
 * written to the same bytes; a delivery is one element; what is escaped comes back; an error is
 * never answered.
 */
#include "element_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
attributes_equal(const struct iris_attr *a, const struct iris_attr *b)
{
	for (; a && b; a = a->next, b = b->next) {
		if (!str_equal(a->name, b->name) || !str_equal(a->ns, b->ns) ||
		    !str_equal(a->value, b->value))
			return false;
	}
	return a == b;
}

static bool
trees_equal(const struct iris_element *a, const struct iris_element *b)
{
	if (!str_equal(a->name, b->name) || !attributes_equal(a->attrs, b->attrs))
		return false;
	if (str_is_none(a->name))
		return str_equal(a->text, b->text);
	if (!str_equal(a->ns, b->ns))
		return false;
	a = a->first;
	b = b->first;
	for (; a && b; a = a->next, b = b->next) {
		if (!trees_equal(a, b))
			return false;
	}
	return a == b;
}

static struct iris_str
tree_text(struct iris_arena *arena, const struct iris_element *tree)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);

	element_write(&buf, tree, IRIS_STR_NONE);
	return strbuf_str(&buf);
}

static void
check_tree(struct iris_arena *arena, struct iris_element *tree)
{
	struct iris_str text = tree_text(arena, tree);
	struct iris_element *again = element_parse(arena, text);

	IRIS_ASSERT(again && trees_equal(tree, again));
	IRIS_ASSERT(str_equal(tree_text(arena, again), text));
	again = element_copy(arena, tree);
	element_join_texts(again);
	IRIS_ASSERT(trees_equal(tree, again));
}

static void
check_delivery(struct iris_stanza *stanza)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf buf = STRBUF_INIT(arena);
	struct iris_delivery delivery = { .stanza = stanza,
					  .to = jid_from_prepared(IRIS_STR("a@b/c")),
					  .extra = IRIS_STR("<extra/>") };
	struct iris_element *again;

	strbuf_add(&buf, IRIS_STR("<x xmlns='" NS_CLIENT "'>"));
	delivery_write(&buf, &delivery);
	strbuf_add(&buf, IRIS_STR("</x>"));
	again = element_parse(arena, strbuf_str(&buf));
	/* One level more than the stanza's own may be one too many. */
	if (again) {
		IRIS_ASSERT(again->first == again->last &&
			    str_equal(again->first->name, stanza->root->name));
		IRIS_ASSERT(str_is(element_get(again->first, "to"), "a@b/c"));
	}
	arena_unref(&arena);
}

static void
check_stanza(struct iris_stanza *stanza)
{
	struct iris_refusal refusal = { .condition = IRIS_BAD_REQUEST, .text = "<&>" };
	struct iris_stanza *error = stanza_error(stanza, &refusal), *copy = stanza_copy(stanza);

	IRIS_ASSERT((error == NULL) == (stanza->type == IRIS_ERROR || stanza->type == IRIS_RESULT));
	if (error) {
		stanza_freeze(error);
		check_delivery(error);
		IRIS_ASSERT(stanza_error(error, &refusal) == NULL);
	}
	stanza_freeze(stanza);
	stanza_freeze(copy);
	IRIS_ASSERT(str_equal(stanza->inner, copy->inner));
	IRIS_ASSERT(str_equal(jid_full(&stanza->from), jid_full(&copy->from)));
	check_delivery(stanza);
	stanza_unref(&copy);
	stanza_unref(&error);
}

/* Whatever the bytes, escaped they are text; and text comes back unchanged. */
static void
check_escape(struct iris_arena *arena, struct iris_str bytes)
{
	struct iris_strbuf buf = STRBUF_INIT(arena), twice = STRBUF_INIT(arena);
	struct iris_element *tree;

	strbuf_add(&buf, IRIS_STR("<a b='"));
	xml_escape(&buf, bytes);
	strbuf_add(&buf, IRIS_STR("'>"));
	xml_escape(&buf, bytes);
	strbuf_add(&buf, IRIS_STR("</a>"));
	if (buf.len > 60000)
		return;
	tree = element_parse(arena, strbuf_str(&buf));
	IRIS_ASSERT(tree && str_equal(element_get(tree, "b"), element_get_text(tree)));
	strbuf_add(&twice, IRIS_STR("<a b='"));
	xml_escape(&twice, element_get_text(tree));
	strbuf_add(&twice, IRIS_STR("'>"));
	xml_escape(&twice, element_get_text(tree));
	strbuf_add(&twice, IRIS_STR("</a>"));
	IRIS_ASSERT(str_equal(strbuf_str(&buf), strbuf_str(&twice)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_str xml = { (const char *)data, size };
	struct iris_arena *arena = arena_new();
	struct iris_element *tree = element_parse(arena, xml);
	struct iris_stanza *stanza = NULL;
	const char *condition;
	int64_t ms;

	check_escape(arena, xml);
	if (datetime_parse(xml, &ms))
		IRIS_ASSERT(ms >= -62135596800000 - 50400000 && ms <= 253402300799999 + 50400000);
	if (tree) {
		check_tree(arena, tree);
		stanza = stanza_from_element(arena, tree, &condition);
	}
	if (stanza) {
		check_stanza(stanza);
		stanza_unref(&stanza);
	} else {
		arena_unref(&arena);
	}
	return 0;
}
