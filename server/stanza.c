/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stanzas: their types, addresses and life; the errors of RFC 6120 §8.3; writing a delivery.
 * A stanza is built by one fiber; frozen, it is read by any thread.  It routes nothing.
 */
#include <time.h>

#include "element_private.h"
#include "iris/fiber.h"

static const struct {
	enum iris_stanza_kind kind;
	enum iris_stanza_type type;
	struct iris_str name;
} type_names[] = {
	{ IRIS_MESSAGE, IRIS_NORMAL, { "normal", 6 } },
	{ IRIS_MESSAGE, IRIS_CHAT, { "chat", 4 } },
	{ IRIS_MESSAGE, IRIS_GROUPCHAT, { "groupchat", 9 } },
	{ IRIS_MESSAGE, IRIS_HEADLINE, { "headline", 8 } },
	{ IRIS_MESSAGE, IRIS_ERROR, { "error", 5 } },
	{ IRIS_PRESENCE, IRIS_UNAVAILABLE, { "unavailable", 11 } },
	{ IRIS_PRESENCE, IRIS_SUBSCRIBE, { "subscribe", 9 } },
	{ IRIS_PRESENCE, IRIS_SUBSCRIBED, { "subscribed", 10 } },
	{ IRIS_PRESENCE, IRIS_UNSUBSCRIBE, { "unsubscribe", 11 } },
	{ IRIS_PRESENCE, IRIS_UNSUBSCRIBED, { "unsubscribed", 12 } },
	{ IRIS_PRESENCE, IRIS_PROBE, { "probe", 5 } },
	{ IRIS_PRESENCE, IRIS_ERROR, { "error", 5 } },
	{ IRIS_IQ, IRIS_GET, { "get", 3 } },
	{ IRIS_IQ, IRIS_SET, { "set", 3 } },
	{ IRIS_IQ, IRIS_RESULT, { "result", 6 } },
	{ IRIS_IQ, IRIS_ERROR, { "error", 5 } },
};

static const struct iris_str kind_names[] = {
	[IRIS_MESSAGE] = { "message", 7 },
	[IRIS_PRESENCE] = { "presence", 8 },
	[IRIS_IQ] = { "iq", 2 },
};

static const struct {
	const char *name, *type;
} conditions[] = {
	[IRIS_NO_ERROR] = { "", "" },
#define X(name, text, type) [IRIS_##name] = { text, type },
	IRIS_STANZA_ERRORS(X)
#undef X
};

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool
kind_find(const struct iris_element *root, enum iris_stanza_kind *kind_r)
{
	if (!str_is(root->ns, NS_CLIENT))
		return false;
	for (unsigned kind = 0; kind < IRIS_COUNT(kind_names); kind++) {
		if (str_equal(root->name, kind_names[kind])) {
			*kind_r = (enum iris_stanza_kind)kind;
			return true;
		}
	}
	return false;
}

static enum iris_stanza_type
type_find(enum iris_stanza_kind kind, struct iris_str name)
{
	if (kind == IRIS_PRESENCE && str_is_none(name))
		return IRIS_AVAILABLE;
	for (size_t i = 0; i < IRIS_COUNT(type_names); i++) {
		if (type_names[i].kind == kind && str_equal(type_names[i].name, name))
			return type_names[i].type;
	}
	/* RFC 6121 §5.2.2: a message of an unknown type is a normal one. */
	return kind == IRIS_MESSAGE ? IRIS_NORMAL : IRIS_TYPE_UNKNOWN;
}

/* True: the attribute is absent, or an address, which is put in its place in prepared form. */
static bool
address_take(struct iris_arena *arena, struct iris_element *root, const char *name,
	     struct iris_jid *jid_r)
{
	struct iris_str text = element_get(root, name);

	*jid_r = IRIS_JID_NONE;
	if (str_is_none(text))
		return true;
	if (!jid_parse(arena, text, jid_r))
		return false;
	if (!str_equal(text, jid_full(jid_r)))
		element_set(root, name, jid_full(jid_r));
	return true;
}

static struct iris_stanza *
stanza_create(struct iris_arena *arena, struct iris_element *root, enum iris_stanza_kind kind,
	      enum iris_stanza_type type)
{
	struct iris_stanza *stanza = ARENA_NEW(arena, struct iris_stanza);

	stanza->arena = arena;
	atomic_init(&stanza->refs, 1);
	stanza->root = root;
	stanza->kind = kind;
	stanza->type = type;
	stanza->received_ms = now_ms();
	stanza->transit = transit_is_on();
	return stanza;
}

struct iris_stanza *
stanza_new(enum iris_stanza_kind kind, enum iris_stanza_type type)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_create(arena, NULL, kind_names[kind],
						   IRIS_STR(NS_CLIENT));

	if (type != IRIS_NORMAL && type != IRIS_AVAILABLE)
		element_set(root, "type", str_from(stanza_type_name(type)));
	return stanza_create(arena, root, kind, type);
}

struct iris_stanza *
stanza_from_element(struct iris_arena *arena, struct iris_element *root, const char **condition_r)
{
	enum iris_stanza_kind kind;
	struct iris_jid from, to;
	struct iris_stanza *stanza;

	IRIS_ASSERT(root->arena == arena && root->parent == NULL);
	*condition_r = NULL;
	if (!kind_find(root, &kind)) {
		*condition_r = "unsupported-stanza-type";
		return NULL;
	}
	if (!address_take(arena, root, "from", &from) || !address_take(arena, root, "to", &to)) {
		*condition_r = "jid-malformed";
		return NULL;
	}
	stanza = stanza_create(arena, root, kind, type_find(kind, element_get(root, "type")));
	stanza->from = from;
	stanza->to = to;
	stanza->id = element_get(root, "id");
	stanza->lang = element_lang(root);
	return stanza;
}

struct iris_stanza *
stanza_ref(struct iris_stanza *stanza)
{
	unsigned before = atomic_fetch_add_explicit(&stanza->refs, 1, memory_order_relaxed);

	IRIS_ASSERT(before > 0 && before < UINT32_MAX);
	return stanza;
}

void
stanza_unref(struct iris_stanza **stanza_p)
{
	struct iris_stanza *stanza = *stanza_p;
	unsigned before;

	*stanza_p = NULL;
	if (!stanza)
		return;
	before = atomic_fetch_sub_explicit(&stanza->refs, 1, memory_order_acq_rel);
	IRIS_ASSERT(before > 0);
	if (before == 1) {
		struct iris_arena *arena = stanza->arena; /* the stanza lies in it */

		arena_unref(&arena);
	}
}

static void
address_set(struct iris_stanza *stanza, const char *name, struct iris_jid *place,
	    const struct iris_jid *jid)
{
	IRIS_ASSERT(!stanza->frozen);
	*place = jid ? jid_copy(stanza->arena, jid) : IRIS_JID_NONE;
	element_set(stanza->root, name, jid_is_none(place) ? IRIS_STR_NONE : jid_full(place));
}

void
stanza_set_from(struct iris_stanza *stanza, const struct iris_jid *from)
{
	address_set(stanza, "from", &stanza->from, from);
}

void
stanza_set_to(struct iris_stanza *stanza, const struct iris_jid *to)
{
	address_set(stanza, "to", &stanza->to, to);
}

void
stanza_set_id(struct iris_stanza *stanza, struct iris_str id)
{
	IRIS_ASSERT(!stanza->frozen);
	element_set(stanza->root, "id", id);
	stanza->id = element_get(stanza->root, "id");
}

void
stanza_set_afar(struct iris_stanza *stanza, bool transit)
{
	IRIS_ASSERT(!stanza->frozen);
	stanza->from_afar = true;
	stanza->transit = stanza->transit || transit || stanza->type == IRIS_RESULT;
}

void
stanza_freeze(struct iris_stanza *stanza)
{
	struct iris_strbuf buf = STRBUF_INIT(stanza->arena);
	size_t attributes;

	if (stanza->frozen)
		return;
	element_join_texts(stanza->root);
	element_write_attributes(&buf, stanza->root, "to");
	attributes = buf.len;
	element_write_children(&buf, stanza->root);
	stanza->attributes = (struct iris_str){ strbuf_str(&buf).base, attributes };
	stanza->inner = (struct iris_str){ buf.base + attributes, buf.len - attributes };
	stanza->frozen = true;
}

/* The same address over the copied text of its attribute. */
static struct iris_jid
jid_moved(const struct iris_jid *jid, const struct iris_element *root, const char *name)
{
	struct iris_jid moved = *jid;

	moved.base = element_get(root, name).base;
	return moved;
}

static struct iris_stanza *
copy_into(struct iris_arena *arena, const struct iris_stanza *stanza)
{
	struct iris_element *root = element_copy(arena, stanza->root);
	struct iris_stanza *copy = stanza_create(arena, root, stanza->kind, stanza->type);

	copy->from = jid_moved(&stanza->from, root, "from");
	copy->to = jid_moved(&stanza->to, root, "to");
	copy->id = element_get(root, "id");
	copy->lang = element_lang(root);
	copy->received_ms = stanza->received_ms;
	copy->transit = copy->transit || stanza->transit;
	copy->from_afar = stanza->from_afar;
	return copy;
}

struct iris_stanza *
stanza_copy(const struct iris_stanza *stanza)
{
	return copy_into(arena_new(), stanza);
}

/* Twice: the first copy tells how much the second one needs. */
struct iris_stanza *
stanza_compact(const struct iris_stanza *stanza)
{
	struct iris_stanza *copy = stanza_copy(stanza), *compact;

	stanza_freeze(copy);
	compact = copy_into(arena_new_sized(arena_used(copy->arena)), stanza);
	stanza_freeze(compact);
	stanza_unref(&copy);
	return compact;
}

const char *
stanza_type_name(enum iris_stanza_type type)
{
	for (size_t i = 0; i < IRIS_COUNT(type_names); i++) {
		if (type_names[i].type == type)
			return type_names[i].name.base;
	}
	return type == IRIS_AVAILABLE ? "available" : "unknown";
}

static void
delivery_write_as(struct iris_strbuf *buf, const struct iris_delivery *delivery, bool alone)
{
	const struct iris_stanza *stanza = delivery->stanza;
	const struct iris_element *root = stanza->root;
	const struct iris_jid *to = jid_is_none(&delivery->to) ? &stanza->to : &delivery->to;

	IRIS_ASSERT(stanza->frozen);
	strbuf_add_char(buf, '<');
	strbuf_add(buf, root->name);
	if (alone)
		strbuf_add(buf, IRIS_STR(" xmlns='" NS_CLIENT "'"));
	if (!jid_is_none(to))
		element_write_attribute(buf, IRIS_STR("to"), jid_full(to));
	strbuf_add(buf, stanza->attributes);
	if (stanza->inner.len == 0 && delivery->extra.len == 0) {
		strbuf_add(buf, IRIS_STR("/>"));
		return;
	}
	strbuf_add_char(buf, '>');
	strbuf_add(buf, stanza->inner);
	strbuf_add(buf, delivery->extra);
	strbuf_add(buf, IRIS_STR("</"));
	strbuf_add(buf, root->name);
	strbuf_add_char(buf, '>');
}

void
delivery_write(struct iris_strbuf *buf, const struct iris_delivery *delivery)
{
	delivery_write_as(buf, delivery, false);
}

void
delivery_write_alone(struct iris_strbuf *buf, const struct iris_delivery *delivery)
{
	delivery_write_as(buf, delivery, true);
}

const char *
condition_name(enum iris_condition condition)
{
	IRIS_ASSERT((size_t)condition < IRIS_COUNT(conditions));
	return conditions[condition].name;
}

const char *
condition_default_type(enum iris_condition condition)
{
	IRIS_ASSERT((size_t)condition < IRIS_COUNT(conditions));
	return conditions[condition].type;
}

/* An empty stanza back to who sent this one. */
static struct iris_stanza *
reply_new(const struct iris_stanza *stanza, enum iris_stanza_type type)
{
	struct iris_stanza *reply = stanza_new(stanza->kind, type);

	stanza_set_from(reply, &stanza->to);
	stanza_set_to(reply, &stanza->from);
	stanza_set_id(reply, stanza->id);
	reply->transit = reply->transit || stanza->transit; /* an error says what it answers */
	return reply;
}

struct iris_stanza *
stanza_error(const struct iris_stanza *stanza, const struct iris_refusal *refusal)
{
	struct iris_stanza *reply;
	struct iris_element *error;

	IRIS_ASSERT(refusal->condition != IRIS_NO_ERROR);
	/* RFC 6120 §8.3.1: neither an error nor a result is answered with an error. */
	if (stanza->type == IRIS_ERROR || stanza->type == IRIS_RESULT)
		return NULL;
	reply = reply_new(stanza, IRIS_ERROR);
	error = element_add(reply->root, "error", NULL);
	element_set(error, "type",
		    str_from(refusal->type ? refusal->type
					   : condition_default_type(refusal->condition)));
	element_add(error, condition_name(refusal->condition), NS_STANZAS);
	if (refusal->text) {
		struct iris_element *text =
			element_add_text(error, "text", NS_STANZAS, str_from(refusal->text));

		element_set(text, "xml:lang", IRIS_STR("en"));
	}
	if (refusal->app)
		element_append(error, element_copy(reply->arena, refusal->app));
	return reply;
}

struct iris_stanza *
stanza_result(const struct iris_stanza *iq)
{
	IRIS_ASSERT(iq->kind == IRIS_IQ && (iq->type == IRIS_GET || iq->type == IRIS_SET));
	return reply_new(iq, IRIS_RESULT);
}

size_t
delivery_text(const struct iris_delivery *delivery)
{
	return jid_full(&delivery->to).len + delivery->extra.len;
}

void
delivery_keep(struct iris_delivery *copy_r, const struct iris_delivery *delivery, char *text)
{
	struct iris_str to = jid_full(&delivery->to), extra = delivery->extra;

	*copy_r = *delivery;
	stanza_ref(copy_r->stanza);
	if (to.base)
		copy_r->to.base = memcpy(text, to.base, to.len);
	if (extra.base)
		copy_r->extra.base = memcpy(text + to.len, extra.base, extra.len);
}

void
delivery_let_go(struct iris_delivery *copy)
{
	stanza_unref(&copy->stanza);
}
