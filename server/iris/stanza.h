/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stanza model: a tree in an arena.  While it is built it belongs to one fiber; frozen (by
 * stanza_freeze, which route_stanza() does) it is immutable, shared by reference count between
 * workers, and its children are serialised once.
 */
#ifndef IRIS_STANZA_H
#define IRIS_STANZA_H

#include <stdatomic.h>

#include "iris/arena.h"
#include "iris/jid.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define NS_CLIENT "jabber:client"
#define NS_COMPONENT "jabber:component:accept"
#define NS_SERVER "jabber:server"
#define NS_STREAM "http://etherx.jabber.org/streams"
#define NS_FRAMING "urn:ietf:params:xml:ns:xmpp-framing"
#define NS_STREAMS "urn:ietf:params:xml:ns:xmpp-streams"
#define NS_STANZAS "urn:ietf:params:xml:ns:xmpp-stanzas"
#define NS_TLS "urn:ietf:params:xml:ns:xmpp-tls"
#define NS_SASL "urn:ietf:params:xml:ns:xmpp-sasl"
#define NS_BIND "urn:ietf:params:xml:ns:xmpp-bind"
#define NS_SESSION "urn:ietf:params:xml:ns:xmpp-session"
#define NS_ROSTER "jabber:iq:roster"
#define NS_XML "http://www.w3.org/XML/1998/namespace"

#define STANZA_DEPTH_MAX 64 /* of any tree: every recursive walk relies on it */

struct iris_attr {
	struct iris_attr *next;
	struct iris_str name, value;
	struct iris_str ns; /* none for ordinary attributes; NS_XML for xml:lang */
};

/* An element, or text when name is none. Siblings in document order. */
struct iris_element {
	struct iris_arena *arena;
	struct iris_element *parent, *next, *first, *last;
	struct iris_str name, ns;
	struct iris_attr *attrs;
	struct iris_str text; /* of a text node */
};

/* Building. Names and namespaces given as C strings are borrowed (literals), values are copied. */
struct iris_element *element_new(struct iris_arena *arena, const char *name, const char *ns);
/* A new child at the end; ns NULL: the parent's. Returns the child. */
struct iris_element *element_add(struct iris_element *parent, const char *name, const char *ns);
struct iris_element *element_add_text(struct iris_element *parent, const char *name, const char *ns,
				      struct iris_str text);
/* child has no parent */
void element_append(struct iris_element *parent, struct iris_element *child);
void element_remove(struct iris_element *child); /* from its parent */
void element_text(struct iris_element *element, struct iris_str text);
/* Sets or replaces; a none value removes. */
void element_set(struct iris_element *element, const char *name, struct iris_str value);
void element_set_int(struct iris_element *element, const char *name, int64_t value);
/* deep */
struct iris_element *element_copy(struct iris_arena *arena, const struct iris_element *element);

/* Reading. Missing gives NULL or none. ns NULL in a search: any namespace. name NULL: any name. */
struct iris_str element_get(const struct iris_element *element, const char *name);
struct iris_str element_lang(const struct iris_element *element); /* its own xml:lang */
bool element_is(const struct iris_element *element, const char *name, const char *ns);
struct iris_element *element_child(const struct iris_element *parent, const char *name,
				   const char *ns);
struct iris_element *element_next(const struct iris_element *sibling, const char *name,
				  const char *ns);
/* all text children, joined in the arena when several */
struct iris_str element_get_text(const struct iris_element *element);
struct iris_str element_child_text(const struct iris_element *parent, const char *name,
				   const char *ns);

#define ELEMENT_FOREACH(child, parent) \
	for (struct iris_element *child = element_child((parent), NULL, NULL); child; \
	     child = element_next(child, NULL, NULL))

/* Writes the element; `outer` is the namespace in force around it (not declared again), or none. */
void element_write(struct iris_strbuf *buf, const struct iris_element *element,
		   struct iris_str outer);
/* Escapes for text and attribute values alike; what XML 1.0 cannot hold is left out. */
void xml_escape(struct iris_strbuf *buf, struct iris_str text);
/* For a tag that is written by hand; nothing when the value is none. */
void xml_add_attribute(struct iris_strbuf *buf, const char *name, struct iris_str value);

/*
 * Parses one complete element (never a stream) with the limits of a stanza; NULL: not
 * well-formed.
 */
struct iris_element *element_parse(struct iris_arena *arena, struct iris_str xml);

enum iris_stanza_kind { IRIS_MESSAGE, IRIS_PRESENCE, IRIS_IQ };

enum iris_stanza_type {
	/* messages */
	IRIS_NORMAL, IRIS_CHAT, IRIS_GROUPCHAT, IRIS_HEADLINE,
	/* presence */
	IRIS_AVAILABLE, IRIS_UNAVAILABLE, IRIS_SUBSCRIBE, IRIS_SUBSCRIBED, IRIS_UNSUBSCRIBE,
	IRIS_UNSUBSCRIBED, IRIS_PROBE,
	/* iq */
	IRIS_GET, IRIS_SET, IRIS_RESULT,
	/* all three */
	IRIS_ERROR,
	IRIS_TYPE_UNKNOWN, /* an iq or presence of no known type: bad-request */
};

struct iris_stanza {
	struct iris_arena *arena; /* holds this struct too */
	atomic_uint refs;
	struct iris_element *root; /* <message/>, <presence/>, <iq/> in jabber:client */
	enum iris_stanza_kind kind;
	enum iris_stanza_type type;
	struct iris_jid from, to; /* none when absent */
	struct iris_str id, lang;
	bool frozen;
	/*
	 * Of another region, and to be passed on only: it is delivered live and nothing of it is
	 * kept (server/README.md, "The gate").  Copies, and what is made out of it, are so, too.
	 */
	bool transit;
	bool from_afar; /* came from another server, as did what it is a copy of */
	bool past_gate; /* the gate's own refusal of what entered: it leaves without being judged */
	/*
	 * The company of the account of ours that sends it, under whose key it may be kept; 0: none
	 * does. Not of copies: what a room makes of it is the room's.
	 */
	iris_owner owner;
	/* once frozen, as text: the children, and the attributes but `to` */
	struct iris_str inner, attributes;
	int64_t received_ms;   /* Unix time, for delay stamps */
};

/* A new stanza in an arena of its own; type "normal" and "available" write no attribute. */
struct iris_stanza *stanza_new(enum iris_stanza_kind kind, enum iris_stanza_type type);
/*
 * From a parsed root; the stanza takes over the reference to the arena that the root lies in.
 * from and to are parsed; NULL when one is malformed, with *condition_r "jid-malformed".
 */
struct iris_stanza *stanza_from_element(struct iris_arena *arena, struct iris_element *root,
					const char **condition_r);
struct iris_stanza *stanza_ref(struct iris_stanza *stanza);
void stanza_unref(struct iris_stanza **stanza_p);

/* Before freezing only; they keep the attributes of root in step. Copies into the arena. */
void stanza_set_from(struct iris_stanza *stanza, const struct iris_jid *from);
void stanza_set_to(struct iris_stanza *stanza, const struct iris_jid *to);
void stanza_set_id(struct iris_stanza *stanza, struct iris_str id);
/*
 * It came from another server; `transit` is the gate's verdict.  Whatever that is, an answer that
 * was asked for from here (a profile, a directory, a bubble's history: P2.5) is not kept.
 */
void stanza_set_afar(struct iris_stanza *stanza, bool transit);
void stanza_freeze(struct iris_stanza *stanza); /* twice is allowed */
/* A modifiable copy, in a new arena. */
struct iris_stanza *stanza_copy(const struct iris_stanza *stanza);
/* A frozen copy in as little memory as it needs, for what is kept for long. */
struct iris_stanza *stanza_compact(const struct iris_stanza *stanza);
const char *stanza_type_name(enum iris_stanza_type type);

/*
 * One stanza on its way to one recipient: the shared payload, and what differs.
 * `extra` is serialised XML in no need of context, appended after the children (stanza-id, delay).
 */
struct iris_delivery {
	struct iris_stanza *stanza;  /* frozen; a counted reference of the delivery's holder */
	struct iris_jid to;          /* overrides the stanza's when not none */
	struct iris_str extra;
	int64_t log_id;              /* its id in the recipient's archive; 0: not kept there */
};

/* The delivery as text on a stream whose default namespace is jabber:client. */
void delivery_write(struct iris_strbuf *buf, const struct iris_delivery *delivery);
/* The same outside any stream: its namespace is declared. */
void delivery_write_alone(struct iris_strbuf *buf, const struct iris_delivery *delivery);

/*
 * Keeping a delivery beyond the call: references the stanza, copies the rest into `text`, which
 * has room for delivery_text() bytes and lives as long as the copy. Letting go drops the
 * reference.
 */
size_t delivery_text(const struct iris_delivery *delivery);
void delivery_keep(struct iris_delivery *copy_r, const struct iris_delivery *delivery, char *text);
void delivery_let_go(struct iris_delivery *copy);

/* The stanza errors of RFC 6120 §8.3.3: name and default type. */
#define IRIS_STANZA_ERRORS(X)                                                     \
	X(BAD_REQUEST, "bad-request", "modify")                                   \
	X(CONFLICT, "conflict", "cancel")                                         \
	X(FEATURE_NOT_IMPLEMENTED, "feature-not-implemented", "cancel")           \
	X(FORBIDDEN, "forbidden", "auth")                                         \
	X(GONE, "gone", "cancel")                                                 \
	X(INTERNAL_SERVER_ERROR, "internal-server-error", "cancel")               \
	X(ITEM_NOT_FOUND, "item-not-found", "cancel")                             \
	X(JID_MALFORMED, "jid-malformed", "modify")                               \
	X(NOT_ACCEPTABLE, "not-acceptable", "modify")                             \
	X(NOT_ALLOWED, "not-allowed", "cancel")                                   \
	X(NOT_AUTHORIZED, "not-authorized", "auth")                               \
	X(POLICY_VIOLATION, "policy-violation", "modify")                         \
	X(RECIPIENT_UNAVAILABLE, "recipient-unavailable", "wait")                 \
	X(REDIRECT, "redirect", "modify")                                         \
	X(REGISTRATION_REQUIRED, "registration-required", "auth")                 \
	X(REMOTE_SERVER_NOT_FOUND, "remote-server-not-found", "cancel")           \
	X(REMOTE_SERVER_TIMEOUT, "remote-server-timeout", "wait")                 \
	X(RESOURCE_CONSTRAINT, "resource-constraint", "wait")                     \
	X(SERVICE_UNAVAILABLE, "service-unavailable", "cancel")                   \
	X(SUBSCRIPTION_REQUIRED, "subscription-required", "auth")                 \
	X(UNDEFINED_CONDITION, "undefined-condition", "cancel")                   \
	X(UNEXPECTED_REQUEST, "unexpected-request", "wait")

enum iris_condition {
	IRIS_NO_ERROR,
#define X(name, text, type) IRIS_##name,
	IRIS_STANZA_ERRORS(X)
#undef X
};

/*
 * What a handler refuses with: the condition, a text for people or NULL, an application condition
 * or NULL.
 */
struct iris_refusal {
	enum iris_condition condition;
	const char *text;             /* literal, or in the request's arena */
	struct iris_element *app;     /* application-specific condition */
	const char *type;             /* overrides the default error type, or NULL */
};

const char *condition_name(enum iris_condition condition);
const char *condition_default_type(enum iris_condition condition);
/*
 * The <error/> to `stanza`, addressed back to its sender. NULL when it must not be answered (RFC
 * 6120 §8.3.1).
 */
struct iris_stanza *stanza_error(const struct iris_stanza *stanza,
				 const struct iris_refusal *refusal);
/* An empty <iq type='result'/> back to the sender. */
struct iris_stanza *stanza_result(const struct iris_stanza *iq);

/* RFC 3339 / XEP-0082 with milliseconds and Z. */
struct iris_str datetime_format(struct iris_arena *arena, int64_t unix_ms);
IRIS_MUST_CHECK bool datetime_parse(struct iris_str text, int64_t *unix_ms_r);
/* Random identifiers: `bits` of entropy (a multiple of 8), base64url. */
struct iris_str random_id(struct iris_arena *arena, unsigned bits);
/* base64 by OpenSSL; decode is strict (RFC 4648 §4, canonical padding), false otherwise. */
struct iris_str base64_encode(struct iris_arena *arena, struct iris_str bytes);
IRIS_MUST_CHECK bool base64_decode(struct iris_arena *arena, struct iris_str text,
				   struct iris_str *bytes_r);

#pragma GCC visibility pop
#endif
