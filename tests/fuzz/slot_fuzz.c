/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0363 on a whole server: slots are asked for, filled, fetched, deleted, with names, sizes,
 * types, purposes, paths, lengths and ranges made of the bytes.  Each byte is a step, those behind
 * it its choices.  Oracle, besides the harness's: a model of what was given out says each answer.
 * A link is escaped, and leads to its slot and nowhere else; limits and quotas hold, and are given
 * back; what is fetched is what was put, or the part of it that was asked for.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bytes.h"
#include "harness.h"
#include "modules/files/files_private.h"
#include "modules/web/http_head.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 32
#define SLOTS_MAX 24
#define PATH_SIZE 1024
#define OUTPUT_MAX (1 << 15)
#define NS "urn:xmpp:http:upload:0"
#define URL_BEGIN "https://" HARNESS_HOST

/* As in the harness's configuration. */
#define SIZE_MAX_MESSAGE 4096
#define SIZE_MAX_PROFILE 1024
#define QUOTA_BYTES 16384
#define QUOTA_FILES 8

#define CHOOSE(bytes, list) ((list)[bytes_choose((bytes), IRIS_COUNT(list))])

enum slot_state { SLOT_OPEN, SLOT_FULL, SLOT_GONE };

struct slot {
	enum slot_state state;
	char path[PATH_SIZE]; /* of the link */
	const char *type;     /* that was asked for; or NULL */
	int64_t size;
};

static struct {
	struct harness_client *romeo;
	struct slot slots[SLOTS_MAX];
	size_t count;
	unsigned asked;
} stage;

/* One answer of HTTP. */
struct answer {
	unsigned status;
	struct iris_str head, body;
};

static void
expect(bool truth, const char *what, struct iris_str seen)
{
	if (truth)
		return;
	fprintf(stderr, "slot_fuzz: %s:\n%.*s\n", what, IRIS_STR_FMT(seen));
	abort();
}

/* --- what is asked for --- */

static const char *const names[] = {
	"a.jpg", "../../etc/passwd", "..", ".", "/", "\\", "a&#13;&#10;Set-Cookie: a=b.png",
	"&quot;; filename=&quot;b", "%2e%2e%2fb", "a?b#c", " ", "&#x202e;gpj.exe", "",
	"\xc3\xa9\xe2\x82\xac\xf0\x9f\x8c\xb9", "&#127;", "a;b,c", "x.&lt;b&gt;",
};
static const struct {
	const char *text;
	int64_t value; /* 0: none */
} sizes[] = {
	{ "1", 1 },	  { "2", 2 },	    { "16", 16 },      { "1024", 1024 },
	{ "1025", 1025 }, { "4096", 4096 }, { "4097", 4097 },  { "9223372036854775807", INT64_MAX },
	{ "0", 0 },	  { "-1", 0 },	    { "9223372036854775808", 0 }, { "x", 0 }, { "", 0 },
};
static const char *const types[] = {
	NULL, "image/png", "IMAGE/PNG", "text/html; charset=utf-8", "a/b/c", "odd",
	"image/svg+xml", "a/&#13;&#10;b",
};
static const struct {
	const char *xml;
	enum file_purpose purpose; /* FILE_PURPOSES: refused */
} purposes[] = {
	{ "", FILE_MESSAGE },
	{ "message", FILE_MESSAGE },
	{ "profile", FILE_PROFILE },
	{ "permanent", FILE_PERMANENT },
	{ "unheard-of", FILE_PURPOSES },
	{ "ephemeral", FILE_PURPOSES },
	{ "ephemeral expire-before='2099-01-01T00:00:00Z'", FILE_EPHEMERAL },
	{ "ephemeral expire-before='2001-01-01T00:00:00Z'", FILE_PURPOSES },
	{ "ephemeral expire-before='tomorrow'", FILE_PURPOSES },
};

struct wish {
	bool named;
	int64_t size;
	enum file_purpose purpose;
	const char *type;
};

/* Long ones are of letters of three bytes: where they are cut must be between two. */
static bool
add_name(struct bytes *bytes, struct iris_strbuf *out)
{
	uint8_t choice = bytes_take(bytes);
	size_t before = out->len, times;

	if (choice < 128) {
		strbuf_add(out, str_from(names[choice % IRIS_COUNT(names)]));
	} else if (choice < 192) {
		times = bytes_take(bytes);
		for (size_t i = choice % 3; i > 0; i--)
			strbuf_add_char(out, 'a');
		for (size_t i = 0; i < times; i++)
			strbuf_add(out, IRIS_STR("\xe2\x82\xac"));
		strbuf_add(out, str_from(names[choice % IRIS_COUNT(names)]));
	} else {
		bytes_add_text(bytes, out);
	}
	return out->len > before;
}

static struct wish
add_wish(struct bytes *bytes, struct iris_strbuf *out)
{
	size_t size = bytes_choose(bytes, IRIS_COUNT(sizes));
	size_t purpose = bytes_choose(bytes, IRIS_COUNT(purposes));
	struct wish wish = { .size = sizes[size].value, .purpose = purposes[purpose].purpose,
			     .type = CHOOSE(bytes, types) };

	strbuf_printf(out, "<request xmlns='" NS "' size='%s' filename='", sizes[size].text);
	wish.named = add_name(bytes, out);
	if (wish.type)
		strbuf_printf(out, "' content-type='%s", wish.type);
	strbuf_add(out, IRIS_STR("'>"));
	if (*purposes[purpose].xml)
		strbuf_printf(out, "<%s xmlns='urn:xmpp:http:upload:purpose:0'/>",
			      purposes[purpose].xml);
	strbuf_add(out, IRIS_STR("</request>"));
	return wish;
}

/* --- what must be answered --- */

static bool
quota_has_room(int64_t size)
{
	size_t files = 0;

	for (size_t i = 0; i < stage.count; i++) {
		if (stage.slots[i].state == SLOT_GONE)
			continue;
		files++;
		size += stage.slots[i].size;
	}
	return files < QUOTA_FILES && size <= QUOTA_BYTES;
}

/* The element that tells how it ends. */
static const char *
wish_outcome(const struct wish *wish)
{
	if (!wish->named || wish->size == 0)
		return "<bad-request ";
	if (wish->purpose == FILE_PURPOSES || wish->purpose == FILE_PERMANENT)
		return "<not-acceptable ";
	if (wish->size > SIZE_MAX_MESSAGE)
		return "<max-file-size>";
	if (wish->purpose == FILE_PROFILE && wish->size > SIZE_MAX_PROFILE)
		return "<max-file-size>1024<";
	return quota_has_room(wish->size) ? "<slot " : "<resource-constraint ";
}

/* Escaped, and what it says is a name that harms nobody's disk. */
static void
check_link(struct iris_str path)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf xml = STRBUF_INIT(arena);
	struct iris_str decoded, name;
	struct iris_element *whole;
	const char *slash;

	for (size_t i = 0; i < path.len; i++)
		expect(path.base[i] && (isalnum((unsigned char)path.base[i]) ||
					strchr("-._~%/", path.base[i])),
		       "a link is not escaped", path);
	expect(http_path_decode(arena, path, &decoded), "a link to nowhere", path);
	expect(decoded.len > strlen(FILES_PATH) &&
		       memcmp(decoded.base, FILES_PATH, strlen(FILES_PATH)) == 0,
	       "a link to elsewhere", path);
	slash = memrchr(decoded.base, '/', decoded.len);
	name = (struct iris_str){ slash + 1, (size_t)(decoded.base + decoded.len - slash - 1) };
	expect(name.len > 0 && name.len <= 200 && !memchr(name.base, '\\', name.len) &&
		       !str_is(name, ".") && !str_is(name, ".."), "a bad name", path);
	for (size_t i = 0; i < name.len; i++)
		expect((unsigned char)name.base[i] >= ' ' && name.base[i] != 0x7f,
		       "a control character in a name", path);
	strbuf_add(&xml, IRIS_STR("<a>"));
	xml_escape(&xml, name);
	strbuf_add(&xml, IRIS_STR("</a>"));
	whole = element_parse(arena, strbuf_str(&xml));
	expect(whole && str_equal(element_get_text(whole), name), "a name that is no text", path);
	arena_unref(&arena);
}

static void
slot_keep(const struct wish *wish, const char *output)
{
	const char *url = strstr(output, "<get url='" URL_BEGIN);
	struct slot *slot = &stage.slots[stage.count];
	struct iris_str path;

	expect(url, "no link", str_from(output));
	path.base = url + strlen("<get url='" URL_BEGIN);
	path.len = strcspn(path.base, "'");
	*slot = (struct slot){ .size = wish->size, .type = wish->type };
	expect(str_copy_to(slot->path, sizeof(slot->path), path), "a long link", path);
	check_link(path);
	stage.count++;
}

static void
step_ask(struct bytes *bytes)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = STRBUF_INIT(arena);
	const char *to = bytes_take(bytes) & 1 ? "upload." HARNESS_HOST : HARNESS_HOST;
	const char *outcome, *output;
	struct wish wish;

	strbuf_printf(&out, "<iq type='get' id='s%u' to='%s'>", stage.asked++, to);
	wish = add_wish(bytes, &out);
	strbuf_add(&out, IRIS_STR("</iq>"));
	harness_send(stage.romeo, strbuf_str(&out));
	if (!harness_await(stage.romeo, "</iq>", NULL))
		expect(false, "no answer", str_from(harness_output(stage.romeo)));
	outcome = wish_outcome(&wish);
	output = harness_output(stage.romeo);
	expect(strstr(output, outcome), outcome, str_from(output));
	if (strcmp(outcome, "<slot ") == 0)
		slot_keep(&wish, output);
	arena_unref(&arena);
}

/* --- deleting --- */

static void
slot_remove(void *arg)
{
	struct slot *slot = arg;
	struct iris_str token = str_from(slot->path + strlen(FILES_PATH));

	token.len = strcspn(token.base, "/");
	IRIS_ASSERT(file_remove(file_id_of(token)));
	slot->state = SLOT_GONE;
}

static void
slot_remove_now(struct slot *slot)
{
	harness_do(slot_remove, slot);
}

/* --- HTTP --- */

static struct iris_str
answer_field(const struct answer *answer, const char *name) /* "\r\nname: " */
{
	const char *at = memmem(answer->head.base, answer->head.len, name, strlen(name));
	const char *end = answer->head.base + answer->head.len;

	if (!at)
		return IRIS_STR_NONE;
	at += strlen(name);
	return (struct iris_str){ at, (size_t)((const char *)memchr(at, '\r', (size_t)(end - at)) -
					       at) };
}

/* Lines of printable text only: no name, no type of somebody's can add one. */
static void
check_head(const struct answer *answer)
{
	for (size_t i = 0; i < answer->head.len; i++) {
		char c = answer->head.base[i];

		expect((c >= ' ' && c <= '~') || c == '\r' || c == '\n', "a bad head",
		       answer->head);
	}
	expect(str_is_none(answer_field(answer, "\r\nSet-Cookie: ")), "somebody's field",
	       answer->head);
	if (answer->status != 200 && answer->status != 206)
		return;
	expect(!str_is_none(answer_field(answer, "\r\nContent-Disposition: ")) &&
		       !str_is_none(answer_field(answer, "\r\nContent-Security-Policy: ")) &&
		       str_is(answer_field(answer, "\r\nX-Content-Type-Options: "), "nosniff"),
	       "a field is missing", answer->head);
}

/* What is behind "100 Continue", if that came. */
static struct answer
ask(struct iris_str request)
{
	static char output[OUTPUT_MAX];
	struct answer answer = { .status = 0 };
	int fd = harness_dial_web();
	struct iris_str rest = { output, 0 };
	const char *end;

	(void)!send(fd, request.base, request.len, MSG_NOSIGNAL);
	rest.len = harness_hang_up(fd, output, sizeof(output));
	while ((end = memmem(rest.base, rest.len, "\r\n\r\n", 4)) != NULL) {
		answer.head = (struct iris_str){ rest.base, (size_t)(end + 4 - rest.base) };
		answer.body = (struct iris_str){ end + 4, rest.len - answer.head.len };
		answer.status = (unsigned)strtoul(rest.base + strlen("HTTP/1.1 "), NULL, 10);
		if (answer.status != 100)
			break;
		rest = answer.body;
		answer.status = 0;
	}
	if (answer.status != 0)
		check_head(&answer);
	return answer;
}

static bool
is_nowhere(const struct answer *answer)
{
	return answer->status == 400 || answer->status == 404 || answer->status == 405;
}

static char
content_at(const struct slot *slot, int64_t at)
{
	return (char)(slot->size * 31 + at * 7 + at / 256);
}

/*
 * The path of the slot, perhaps with one byte of it changed. True: it is still the same link.
 */
static bool
add_path(struct bytes *bytes, struct iris_strbuf *out, const struct slot *slot)
{
	static const char others[] = "/.%2eEaz0\\ ?#&\x7f\x80";
	size_t begin = out->len, len = strlen(slot->path), at;
	uint8_t choice = bytes_take(bytes);
	struct iris_str before, after;

	strbuf_add(out, str_from(slot->path));
	if (choice < 192)
		return true;
	at = begin + (bytes_take(bytes) << 8 | bytes_take(bytes)) % len;
	out->base[at] = others[choice % (sizeof(others) - 1)];
	return http_path_decode(out->arena, str_from(slot->path), &before) &&
	       http_path_decode(out->arena, (struct iris_str){ out->base + begin, len }, &after) &&
	       !memchr(out->base + begin, ' ', len) && !memchr(out->base + begin, '#', len) &&
	       str_equal(before, after);
}

/* --- PUT --- */

enum put_shape { PUT_RIGHT, PUT_LONG, PUT_SHORT, PUT_CHUNKED, PUT_CUT };

static void
add_put(struct bytes *bytes, struct iris_strbuf *out, const struct slot *slot, enum put_shape shape)
{
	int64_t length = slot->size + (shape == PUT_LONG) - (shape == PUT_SHORT);

	strbuf_add(out, IRIS_STR(" HTTP/1.1\r\nHost: " HARNESS_HOST "\r\nConnection: close\r\n"));
	if (bytes_take(bytes) & 1)
		strbuf_add(out, IRIS_STR("Expect: 100-continue\r\n"));
	if (shape == PUT_CHUNKED) {
		strbuf_add(out, IRIS_STR("Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"));
		return;
	}
	strbuf_printf(out, "Content-Length: %lld\r\n\r\n", (long long)length);
	for (int64_t i = 0; i < length - (shape == PUT_CUT); i++)
		strbuf_add_char(out, content_at(slot, i));
}

static unsigned
put_outcome(const struct slot *slot, enum put_shape shape)
{
	if (slot->state == SLOT_GONE)
		return 404;
	if (slot->state == SLOT_FULL)
		return 409;
	switch (shape) {
	case PUT_CHUNKED: return 411;
	case PUT_LONG: return 413;
	case PUT_SHORT: return 400;
	case PUT_CUT: return 0; /* nobody is told */
	default: return 201;
	}
}

static void
step_put(struct bytes *bytes, struct slot *slot)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = STRBUF_INIT(arena);
	enum put_shape shape = (enum put_shape)bytes_choose(bytes, 12);
	bool same;
	struct answer answer;

	if (shape > PUT_CUT)
		shape = PUT_RIGHT;
	strbuf_add(&out, IRIS_STR("PUT "));
	same = add_path(bytes, &out, slot);
	add_put(bytes, &out, slot, shape);
	answer = ask(strbuf_str(&out));
	if (same && shape == PUT_CUT && slot->state == SLOT_OPEN) {
		expect(answer.status == 0, "half a file is answered", answer.head);
		slot_remove_now(slot);
	} else if (same) {
		expect(answer.status == put_outcome(slot, shape), "an upload", answer.head);
		if (answer.status == 201)
			slot->state = SLOT_FULL;
	} else {
		expect(is_nowhere(&answer), "an upload to elsewhere", answer.head);
	}
	arena_unref(&arena);
}

/* --- GET --- */

static const int64_t numbers[] = { 0, 1, 2, 15, 16, 1023, 4095, 4096, INT64_MAX };

struct part {
	int64_t first, last;
	unsigned status;
};

/* RFC 9110 §14.1.2. */
static struct part
add_range(struct bytes *bytes, struct iris_strbuf *out, int64_t size)
{
	struct part whole = { 0, size - 1, 200 }, part = { 0, size - 1, 206 };
	size_t shape = bytes_choose(bytes, 4);
	int64_t first = CHOOSE(bytes, numbers), last = CHOOSE(bytes, numbers);

	strbuf_add(out, IRIS_STR("Range: bytes="));
	if (shape & 1)
		strbuf_printf(out, "%lld", (long long)first);
	strbuf_add_char(out, '-');
	if (shape & 2)
		strbuf_printf(out, "%lld", (long long)last);
	strbuf_add(out, IRIS_STR("\r\n"));
	switch (shape) {
	case 0: return whole;
	case 1: part.first = first; break;
	case 2:
		part.first = last < size ? size - last : 0;
		break;
	default:
		if (last < first)
			return whole;
		part.first = first;
		part.last = last < size ? last : size - 1;
	}
	if (part.first >= size)
		part.status = 416;
	return part;
}

static void
check_content(const struct slot *slot, const struct part *part, const struct answer *answer)
{
	char range[96];

	(void)snprintf(range, sizeof(range), "bytes %lld-%lld/%lld", (long long)part->first,
		       (long long)part->last, (long long)slot->size);
	expect(answer->body.len == (size_t)(part->last - part->first + 1), "another length",
	       answer->head);
	expect(answer->status == 200 || str_is(answer_field(answer, "\r\nContent-Range: "), range),
	       range, answer->head);
	for (int64_t i = part->first; i <= part->last; i++)
		expect(answer->body.base[i - part->first] == content_at(slot, i), "other bytes",
		       answer->head);
}

/* What may be in front of a range, or instead of it; its own ETag only as "*". */
static void
add_conditions(struct bytes *bytes, struct iris_strbuf *out, struct part *part,
	       const struct slot *slot)
{
	static const char *const odd[] = { "Range: bytes=0-0,2-2\r\n", "Range: lines=0-0\r\n",
					   "Range: bytes=0-0x\r\n", "Range: bytes=- 1\r\n",
					   "If-None-Match: \"0-0\"\r\n" };

	*part = (struct part){ 0, slot->size - 1, 200 };
	switch (bytes_choose(bytes, 8)) {
	case 0: break;
	case 1: strbuf_add(out, str_from(CHOOSE(bytes, odd))); break;
	case 2:
		strbuf_add(out, IRIS_STR("If-None-Match: *\r\n"));
		part->status = 304;
		break;
	case 3:
		(void)add_range(bytes, out, slot->size);
		strbuf_add(out, IRIS_STR("If-Range: \"0-0\"\r\n"));
		break;
	default: *part = add_range(bytes, out, slot->size);
	}
	if (slot->state != SLOT_FULL)
		part->status = 404;
}

static void
step_get(struct bytes *bytes, const struct slot *slot)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = STRBUF_INIT(arena);
	bool head = bytes_take(bytes) >= 224, same;
	struct answer answer;
	struct part part;

	strbuf_add(&out, head ? IRIS_STR("HEAD ") : IRIS_STR("GET "));
	same = add_path(bytes, &out, slot);
	strbuf_add(&out, IRIS_STR(" HTTP/1.1\r\nHost: " HARNESS_HOST "\r\nConnection: close\r\n"));
	add_conditions(bytes, &out, &part, slot);
	strbuf_add(&out, IRIS_STR("\r\n"));
	answer = ask(strbuf_str(&out));
	if (!same) {
		expect(is_nowhere(&answer), "a file of elsewhere", answer.head);
	} else {
		expect(answer.status == part.status, "a download", answer.head);
		if (head || part.status == 304)
			expect(answer.body.len == 0, "a body for HEAD", answer.head);
		else if (part.status == 200 || part.status == 206)
			check_content(slot, &part, &answer);
	}
	arena_unref(&arena);
}

/* --- all of it --- */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	return 0;
}

static void
step(struct bytes *bytes)
{
	uint8_t choice = bytes_take(bytes);
	struct slot *slot;

	if (stage.count == 0 || (choice < 80 && stage.count < SLOTS_MAX)) {
		step_ask(bytes);
		return;
	}
	slot = &stage.slots[bytes_choose(bytes, stage.count)];
	if (choice < 152)
		step_put(bytes, slot);
	else if (choice < 240)
		step_get(bytes, slot);
	else
		slot_remove_now(slot);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };

	stage.count = 0;
	stage.romeo = harness_open_bound("romeo");
	for (unsigned i = 0; stage.romeo && i < STEPS_MAX && bytes.at < bytes.end; i++)
		step(&bytes);
	/* The next input finds its quota empty. */
	for (size_t i = 0; i < stage.count; i++)
		slot_remove_now(&stage.slots[i]);
	harness_close(&stage.romeo, true);
	return 0;
}
