/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One expat parser of a stream or document: the tree, the limits, the restrictions of RFC 6120
 * §11.1. The thread of its stream.  It judges no stanza and sends nothing.
 *
 * expat's handlers run below XML_Parse, and XML_StopParser does not stop at once: each handler
 * looks at `stopped` first, and none of them frees or feeds a parser.
 */
#include <stdlib.h>
#include <strings.h>

#include "element_private.h"
#include "iris/hash.h"
#include "xml_engine.h"
#include "xml_memory.h"

#define SEPARATOR '\x01' /* between the parts of expat's names; no character of XML */
/*
 * SECURITY: expat never forgets a name. A stream of fresh names would grow by 200 bytes for each,
 * so an engine over this size is replaced between two stanzas.
 */
#define MEMORY_LARGE ((size_t)64 * 1024)
#define HEADER_MAX 2048 /* bytes kept for replaying */
#define FORCED_MAX 16

#define HEADER_OF_CLIENTS "<stream:stream xmlns='" NS_CLIENT "' xmlns:stream='" NS_STREAM "'>"

struct xml_engine {
	struct xml_stream *stream;
	XML_Parser expat;
	struct xml_account account;
	bool in_expat, replaying, stopped;
	/* Positions count the bytes fed to this engine, the replayed header included. */
	size_t fed, consumed, start; /* start: of the element that is being built */
	size_t slice, rest; /* bytes of the current call, and those left over when stopped */
	bool flush_due;              /* the unfinished rest may hold a complete tag */
	unsigned forced_left;
	unsigned depth;        /* open elements, the header included */
	unsigned declarations; /* of namespaces, for the tag that comes */
	unsigned nodes;
	struct iris_arena *arena;    /* of the tree in work */
	struct iris_element *open;   /* the innermost open element of it */
	struct iris_element *text;   /* the text node that grows */
	size_t text_cap;
	struct iris_strbuf prefixes; /* the header's declarations, but the default one */
	struct iris_str default_ns;
};

struct xml_name {
	struct iris_str ns, local, prefix;
};

void
xml_stream_fail(struct xml_stream *stream, const char *condition, const char *text)
{
	if (!stream->error.condition)
		stream->error = (struct xml_error){ condition, text };
}

static void
engine_stop(struct xml_engine *engine)
{
	if (engine->in_expat && !engine->stopped)
		XML_StopParser(engine->expat, XML_FALSE);
	engine->stopped = true;
}

static void
engine_fail(struct xml_engine *engine, const char *condition, const char *text)
{
	xml_stream_fail(engine->stream, condition, text);
	engine_stop(engine);
}

static void
fail_limit(struct xml_engine *engine, const char *text)
{
	engine_fail(engine, "policy-violation", text);
}

/* Open elements around the trees: the stream's, or none around a document. */
static unsigned
base_depth(const struct xml_engine *engine)
{
	return engine->stream->document ? 0 : 1;
}

static size_t
position(const struct xml_engine *engine)
{
	return (size_t)XML_GetCurrentByteIndex(engine->expat);
}

static size_t
position_behind(const struct xml_engine *engine)
{
	return position(engine) + (size_t)XML_GetCurrentByteCount(engine->expat);
}

/* "namespace SEPARATOR local SEPARATOR prefix", of which only local is always there. */
static struct xml_name
name_split(const char *text)
{
	const char *first = strchr(text, SEPARATOR), *second;
	struct xml_name name = { .local = str_from(first ? first + 1 : text) };

	if (!first)
		return name;
	name.ns = (struct iris_str){ text, (size_t)(first - text) };
	second = memchr(name.local.base, SEPARATOR, name.local.len);
	if (second) {
		name.prefix = str_from(second + 1);
		name.local.len = (size_t)(second - name.local.base);
	}
	return name;
}

static bool
name_fits(const struct xml_engine *engine, const struct xml_name *name)
{
	size_t max = engine->stream->limits.name_bytes;

	return name->ns.len <= max && name->local.len <= max && name->prefix.len <= max;
}

/* The namespace of an element or attribute as the tree has it. */
static struct iris_str
tree_ns(const struct xml_engine *engine, const struct iris_element *parent, struct iris_str ns)
{
	const struct xml_stream *stream = engine->stream;

	if (parent && str_equal(parent->ns, ns))
		return parent->ns;
	if (stream->maps_content_ns && str_equal(ns, stream->content_ns))
		return IRIS_STR(NS_CLIENT);
	return element_intern(engine->arena, ns);
}

static bool
count_node(struct xml_engine *engine)
{
	if (++engine->nodes <= engine->stream->limits.nodes)
		return true;
	fail_limit(engine, "too many elements and attributes");
	return false;
}

static void
take_attributes(struct xml_engine *engine, struct iris_element *element, const XML_Char **attrs)
{
	struct iris_attr **link = &element->attrs;
	unsigned count = engine->declarations;

	for (; *attrs; attrs += 2) {
		struct xml_name name = name_split(attrs[0]);
		struct iris_attr *attr;

		if (++count > engine->stream->limits.attributes || !name_fits(engine, &name)) {
			fail_limit(engine, "too many attributes, or too long a name");
			return;
		}
		if (!count_node(engine))
			return;
		attr = ARENA_NEW(engine->arena, struct iris_attr);
		attr->name = element_intern(engine->arena, name.local);
		attr->ns = element_intern(engine->arena, name.ns);
		attr->value = arena_copy_str(engine->arena, str_from(attrs[1]));
		*link = attr;
		link = &attr->next;
	}
}

static void
queue_tree(struct xml_engine *engine, enum xml_event event, struct iris_element *element)
{
	struct xml_stream *stream = engine->stream;
	struct xml_item *item;

	if (stream->document) {
		stream->root = element;
		return;
	}
	item = ARENA_NEW(engine->arena, struct xml_item);
	*item = (struct xml_item){ NULL, event, engine->arena, element };
	engine->arena = NULL; /* the queue's now */
	if (stream->last)
		stream->last->next = item;
	else
		stream->first = item;
	stream->last = item;
	stream->count++;
}

/* --- the stream header --- */

/* Keeps the opening tag without its attributes: all that later stanzas can depend on. */
static bool
header_keep(struct xml_engine *engine, const struct xml_name *name)
{
	struct xml_stream *stream = engine->stream;
	struct iris_strbuf buf = STRBUF_INIT(engine->arena);
	struct iris_str text, ns = engine->default_ns;

	strbuf_printf(&buf, "<%.*s%sstream xmlns='", IRIS_STR_FMT(name->prefix),
		      name->prefix.len ? ":" : "");
	xml_escape(&buf, ns);
	strbuf_add_char(&buf, '\'');
	strbuf_add(&buf, strbuf_str(&engine->prefixes));
	strbuf_add_char(&buf, '>');
	text = strbuf_str(&buf);
	if (text.len > HEADER_MAX)
		return false;
	if (str_is(text, HEADER_OF_CLIENTS)) {
		stream->header = IRIS_STR(HEADER_OF_CLIENTS);
		stream->content_ns = IRIS_STR(NS_CLIENT);
		return true;
	}
	stream->header_memory = iris_malloc(text.len + ns.len);
	memcpy(stream->header_memory, text.base, text.len);
	if (ns.len > 0)
		memcpy(stream->header_memory + text.len, ns.base, ns.len);
	stream->header = (struct iris_str){ stream->header_memory, text.len };
	stream->content_ns = (struct iris_str){ stream->header_memory + text.len, ns.len };
	stream->maps_content_ns = str_is(ns, NS_COMPONENT) || str_is(ns, NS_SERVER);
	return true;
}

static void
header_arena(struct xml_engine *engine)
{
	if (!engine->arena) {
		engine->arena = arena_new();
		engine->prefixes = STRBUF_INIT(engine->arena);
	}
}

static void
header_declare(struct xml_engine *engine, struct iris_str prefix, struct iris_str uri)
{
	header_arena(engine);
	if (str_is_none(prefix)) {
		engine->default_ns = arena_copy_str(engine->arena, uri);
		return;
	}
	strbuf_printf(&engine->prefixes, " xmlns:%.*s='", IRIS_STR_FMT(prefix));
	xml_escape(&engine->prefixes, uri);
	strbuf_add_char(&engine->prefixes, '\'');
}

static void
header_start(struct xml_engine *engine, const struct xml_name *name, const XML_Char **attrs)
{
	struct iris_element *header;

	/* RFC 6120 §4.8.1 and §4.9.3.10. */
	if (!str_is(name->ns, NS_STREAM)) {
		engine_fail(engine, "invalid-namespace", "the stream namespace is another one");
		return;
	}
	if (!str_is(name->local, "stream")) {
		engine_fail(engine, "bad-format", "a stream begins with the element stream");
		return;
	}
	header_arena(engine);
	header = element_create(engine->arena, NULL, IRIS_STR("stream"), IRIS_STR(NS_STREAM));
	take_attributes(engine, header, attrs);
	if (!engine->stopped && !header_keep(engine, name))
		fail_limit(engine, "the stream header is too long");
	if (!engine->stopped)
		queue_tree(engine, XML_EVENT_HEADER, header);
}

/* --- the trees --- */

static void
tree_start(struct xml_engine *engine, const struct xml_name *name, const XML_Char **attrs)
{
	struct xml_stream *stream = engine->stream;
	struct iris_element *parent = engine->open;

	if (engine->depth - base_depth(engine) >= stream->limits.depth) {
		fail_limit(engine, "nested too deeply");
		return;
	}
	if (!parent) {
		engine->arena = stream->document ? arena_ref(stream->document) : arena_new();
		engine->start = position(engine);
		engine->nodes = 0;
	}
	if (!count_node(engine))
		return;
	engine->open = element_create(engine->arena, parent,
				      element_intern(engine->arena, name->local),
				      tree_ns(engine, parent, name->ns));
	take_attributes(engine, engine->open, attrs);
	engine->text = NULL;
}

/* A complete element: queued, and perhaps the right moment to stop. */
static void
tree_done(struct xml_engine *engine, struct iris_element *root)
{
	size_t end = position_behind(engine);

	if (end - engine->start > engine->stream->limits.stanza_bytes) {
		fail_limit(engine, "the element is too large");
		return;
	}
	queue_tree(engine, XML_EVENT_ELEMENT, root);
	engine->rest = engine->fed - end;
	/* What is left must lie in the bytes at hand, for the next engine to be fed with. */
	if (engine->rest > 0 && engine->rest <= engine->slice && !engine->stream->document &&
	    (engine->stream->count >= XML_BATCH || xml_engine_is_large(engine)))
		engine_stop(engine);
}

static void
text_append(struct xml_engine *engine, struct iris_str text)
{
	struct iris_element *node = engine->text;
	size_t len = node ? node->text.len : 0;
	char *base;

	if (!node) {
		if (!count_node(engine))
			return;
		node = engine->text =
			element_create(engine->arena, engine->open, IRIS_STR_NONE, IRIS_STR_NONE);
		engine->text_cap = 0;
	}
	base = (char *)node->text.base; /* ours while it grows */
	if (len + text.len > engine->text_cap) {
		engine->text_cap = engine->text_cap ? 2 * (len + text.len) : text.len;
		base = arena_alloc(engine->arena, engine->text_cap + 1);
		if (len > 0)
			memcpy(base, node->text.base, len);
	}
	memcpy(base + len, text.base, text.len);
	base[len + text.len] = '\0';
	node->text = (struct iris_str){ base, len + text.len };
}

/* --- expat's handlers --- */

static void XMLCALL
on_namespace(void *arg, const XML_Char *prefix, const XML_Char *uri)
{
	struct xml_engine *engine = arg;
	struct iris_str name = str_from(prefix), ns = str_from(uri ? uri : "");
	size_t max = engine->stream->limits.name_bytes;

	if (engine->stopped || engine->replaying)
		return;
	engine->declarations++;
	if (engine->declarations > engine->stream->limits.attributes || name.len > max ||
	    ns.len > max)
		fail_limit(engine, "too many namespaces, or too long ones");
	else if (engine->depth < base_depth(engine))
		header_declare(engine, name, ns);
}

static void XMLCALL
on_start(void *arg, const XML_Char *text, const XML_Char **attrs)
{
	struct xml_engine *engine = arg;
	const struct xml_limits *limits = &engine->stream->limits;
	struct xml_name name;

	if (engine->stopped)
		return;
	if (!engine->replaying) {
		name = name_split(text);
		if ((size_t)XML_GetCurrentByteCount(engine->expat) > limits->token_bytes ||
		    !name_fits(engine, &name))
			fail_limit(engine, "too long a tag or name");
		else if (engine->depth < base_depth(engine))
			header_start(engine, &name, attrs);
		else
			tree_start(engine, &name, attrs);
	}
	engine->declarations = 0;
	engine->depth++;
}

static void XMLCALL
on_end(void *arg, const XML_Char *text)
{
	struct xml_engine *engine = arg;
	struct iris_element *ended = engine->open;

	if (engine->stopped)
		return;
	if ((size_t)XML_GetCurrentByteCount(engine->expat) > engine->stream->limits.token_bytes) {
		fail_limit(engine, "too long a tag");
		return;
	}
	engine->depth--;
	engine->text = NULL;
	if (engine->depth < base_depth(engine)) {
		engine->stream->closed = true;
		engine_stop(engine);
		return;
	}
	engine->open = ended->parent;
	if (!engine->open)
		tree_done(engine, ended);
}

static void XMLCALL
on_text(void *arg, const XML_Char *base, int len)
{
	struct xml_engine *engine = arg;
	struct iris_str text = { base, (size_t)len };

	if (engine->stopped)
		return;
	if (engine->open) {
		text_append(engine, text);
		return;
	}
	/* RFC 6120 §4.6.1: whitespace between stanzas keeps the connection alive; that is all. */
	for (size_t i = 0; i < text.len; i++) {
		if (!memchr(" \t\r\n", text.base[i], 4)) {
			engine_fail(engine, "invalid-xml", "text between stanzas");
			return;
		}
	}
}

/*
 * Between stanzas not even an empty section: expat would be in its middle without an unfinished
 * byte, and whoever replaced the parser there would let the peer's data become elements.
 */
static void XMLCALL
on_section(void *arg)
{
	struct xml_engine *engine = arg;

	if (!engine->stopped && !engine->open)
		engine_fail(engine, "invalid-xml", "text between stanzas");
}

/* RFC 6120 §11.1 and §4.9.3.18: none of these, ever. */
static void
fail_restricted(void *arg)
{
	struct xml_engine *engine = arg;

	if (!engine->stopped)
		engine_fail(engine, "restricted-xml",
			"no comments, processing instructions or document type declarations");
}

static void XMLCALL
on_comment(void *arg, const XML_Char *text)
{
	fail_restricted(arg);
}

static void XMLCALL
on_instruction(void *arg, const XML_Char *target, const XML_Char *data)
{
	fail_restricted(arg);
}

static void XMLCALL
on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid,
	   int internal)
{
	fail_restricted(arg);
}

static void XMLCALL
on_declaration(void *arg, const XML_Char *version, const XML_Char *encoding, int standalone)
{
	struct xml_engine *engine = arg;

	if (!engine->stopped && encoding && strcasecmp(encoding, "UTF-8") != 0)
		engine_fail(engine, "unsupported-encoding", "UTF-8 only");
}

/* --- feeding --- */

static void
fail_expat(struct xml_engine *engine)
{
	switch (XML_GetErrorCode(engine->expat)) {
	case XML_ERROR_UNBOUND_PREFIX: /* §11.3; not bad-namespace-prefix */
	case XML_ERROR_RESERVED_PREFIX_XML:
	case XML_ERROR_RESERVED_PREFIX_XMLNS:
	case XML_ERROR_RESERVED_NAMESPACE_URI:
		engine_fail(engine, "not-well-formed",
			    "a prefix is not declared, or reserved");
		return;
	case XML_ERROR_UNKNOWN_ENCODING:
	case XML_ERROR_INCORRECT_ENCODING:
		engine_fail(engine, "unsupported-encoding", "UTF-8 only");
		return;
	case XML_ERROR_UNDEFINED_ENTITY:
	case XML_ERROR_RECURSIVE_ENTITY_REF:
	case XML_ERROR_PARAM_ENTITY_REF:
	case XML_ERROR_ATTRIBUTE_EXTERNAL_ENTITY_REF:
	case XML_ERROR_ENTITY_DECLARED_IN_PE:
		engine_fail(engine, "restricted-xml", "no entities but the predefined ones");
		return;
	case XML_ERROR_NO_MEMORY: /* the account's limit: malloc does not fail here */
	case XML_ERROR_AMPLIFICATION_LIMIT_BREACH:
		fail_limit(engine, "too many different names");
		return;
	default:
		engine_fail(engine, "not-well-formed", "not well-formed");
	}
}

static void
engine_parse(struct xml_engine *engine, struct iris_str bytes, bool final)
{
	struct xml_account *before = xml_memory_enter(&engine->account);
	enum XML_Status status;
	XML_Index index;

	engine->fed += bytes.len;
	engine->in_expat = true;
	status = XML_Parse(engine->expat, bytes.base, (int)bytes.len, final);
	engine->in_expat = false;
	xml_memory_enter(before);
	if (engine->stopped)
		return;
	if (status != XML_STATUS_OK) {
		fail_expat(engine);
		return;
	}
	index = XML_GetCurrentByteIndex(engine->expat); /* below zero: nothing was looked at */
	if (index > 0 && (size_t)index > engine->consumed) {
		engine->consumed = (size_t)index;
		engine->forced_left = FORCED_MAX;
	}
	if (engine->consumed == engine->fed)
		engine->flush_due = false;
}

/*
 * expat puts off looking at an unfinished tag again until its input has doubled, against quadratic
 * time; on a stream that would hold back the end of a stanza until the next one comes.
 */
static void
engine_flush(struct xml_engine *engine)
{
	engine->flush_due = false;
	XML_SetReparseDeferralEnabled(engine->expat, XML_FALSE);
	engine_parse(engine, IRIS_STR(""), false);
	if (!engine->stopped)
		XML_SetReparseDeferralEnabled(engine->expat, XML_TRUE);
}

static size_t
unfinished(const struct xml_engine *engine)
{
	return engine->fed - engine->consumed;
}

static void
check_limits(struct xml_engine *engine)
{
	const struct xml_limits *limits = &engine->stream->limits;

	if (!engine->stopped && unfinished(engine) > limits->token_bytes && engine->flush_due)
		engine_flush(engine); /* perhaps it was finished long ago */
	if (engine->stopped)
		return;
	if (unfinished(engine) > limits->token_bytes)
		fail_limit(engine, "too long a tag");
	else if (engine->open && engine->consumed > engine->start + limits->stanza_bytes)
		fail_limit(engine, "the element is too large");
}

static size_t
memory_limit(const struct xml_stream *stream)
{
	return 8 * stream->limits.stanza_bytes + MEMORY_LARGE;
}

static void
handlers_set(XML_Parser expat)
{
	XML_SetElementHandler(expat, on_start, on_end);
	XML_SetStartNamespaceDeclHandler(expat, on_namespace);
	XML_SetCharacterDataHandler(expat, on_text);
	XML_SetStartCdataSectionHandler(expat, on_section);
	XML_SetCommentHandler(expat, on_comment);
	XML_SetProcessingInstructionHandler(expat, on_instruction);
	XML_SetStartDoctypeDeclHandler(expat, on_doctype);
	XML_SetXmlDeclHandler(expat, on_declaration);
}

struct xml_engine *
xml_engine_new(struct xml_stream *stream)
{
	struct xml_engine *engine = iris_calloc(1, sizeof(*engine));
	const XML_Char separator[] = { SEPARATOR, '\0' };
	struct xml_account *before;

	engine->stream = stream;
	engine->forced_left = FORCED_MAX;
	engine->account.limit = memory_limit(stream);
	before = xml_memory_enter(&engine->account);
	engine->expat = XML_ParserCreate_MM("UTF-8", &xml_memory_suite, separator);
	xml_memory_enter(before);
	IRIS_ASSERT(engine->expat != NULL);
	XML_SetUserData(engine->expat, engine);
	/* SECURITY: unknown to peers; the process's own key spares a getrandom() each time. */
	XML_SetHashSalt(engine->expat, hash_bytes("expat", 5));
	XML_SetReturnNSTriplet(engine->expat, 1);
	handlers_set(engine->expat);
	if (!str_is_none(stream->header)) {
		engine->replaying = true;
		engine_parse(engine, stream->header, false);
		engine->replaying = false;
		IRIS_ASSERT(!engine->stopped && xml_engine_is_at_boundary(engine));
	}
	return engine;
}

void
xml_engine_free(struct xml_engine **engine_p)
{
	struct xml_engine *engine = *engine_p;
	struct xml_account *before;

	*engine_p = NULL;
	if (!engine)
		return;
	before = xml_memory_enter(&engine->account);
	XML_ParserFree(engine->expat);
	xml_memory_enter(before);
	arena_unref(&engine->arena);
	free(engine);
}

size_t
xml_engine_feed(struct xml_engine *engine, struct iris_str bytes)
{
	if (engine->stopped)
		return bytes.len;
	engine->account.limit = memory_limit(engine->stream);
	engine->slice = bytes.len;
	engine->rest = 0;
	engine_parse(engine, bytes, false);
	if (!engine->stopped && unfinished(engine) > 0) {
		if (memchr(bytes.base, '>', bytes.len))
			engine->flush_due = true;
		/* SECURITY: a tag full of '>', sent byte by byte, gets no more than these. */
		if (engine->flush_due && engine->forced_left > 0) {
			engine->forced_left--;
			engine_flush(engine);
		}
	}
	check_limits(engine);
	return engine->stopped && !engine->stream->error.condition ? bytes.len - engine->rest
								   : bytes.len;
}

void
xml_engine_finish(struct xml_engine *engine)
{
	if (!engine->stopped)
		engine_parse(engine, IRIS_STR(""), true);
}

bool
xml_engine_is_at_boundary(const struct xml_engine *engine)
{
	return !engine->open && engine->depth == base_depth(engine) && unfinished(engine) == 0;
}

bool
xml_engine_is_large(const struct xml_engine *engine)
{
	return engine->account.used > MEMORY_LARGE;
}

bool
xml_engine_wants_tick(const struct xml_engine *engine)
{
	return engine->flush_due && !engine->stopped;
}

void
xml_engine_tick(struct xml_engine *engine)
{
	if (!xml_engine_wants_tick(engine))
		return;
	engine->slice = engine->rest = 0;
	engine_flush(engine);
	check_limits(engine);
}

size_t
xml_engine_memory(const struct xml_engine *engine)
{
	return engine->account.used;
}
