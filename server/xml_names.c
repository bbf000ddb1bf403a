/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names and namespaces that nearly every stanza is made of, once per process instead of once
 * per stanza.  Only memory is saved by it: names are compared by their bytes everywhere.  Any
 * thread. What is not listed works the same and costs a few bytes of its stanza's arena.
 */
#include <pthread.h>

#include "element_private.h"

#define SLOT_COUNT 1024 /* a power of two, several times the names */

static const struct iris_str common_names[] = {
	IRIS_STR(NS_CLIENT), IRIS_STR(NS_COMPONENT), IRIS_STR(NS_STREAM), IRIS_STR(NS_STREAMS),
	IRIS_STR(NS_STANZAS), IRIS_STR(NS_TLS), IRIS_STR(NS_SASL), IRIS_STR(NS_BIND),
	IRIS_STR(NS_SESSION), IRIS_STR(NS_ROSTER), IRIS_STR(NS_XML), IRIS_STR("message"),
	IRIS_STR("presence"), IRIS_STR("iq"), IRIS_STR("body"), IRIS_STR("subject"),
	IRIS_STR("thread"), IRIS_STR("show"), IRIS_STR("status"), IRIS_STR("priority"),
	IRIS_STR("error"), IRIS_STR("text"), IRIS_STR("query"), IRIS_STR("item"),
	IRIS_STR("group"), IRIS_STR("bind"), IRIS_STR("session"), IRIS_STR("resource"),
	IRIS_STR("jid"), IRIS_STR("stream"), IRIS_STR("features"), IRIS_STR("auth"),
	IRIS_STR("response"), IRIS_STR("starttls"), IRIS_STR("to"), IRIS_STR("from"),
	IRIS_STR("id"), IRIS_STR("type"), IRIS_STR("lang"), IRIS_STR("name"), IRIS_STR("node"),
	IRIS_STR("ver"), IRIS_STR("version"), IRIS_STR("hash"), IRIS_STR("mechanism"),
	IRIS_STR("subscription"), IRIS_STR("ask"), IRIS_STR("stamp"), IRIS_STR("code"),
	IRIS_STR("by"), IRIS_STR("x"), IRIS_STR("c"), IRIS_STR("h"), IRIS_STR("r"),
	IRIS_STR("a"), IRIS_STR("field"), IRIS_STR("value"), IRIS_STR("var"), IRIS_STR("label"),
	IRIS_STR("option"), IRIS_STR("items"), IRIS_STR("publish"), IRIS_STR("retract"),
	IRIS_STR("event"), IRIS_STR("pubsub"), IRIS_STR("data"), IRIS_STR("ping"),
	IRIS_STR("active"), IRIS_STR("composing"), IRIS_STR("paused"), IRIS_STR("gone"),
	IRIS_STR("inactive"), IRIS_STR("request"), IRIS_STR("received"), IRIS_STR("sent"),
	IRIS_STR("displayed"), IRIS_STR("markable"), IRIS_STR("store"), IRIS_STR("no-store"),
	IRIS_STR("no-copy"), IRIS_STR("private"), IRIS_STR("forwarded"), IRIS_STR("delay"),
	IRIS_STR("result"), IRIS_STR("fin"), IRIS_STR("set"), IRIS_STR("max"),
	IRIS_STR("before"), IRIS_STR("after"), IRIS_STR("first"), IRIS_STR("last"),
	IRIS_STR("count"), IRIS_STR("index"), IRIS_STR("origin-id"), IRIS_STR("stanza-id"),
	IRIS_STR("reply"), IRIS_STR("replace"), IRIS_STR("identity"), IRIS_STR("feature"),
	IRIS_STR("category"), IRIS_STR("password"), IRIS_STR("history"), IRIS_STR("nick"),
	IRIS_STR("photo"), IRIS_STR("occupant-id"), IRIS_STR("payload"), IRIS_STR("encrypted"),
	IRIS_STR("header"), IRIS_STR("key"), IRIS_STR("iv"), IRIS_STR("rid"), IRIS_STR("sid"),
	IRIS_STR("command"), IRIS_STR("action"), IRIS_STR("sessionid"), IRIS_STR("enable"),
	IRIS_STR("enabled"), IRIS_STR("resume"), IRIS_STR("resumed"), IRIS_STR("affiliation"),
	IRIS_STR("role"), IRIS_STR("reason"), IRIS_STR("actor"), IRIS_STR("content"),
	IRIS_STR("description"), IRIS_STR("transport"), IRIS_STR("candidate"),
	IRIS_STR("initiator"), IRIS_STR("creator"), IRIS_STR("url"), IRIS_STR("filename"),
	IRIS_STR("size"), IRIS_STR("content-type"), IRIS_STR("vCard"),
};

static pthread_once_t names_once = PTHREAD_ONCE_INIT;
static struct iris_str slots[SLOT_COUNT]; /* open addressing, constant once filled */

/*
 * The keyed hash would cost more than the copy it saves. A peer who finds collisions of this one
 * wins nothing: what he sends is looked up here, never put in.
 */
static size_t
slot_of(struct iris_str name)
{
	const unsigned char *s = (const unsigned char *)name.base;
	size_t hash = name.len * 31 + s[0] * 7u + s[name.len / 2] * 131u + s[name.len - 1] * 1031u;

	return (hash ^ (hash >> 10)) & (SLOT_COUNT - 1);
}

static void
names_fill(void)
{
	for (size_t i = 0; i < IRIS_COUNT(common_names); i++) {
		size_t slot = slot_of(common_names[i]);

		while (slots[slot].base)
			slot = (slot + 1) & (SLOT_COUNT - 1);
		slots[slot] = common_names[i];
	}
}

struct iris_str
element_intern(struct iris_arena *arena, struct iris_str name)
{
	if (name.len == 0)
		return name.base ? IRIS_STR("") : IRIS_STR_NONE;
	pthread_once(&names_once, names_fill);
	for (size_t slot = slot_of(name); slots[slot].base; slot = (slot + 1) & (SLOT_COUNT - 1)) {
		if (str_equal(slots[slot], name))
			return slots[slot];
	}
	return arena_copy_str(arena, name);
}
