/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of elements: building, reading, copying.  One thread while a tree is built; any number once
 * it is frozen.  All reading functions accept NULL and find nothing in it, so that a chain of
 * look-ups needs one check at its end.  Recursion is bounded by STANZA_DEPTH_MAX: the parser
 * refuses deeper trees, and handlers nest what they received by a constant only.
 */
#include <inttypes.h>
#include <stdio.h>

#include "element_private.h"

#define XML_PREFIX "xml:"

/* "xml:lang" is an attribute with a namespace; all other names have none here. */
static struct iris_str
attribute_split(const char *name, struct iris_str *ns_r)
{
	bool is_xml = strncmp(name, XML_PREFIX, sizeof(XML_PREFIX) - 1) == 0;

	*ns_r = is_xml ? IRIS_STR(NS_XML) : IRIS_STR_NONE;
	return str_from(is_xml ? name + sizeof(XML_PREFIX) - 1 : name);
}

static struct iris_attr *
attribute_find(const struct iris_element *element, struct iris_str name, struct iris_str ns)
{
	struct iris_attr *attr = element ? element->attrs : NULL;

	while (attr && !(str_equal(attr->name, name) && str_equal(attr->ns, ns)))
		attr = attr->next;
	return attr;
}

static void
attribute_remove(struct iris_element *element, const struct iris_attr *attr)
{
	struct iris_attr **link = &element->attrs;

	while (*link != attr)
		link = &(*link)->next;
	*link = attr->next;
}

static void
attribute_append(struct iris_element *element, struct iris_attr *attr)
{
	struct iris_attr **link = &element->attrs;

	while (*link)
		link = &(*link)->next;
	*link = attr;
}

static void
attribute_set(struct iris_element *element, const char *name, struct iris_str value)
{
	struct iris_str ns, local = attribute_split(name, &ns);
	struct iris_attr *attr = attribute_find(element, local, ns);

	/* A namespace is a field, the writer declares it. */
	IRIS_ASSERT(strcmp(name, "xmlns") != 0);
	if (str_is_none(value)) {
		if (attr)
			attribute_remove(element, attr);
		return;
	}
	if (!attr) {
		attr = ARENA_NEW(element->arena, struct iris_attr);
		attr->name = local;
		attr->ns = ns;
		attribute_append(element, attr);
	}
	attr->value = value;
}

static void
element_link(struct iris_element *parent, struct iris_element *child)
{
	child->parent = parent;
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->text = IRIS_STR_NONE; /* its texts joined, if they were */
}

static bool
is_text(const struct iris_element *node)
{
	return str_is_none(node->name);
}

struct iris_element *
element_create(struct iris_arena *arena, struct iris_element *parent, struct iris_str name,
	       struct iris_str ns)
{
	struct iris_element *element = ARENA_NEW(arena, struct iris_element);

	element->arena = arena;
	element->name = name;
	element->ns = ns;
	if (parent)
		element_link(parent, element);
	return element;
}

struct iris_element *
element_new(struct iris_arena *arena, const char *name, const char *ns)
{
	return element_create(arena, NULL, str_from(name), str_from(ns));
}

struct iris_element *
element_add(struct iris_element *parent, const char *name, const char *ns)
{
	return element_create(parent->arena, parent, str_from(name),
			      ns ? str_from(ns) : parent->ns);
}

struct iris_element *
element_add_text(struct iris_element *parent, const char *name, const char *ns,
		 struct iris_str text)
{
	struct iris_element *child = element_add(parent, name, ns);

	element_text(child, text);
	return child;
}

void
element_append(struct iris_element *parent, struct iris_element *child)
{
	IRIS_ASSERT(child->parent == NULL && child->next == NULL);
	/* Or it would hang loose when its arena goes. */
	IRIS_ASSERT(child->arena == parent->arena);
	element_link(parent, child);
}

void
element_remove(struct iris_element *child)
{
	struct iris_element *parent = child->parent, *before = NULL;

	IRIS_ASSERT(parent != NULL);
	for (struct iris_element *node = parent->first; node != child; node = node->next)
		before = node;
	if (before)
		before->next = child->next;
	else
		parent->first = child->next;
	if (parent->last == child)
		parent->last = before;
	parent->text = IRIS_STR_NONE;
	child->parent = child->next = NULL;
}

void
element_text(struct iris_element *element, struct iris_str text)
{
	struct iris_element *node;

	if (str_is_empty(text))
		return;
	node = element_create(element->arena, element, IRIS_STR_NONE, IRIS_STR_NONE);
	node->text = arena_copy_str(element->arena, text);
}

void
element_set(struct iris_element *element, const char *name, struct iris_str value)
{
	attribute_set(element, name, arena_copy_str(element->arena, value));
}

void
element_set_int(struct iris_element *element, const char *name, int64_t value)
{
	attribute_set(element, name, arena_printf(element->arena, "%" PRId64, value));
}

static void
attributes_copy(struct iris_element *copy, const struct iris_element *element)
{
	struct iris_attr **link = &copy->attrs;

	for (const struct iris_attr *attr = element->attrs; attr; attr = attr->next) {
		struct iris_attr *twin = ARENA_NEW(copy->arena, struct iris_attr);

		twin->name = element_intern(copy->arena, attr->name);
		twin->value = arena_copy_str(copy->arena, attr->value);
		twin->ns = element_intern(copy->arena, attr->ns);
		*link = twin;
		link = &twin->next;
	}
}

/* The namespace as the parent's copy has it, when the original's was the same. */
static struct iris_str
ns_copy(struct iris_arena *arena, const struct iris_element *parent, struct iris_str ns)
{
	return parent && str_equal(parent->ns, ns) ? parent->ns : element_intern(arena, ns);
}

static struct iris_element *
copy_below(struct iris_arena *arena, struct iris_element *parent,
	   const struct iris_element *element)
{
	struct iris_element *copy;

	if (is_text(element)) {
		copy = element_create(arena, parent, IRIS_STR_NONE, IRIS_STR_NONE);
		copy->text = arena_copy_str(arena, element->text);
		return copy;
	}
	copy = element_create(arena, parent, element_intern(arena, element->name),
		ns_copy(arena, parent, element->ns));
	attributes_copy(copy, element);
	for (const struct iris_element *child = element->first; child; child = child->next)
		copy_below(arena, copy, child);
	return copy;
}

struct iris_element *
element_copy(struct iris_arena *arena, const struct iris_element *element)
{
	return copy_below(arena, NULL, element);
}

struct iris_str
element_get(const struct iris_element *element, const char *name)
{
	struct iris_str ns, local = attribute_split(name, &ns);
	const struct iris_attr *attr = attribute_find(element, local, ns);

	return attr ? attr->value : IRIS_STR_NONE;
}

struct iris_str
element_lang(const struct iris_element *element)
{
	return element_get(element, "xml:lang");
}

bool
element_is(const struct iris_element *element, const char *name, const char *ns)
{
	return element && !is_text(element) && (!name || str_is(element->name, name)) &&
	       (!ns || str_is(element->ns, ns));
}

static struct iris_element *
find_from(struct iris_element *node, const char *name, const char *ns)
{
	while (node && !element_is(node, name, ns))
		node = node->next;
	return node;
}

struct iris_element *
element_child(const struct iris_element *parent, const char *name, const char *ns)
{
	return find_from(parent ? parent->first : NULL, name, ns);
}

struct iris_element *
element_next(const struct iris_element *sibling, const char *name, const char *ns)
{
	return find_from(sibling ? sibling->next : NULL, name, ns);
}

static struct iris_str
texts_join(const struct iris_element *element)
{
	struct iris_strbuf buf = STRBUF_INIT(element->arena);

	for (const struct iris_element *node = element->first; node; node = node->next) {
		if (is_text(node))
			strbuf_add(&buf, node->text);
	}
	return strbuf_str(&buf);
}

/* The only text child; NULL with *several_r false: there is none. */
static const struct iris_element *
text_child(const struct iris_element *element, bool *several_r)
{
	const struct iris_element *found = NULL;

	*several_r = false;
	for (const struct iris_element *node = element->first; node; node = node->next) {
		if (!is_text(node))
			continue;
		*several_r = found != NULL;
		if (*several_r)
			return NULL;
		found = node;
	}
	return found;
}

struct iris_str
element_get_text(const struct iris_element *element)
{
	const struct iris_element *only;
	bool several;

	if (!element)
		return IRIS_STR_NONE;
	if (is_text(element) || element->text.base)
		return element->text;
	only = text_child(element, &several);
	if (several) {
		/* The join is kept: the tree's meaning does not change by it. */
		((struct iris_element *)element)->text = texts_join(element);
		return element->text;
	}
	return only ? only->text : IRIS_STR("");
}

void
element_join_texts(struct iris_element *element)
{
	if (is_text(element))
		return;
	(void)element_get_text(element);
	for (struct iris_element *child = element->first; child; child = child->next)
		element_join_texts(child);
}

struct iris_str
element_child_text(const struct iris_element *parent, const char *name, const char *ns)
{
	return element_get_text(element_child(parent, name, ns));
}
