/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees to text.  Any thread.  What is written stands by itself: every namespace that is not in
 * force around it is declared where it is used, so that it can be put into any stream, archive or
 * envelope.  Elements use the default namespace, with two exceptions: those of the stream namespace
 * are written with the prefix "stream", which many clients take for a part of the name, and those
 * of the namespace "xml", which no declaration may name, with that prefix.
 */
#include "element_private.h"

enum byte_class {
	PLAIN,
	SPECIAL,  /* '&' '<' '>', and the carriage return, which parsers would normalise */
	IN_VALUE, /* in attribute values only: quotes, tab, newline */
	LEAD,     /* begins a sequence of UTF-8, perhaps */
	NEVER,    /* no character of XML 1.0, or no beginning of one */
};

static const uint8_t byte_class[256] = {
	[0x00 ... 0x08] = NEVER, ['\t'] = IN_VALUE,       ['\n'] = IN_VALUE,
	[0x0b ... 0x0c] = NEVER, ['\r'] = SPECIAL,        [0x0e ... 0x1f] = NEVER,
	['"'] = IN_VALUE,        ['&'] = SPECIAL,         ['\''] = IN_VALUE,
	['<'] = SPECIAL,         ['>'] = SPECIAL,         [0x80 ... 0xc1] = NEVER,
	[0xc2 ... 0xf4] = LEAD,  [0xf5 ... 0xff] = NEVER,
};

static struct iris_str
reference_for(char c)
{
	switch (c) {
	case '&':
		return IRIS_STR("&amp;");
	case '<':
		return IRIS_STR("&lt;");
	case '>':
		return IRIS_STR("&gt;");
	case '"':
		return IRIS_STR("&quot;");
	case '\'':
		return IRIS_STR("&apos;");
	case '\t':
		return IRIS_STR("&#9;");
	case '\n':
		return IRIS_STR("&#10;");
	case '\r':
		return IRIS_STR("&#13;");
	default:
		return IRIS_STR("");
	}
}

static bool
is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* The length of the character that begins at s, which is no ASCII; 0: none that XML could hold. */
static size_t
character_length(const unsigned char *s, size_t len)
{
	if (s[0] < 0xe0)
		return len >= 2 && is_tail(s[1]) ? 2 : 0;
	if (s[0] < 0xf0) {
		if (len < 3 || !is_tail(s[1]) || !is_tail(s[2]) || (s[0] == 0xe0 && s[1] < 0xa0))
			return 0;
		if (s[0] == 0xed && s[1] >= 0xa0) /* surrogates */
			return 0;
		return s[0] == 0xef && s[1] == 0xbf && s[2] >= 0xbe ? 0 : 3; /* U+FFFE, U+FFFF */
	}
	if (len < 4 || !is_tail(s[1]) || !is_tail(s[2]) || !is_tail(s[3]) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return 4;
}

static void
escape(struct iris_strbuf *buf, struct iris_str text, bool is_value)
{
	const unsigned char *s = (const unsigned char *)text.base;
	size_t start = 0, i = 0;

	while (i < text.len) {
		uint8_t class = byte_class[s[i]];
		size_t len;

		if (class == PLAIN) {
			i++;
			continue;
		}
		len = class == LEAD ? character_length(s + i, text.len - i) : 1;
		if ((class == IN_VALUE && !is_value) || (class == LEAD && len > 0)) {
			i += len;
			continue;
		}
		strbuf_add(buf, (struct iris_str){ text.base + start, i - start });
		strbuf_add(buf, reference_for(text.base[i]));
		start = ++i;
	}
	strbuf_add(buf, (struct iris_str){ text.base + start, text.len - start });
}

void
xml_escape(struct iris_strbuf *buf, struct iris_str text)
{
	if (!str_is_empty(text))
		escape(buf, text, true);
}

void
element_write_attribute(struct iris_strbuf *buf, struct iris_str name, struct iris_str value)
{
	strbuf_add_char(buf, ' ');
	strbuf_add(buf, name);
	strbuf_add(buf, IRIS_STR("='"));
	xml_escape(buf, value);
	strbuf_add_char(buf, '\'');
}

void
xml_add_attribute(struct iris_strbuf *buf, const char *name, struct iris_str value)
{
	if (!str_is_none(value))
		element_write_attribute(buf, str_from(name), value);
}

/* An attribute of a foreign namespace, with a prefix of its own that counts up within the tag. */
static void
write_foreign_attribute(struct iris_strbuf *buf, const struct iris_attr *attr, unsigned number)
{
	strbuf_printf(buf, " xmlns:a%u='", number);
	xml_escape(buf, attr->ns);
	strbuf_printf(buf, "' a%u:%.*s='", number, IRIS_STR_FMT(attr->name));
	xml_escape(buf, attr->value);
	strbuf_add_char(buf, '\'');
}

void
element_write_attributes(struct iris_strbuf *buf, const struct iris_element *element,
			 const char *except)
{
	unsigned foreign = 0;

	for (const struct iris_attr *attr = element->attrs; attr; attr = attr->next) {
		if (str_is_empty(attr->ns)) {
			if (!except || !str_is(attr->name, except))
				element_write_attribute(buf, attr->name, attr->value);
		} else if (str_is(attr->ns, NS_XML)) {
			strbuf_add(buf, IRIS_STR(" xml:"));
			strbuf_add(buf, attr->name);
			strbuf_add(buf, IRIS_STR("='"));
			xml_escape(buf, attr->value);
			strbuf_add_char(buf, '\'');
		} else {
			write_foreign_attribute(buf, attr, ++foreign);
		}
	}
}

static void
write_children(struct iris_strbuf *buf, const struct iris_element *element, struct iris_str outer)
{
	for (const struct iris_element *child = element->first; child; child = child->next) {
		if (!str_is_none(child->name))
			element_write(buf, child, outer);
		else if (!str_is_empty(child->text))
			escape(buf, child->text, false);
	}
}

void
element_write_children(struct iris_strbuf *buf, const struct iris_element *element)
{
	write_children(buf, element, element->ns);
}

static struct iris_str
prefix_for(struct iris_str ns)
{
	if (str_is(ns, NS_STREAM))
		return IRIS_STR("stream:");
	return str_is(ns, NS_XML) ? IRIS_STR("xml:") : IRIS_STR("");
}

void
element_write(struct iris_strbuf *buf, const struct iris_element *element, struct iris_str outer)
{
	struct iris_str prefix = prefix_for(element->ns);

	strbuf_add_char(buf, '<');
	strbuf_add(buf, prefix);
	strbuf_add(buf, element->name);
	if (str_is(prefix, "stream:"))
		strbuf_add(buf, IRIS_STR(" xmlns:stream='" NS_STREAM "'"));
	else if (prefix.len == 0 && !str_equal(element->ns, outer))
		element_write_attribute(buf, IRIS_STR("xmlns"), element->ns);
	element_write_attributes(buf, element, NULL);
	if (!element->first) {
		strbuf_add(buf, IRIS_STR("/>"));
		return;
	}
	strbuf_add_char(buf, '>');
	write_children(buf, element, prefix.len > 0 ? outer : element->ns);
	strbuf_add(buf, IRIS_STR("</"));
	strbuf_add(buf, prefix);
	strbuf_add(buf, element->name);
	strbuf_add_char(buf, '>');
}
