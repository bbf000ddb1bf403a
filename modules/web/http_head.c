/* SPDX-License-Identifier: Apache-2.0 */
/* The guard (RFC 9112 §2–§3, §6): see http_head.h.  It does not read bodies (http_body.c). */
#include "http_head.h"

#define METHOD_MAX 16

/* --- characters --- */

static bool
is_token_char(unsigned char c) /* RFC 9110 §5.6.2 */
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool
is_token(struct iris_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_token_char((unsigned char)s.base[i]))
			return false;
	return s.len > 0;
}

static bool
is_value(struct iris_str s) /* RFC 9110 §5.5 */
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.base[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct iris_str
trim(struct iris_str s)
{
	while (s.len > 0 && is_blank(s.base[0])) {
		s.base++;
		s.len--;
	}
	while (s.len > 0 && is_blank(s.base[s.len - 1]))
		s.len--;
	return s;
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
http_equal(struct iris_str a, struct iris_str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.base[i]) != lower(b.base[i]))
			return false;
	return true;
}

bool
http_list_has(struct iris_str list, const char *token)
{
	while (list.len > 0) {
		const char *comma = memchr(list.base, ',', list.len);
		size_t len = comma ? (size_t)(comma - list.base) : list.len;

		if (http_equal(trim((struct iris_str){ list.base, len }), str_from(token)))
			return true;
		len += comma != NULL;
		list = (struct iris_str){ list.base + len, list.len - len };
	}
	return false;
}

/* --- lines --- */

size_t
http_head_length(struct iris_str text)
{
	const char *end = text.len >= 4 ? memmem(text.base, text.len, "\r\n\r\n", 4) : NULL;

	return end ? (size_t)(end - text.base) + 4 : 0;
}

/*
 * Takes the next line off the text. False: it does not end in CRLF, or has a CR or LF inside:
 * SECURITY: others may see two lines where we see one.
 */
static bool
take_line(struct iris_str *text, struct iris_str *line_r)
{
	const char *lf = memchr(text->base, '\n', text->len);
	size_t len;

	if (!lf || lf == text->base || lf[-1] != '\r')
		return false;
	len = (size_t)(lf - text->base) - 1;
	*line_r = (struct iris_str){ text->base, len };
	*text = (struct iris_str){ lf + 1, text->len - len - 2 };
	return memchr(line_r->base, '\r', len) == NULL;
}

/* Up to the blank, which is taken off too. */
static bool
take_word(struct iris_str *line, struct iris_str *word_r)
{
	const char *blank = memchr(line->base, ' ', line->len);

	if (!blank)
		return false;
	*word_r = (struct iris_str){ line->base, (size_t)(blank - line->base) };
	*line = (struct iris_str){ blank + 1, line->len - word_r->len - 1 };
	return true;
}

/* --- the request line --- */

static unsigned
parse_version(struct iris_str version, struct http_head *head)
{
	if (str_is(version, "HTTP/1.1"))
		return 0;
	head->is_1_0 = head->close = true;
	if (str_is(version, "HTTP/1.0"))
		return 0;
	return version.len == 8 && memcmp(version.base, "HTTP/", 5) == 0 ? 505 : 400;
}

static bool
is_authority(struct iris_str s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = lower(s.base[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._:[]", c)))
			return false;
	}
	return s.len <= 255;
}

/* RFC 9112 §3.2.2: a target that names the server, too. */
static unsigned
parse_absolute(struct iris_str target, struct http_head *head)
{
	struct iris_str rest = target;
	size_t scheme = rest.len > 8 && http_equal((struct iris_str){ rest.base, 8 },
						   IRIS_STR("https://")) ?
				8 :
				7;
	const char *slash;

	if (scheme == 7 &&
	    !(rest.len > 7 && http_equal((struct iris_str){ rest.base, 7 }, IRIS_STR("http://"))))
		return 400;
	rest = (struct iris_str){ rest.base + scheme, rest.len - scheme };
	slash = memchr(rest.base, '/', rest.len);
	if (!slash || slash == rest.base)
		return 400;
	head->authority = (struct iris_str){ rest.base, (size_t)(slash - rest.base) };
	head->target = (struct iris_str){ slash, rest.len - head->authority.len };
	return is_authority(head->authority) ? 0 : 400;
}

static unsigned
parse_request_line(struct iris_str line, struct http_head *head)
{
	struct iris_str target;

	if (!take_word(&line, &head->method) || !take_word(&line, &target) ||
	    !is_token(head->method) || head->method.len > METHOD_MAX || target.len == 0)
		return 400;
	for (size_t i = 0; i < target.len; i++)
		if (target.base[i] <= 0x20 || target.base[i] == 0x7f) /* above 0x7f: below zero */
			return 400;
	head->target = target;
	if (target.base[0] != '/' && !str_is(target, "*")) {
		unsigned status = parse_absolute(target, head);

		if (status != 0)
			return status;
	}
	return parse_version(line, head);
}

/* --- fields --- */

static bool
parse_field(struct iris_str line, struct http_field *field_r)
{
	const char *colon = memchr(line.base, ':', line.len);
	size_t len;

	if (!colon) /* also a folded line, whose blank is no token */
		return false;
	len = (size_t)(colon - line.base);
	field_r->name = (struct iris_str){ line.base, len };
	field_r->value = trim((struct iris_str){ colon + 1, line.len - len - 1 });
	return is_token(field_r->name) && is_value(field_r->value);
}

struct iris_str
http_head_field(const struct http_head *head, struct iris_str name, size_t i)
{
	for (size_t k = 0; k < head->field_count; k++)
		if (http_equal(head->fields[k].name, name) && i-- == 0)
			return head->fields[k].value;
	return IRIS_STR_NONE;
}

static unsigned
parse_host(struct http_head *head)
{
	struct iris_str host = http_head_field(head, IRIS_STR("Host"), 0);

	if (!str_is_none(http_head_field(head, IRIS_STR("Host"), 1)) ||
	    (str_is_none(host) && !head->is_1_0) || !is_authority(host))
		return 400;
	if (str_is_none(head->authority)) /* §3.2.2: an absolute target's counts, not the field */
		head->authority = host;
	return 0;
}

/* RFC 9112 §6.3; SECURITY: one way to say it, said once. */
static unsigned
parse_framing(struct http_head *head)
{
	struct iris_str length = http_head_field(head, IRIS_STR("Content-Length"), 0);
	struct iris_str coding = http_head_field(head, IRIS_STR("Transfer-Encoding"), 0);

	if (!str_is_none(http_head_field(head, IRIS_STR("Content-Length"), 1)) ||
	    !str_is_none(http_head_field(head, IRIS_STR("Transfer-Encoding"), 1)) ||
	    (!str_is_none(length) && !str_is_none(coding)))
		return 400;
	for (size_t i = 0; i < length.len; i++)
		if (length.base[i] < '0' || length.base[i] > '9')
			return 400;
	if (!str_is_none(length) && !str_to_int(length, 0, INT64_MAX / 2, &head->length))
		return 400;
	if (str_is_none(coding))
		return 0;
	head->chunked = true;
	if (head->is_1_0)
		return 400;
	return http_equal(coding, IRIS_STR("chunked")) ? 0 : 501;
}

static unsigned
parse_meaning(struct http_head *head)
{
	struct iris_str value;
	unsigned status;

	for (size_t i = 0; !str_is_none(value = http_head_field(head, IRIS_STR("Connection"), i));
	     i++) {
		head->close |= http_list_has(value, "close");
		head->upgrades |= http_list_has(value, "upgrade");
	}
	status = parse_host(head);
	if (status == 0)
		status = parse_framing(head);
	value = http_head_field(head, IRIS_STR("Expect"), 0);
	if (status != 0 || str_is_none(value))
		return status;
	if (!http_equal(value, IRIS_STR("100-continue")))
		return 417;
	head->expects_continue = !head->is_1_0;
	return 0;
}

unsigned
http_head_parse(struct iris_str text, struct http_head *head_r)
{
	struct iris_str line;
	unsigned status;

	memset(head_r, 0, sizeof(*head_r));
	if (!take_line(&text, &line))
		return 400;
	status = parse_request_line(line, head_r);
	while (status == 0) {
		if (!take_line(&text, &line))
			return 400;
		if (line.len == 0)
			break;
		if (head_r->field_count == HTTP_FIELDS_MAX)
			return 431;
		if (!parse_field(line, &head_r->fields[head_r->field_count]))
			return 400;
		head_r->field_count++;
	}
	if (status != 0)
		return status;
	return text.len == 0 ? parse_meaning(head_r) : 400;
}
