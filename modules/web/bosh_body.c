/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of BOSH (XEP-0124 §6, §7): reading and writing.  Any thread; it knows no session. */
#include <stdlib.h>

#include "bosh_private.h"

#define RID_MAX 9007199254740991 /* XEP-0124 §14.1: 2^53 - 1 */

static bool
body_number(const struct iris_element *body, const char *name, int64_t max, int64_t *number_r)
{
	struct iris_str text = element_get(body, name);

	*number_r = -1;
	return str_is_none(text) || str_to_int(text, 0, max, number_r);
}

static struct iris_str
body_foreign(const struct iris_element *body, const char *name, const char *ns)
{
	for (const struct iris_attr *attr = body->attrs; attr; attr = attr->next)
		if (str_is(attr->name, name) && str_is(attr->ns, ns))
			return attr->value;
	return IRIS_STR_NONE;
}

/* "1.11": versions of BOSH have one major number so far. */
static unsigned
body_minor(struct iris_str version)
{
	int64_t minor;

	if (version.len > 2 && memcmp(version.base, "1.", 2) == 0 &&
	    str_to_int((struct iris_str){ version.base + 2, version.len - 2 }, 0, 1000, &minor))
		return (unsigned)minor;
	return 6; /* the one before versions were told */
}

const char *
bosh_body_parse(struct iris_arena *arena, struct iris_str text, struct bosh_body *body_r)
{
	struct iris_element *element = element_parse(arena, text);
	struct iris_str restart;

	memset(body_r, 0, sizeof(*body_r));
	if (!element || !element_is(element, "body", NS_BOSH))
		return "bad-request";
	restart = body_foreign(element, "restart", NS_XBOSH);
	body_r->element = element;
	body_r->sid = element_get(element, "sid");
	body_r->to = element_get(element, "to");
	body_r->from = element_get(element, "from");
	body_r->lang = element_lang(element);
	body_r->minor = body_minor(element_get(element, "ver"));
	body_r->terminate = str_is(element_get(element, "type"), "terminate");
	body_r->restart = str_is(restart, "true") || str_is(restart, "1");
	if (!body_number(element, "rid", RID_MAX, &body_r->rid) || body_r->rid < 0 ||
	    !body_number(element, "wait", INT32_MAX, &body_r->wait_s) ||
	    !body_number(element, "hold", INT32_MAX, &body_r->hold) ||
	    !body_number(element, "pause", INT32_MAX, &body_r->pause_s))
		return "bad-request";
	return NULL;
}

/* --- answers --- */

struct bosh_answer *
bosh_answer_new(struct iris_str attributes, struct iris_str payload)
{
	static const struct iris_str head = { "<body xmlns='" NS_BOSH "'",
					      sizeof("<body xmlns='" NS_BOSH "'") - 1 };
	struct iris_str tail = payload.len > 0 ? IRIS_STR("</body>") : IRIS_STR_NONE;
	struct iris_str close = payload.len > 0 ? IRIS_STR(">") : IRIS_STR("/>");
	const struct iris_str parts[] = { head, attributes, close, payload, tail };
	size_t len = head.len + attributes.len + close.len + payload.len + tail.len;
	struct bosh_answer *answer = iris_malloc(sizeof(*answer) + len);
	char *at = answer->text;

	atomic_init(&answer->refs, 1);
	answer->has_payload = payload.len > 0;
	answer->len = len;
	for (size_t i = 0; i < IRIS_COUNT(parts); i++)
		if (parts[i].len > 0) {
			memcpy(at, parts[i].base, parts[i].len);
			at += parts[i].len;
		}
	return answer;
}

struct bosh_answer *
bosh_answer_end(const char *condition, struct iris_str payload)
{
	struct iris_arena *arena = arena_new();
	struct iris_str attributes = IRIS_STR(" type='terminate'");
	struct bosh_answer *answer;

	if (condition)
		attributes = arena_printf(arena, " type='terminate' condition='%s'", condition);
	answer = bosh_answer_new(attributes, payload);
	arena_unref(&arena);
	return answer;
}

struct bosh_answer *
bosh_answer_ref(struct bosh_answer *answer)
{
	atomic_fetch_add_explicit(&answer->refs, 1, memory_order_relaxed);
	return answer;
}

void
bosh_answer_unref(struct bosh_answer **answer_p)
{
	struct bosh_answer *answer = *answer_p;

	*answer_p = NULL;
	if (answer && atomic_fetch_sub_explicit(&answer->refs, 1, memory_order_acq_rel) == 1)
		free(answer);
}
