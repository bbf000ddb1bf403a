/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two requests of a link: PUT once, then GET (RFC 9110; XEP-0363 §6, §8).  On the fiber and
 * worker of the connection.  Who has the link may fetch the file: it cannot be guessed.
 *
 * A file that nobody judged yet is 503 with Retry-After, since it will be there soon; one that was
 * refused is 410; everything else that may not be fetched is 404, whatever the reason.
 */
#include <stdlib.h>

#include "iris/web.h"
#include "modules/files/files_private.h"

#define UPLOAD_MAX_MS (INT64_C(6) * 3600 * 1000) /* of one PUT: a slow one is cut by the web */
#define RETRY_AFTER "5"

static atomic_int transfers; /* of all workers: each has its buffers */

/* --- finding --- */

static void
http_refuse(struct iris_web_request *request, unsigned status, const char *why)
{
	web_answer(request, status, "text/plain; charset=utf-8",
		   arena_printf(web_arena(request), "%s\n", why));
}

static void
http_retry(struct iris_web_request *request, const char *why)
{
	web_set_header(request, "Retry-After", IRIS_STR(RETRY_AFTER));
	http_refuse(request, 503, why);
}

/*
 * The file of this link, opened. SECURITY: the name must be the file's, so that nobody renames it.
 */
static bool
http_find(struct iris_web_request *request, struct file *file_r)
{
	struct iris_str path = web_path(request);
	const char *slash = path.len > 0 ? memchr(path.base, '/', path.len) : NULL;
	struct iris_str token = IRIS_STR_NONE, name = IRIS_STR_NONE;
	bool failed = false;

	if (slash) {
		token = (struct iris_str){ path.base, (size_t)(slash - path.base) };
		name = (struct iris_str){ slash + 1, path.len - token.len - 1 };
	}
	if (token.len > 0 && file_find(file_id_of(token), file_r, &failed) &&
	    file_open(web_arena(request), file_r) && str_equal_secret(file_r->token, token) &&
	    str_equal(file_r->name, name) &&
	    (file_r->expires_ms == 0 || file_r->expires_ms > worker_wall_ms()))
		return true;
	if (failed)
		http_retry(request, "try again");
	else
		http_refuse(request, 404, "not found");
	return false;
}

/* --- PUT --- */

/* XEP-0363 §6: exactly what was announced. */
static bool
put_is_as_announced(struct iris_web_request *request, const struct file *file)
{
	int64_t length = web_body_length(request);
	struct iris_str type = web_header(request, "Content-Type");

	if (file->state != FILE_SLOT)
		http_refuse(request, 409, "this slot was used");
	else if (length < 0)
		http_refuse(request, 411, "the length must be told");
	else if (length != file->size)
		http_refuse(request, length > file->size ? 413 : 400,
			    "not the size that the slot was asked for");
	else if (!str_is_none(type) && file->type.len > 0 &&
		 !file_type_is(web_arena(request), file->type, type))
		http_refuse(request, 415, "not the type that the slot was asked for");
	else
		return true;
	return false;
}

/* False: the peer is gone, or the store failed; *answerable_r tells which. */
static bool
put_stream(struct iris_web_request *request, struct file *file, bool *answerable_r)
{
	struct content_writer *writer = content_writer_new(file);
	bool ok = writer != NULL;
	size_t room = 0;

	*answerable_r = true;
	while (ok) {
		char *at = content_writer_room(writer, &room);
		ssize_t got = room > 0 ? web_read(request, at, room) : 0;

		if (room == 0)
			break;
		*answerable_r = got >= 0;
		ok = got > 0 && content_writer_filled(writer, (size_t)got);
	}
	return writer && content_writer_end(&writer, ok);
}

static void
put_answer(struct iris_web_request *request, enum file_state state)
{
	switch (state) {
	case FILE_CLEAN:
		web_answer(request, 201, NULL, IRIS_STR(""));
		break;
	case FILE_PENDING:
		/* It is stored, and will be there when it was looked at. */
		web_answer(request, 202, NULL, IRIS_STR(""));
		break;
	case FILE_INFECTED:
		http_refuse(request, 422, "refused: the file is infected");
		break;
	default:
		http_refuse(request, 422, "refused: the file cannot be scanned");
	}
}

static void
put_take(struct iris_web_request *request, struct file *file)
{
	bool answerable;

	if (!put_stream(request, file, &answerable)) {
		(void)file_remove(file->id);
		if (answerable)
			http_retry(request, "the file could not be stored");
		return;
	}
	file->state = option_int(&files_self, OPT_SCAN) == SCAN_OFF ? FILE_CLEAN : FILE_PENDING;
	file->expires_ms = file_expiry(file);
	if (!file_stored(file)) {
		(void)file_remove(file->id);
		http_retry(request, "the file could not be stored");
		return;
	}
	metric_add(&file_metrics[METRIC_UPLOADS], 1);
	metric_add(&file_metrics[METRIC_UPLOADED], file->size);
	put_answer(request, file->state == FILE_CLEAN ? FILE_CLEAN : judge_file(file->id));
}

static void
http_put(struct iris_web_request *request)
{
	struct file file;

	if (!http_find(request, &file) || !put_is_as_announced(request, &file))
		return;
	/* SECURITY: of two that have the link one gets the slot, and nobody twice. */
	if (!file_claim(&file, worker_wall_ms() + UPLOAD_MAX_MS)) {
		http_refuse(request, 409, "this slot was used");
		return;
	}
	put_take(request, &file);
}

/* --- GET --- */

/* SECURITY: what a browser would run must not come from our domain, not even in a sandbox. */
static bool
type_is_active(struct iris_str type)
{
	static const char *const parts[] = { "html", "xml", "svg", "script", "css", "wasm",
					     "flash", "java", "x-sh", "mhtml", "hta" };

	for (size_t i = 0; i < IRIS_COUNT(parts); i++)
		if (memmem(type.base, type.len, parts[i], strlen(parts[i])))
			return true;
	return type.len == 0;
}

/* What may be shown where it stands; all else is saved. */
static bool
type_is_shown(struct iris_str type)
{
	static const char *const shown[] = {
		"image/png",  "image/jpeg", "image/gif",  "image/webp", "image/avif", "audio/mpeg",
		"audio/ogg",  "audio/opus", "audio/mp4",  "audio/aac",  "audio/flac", "audio/wav",
		"audio/webm", "video/mp4",  "video/webm", "video/ogg",
	};

	for (size_t i = 0; i < IRIS_COUNT(shown); i++)
		if (str_is(type, shown[i]))
			return true;
	return false;
}

static bool
is_plain_name(struct iris_str name) /* needs no quoting in a header */
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.base[i] < 0x20 || (unsigned char)name.base[i] > 0x7e ||
		    name.base[i] == '"' || name.base[i] == '\\' || name.base[i] == '%')
			return false;
	return true;
}

/* RFC 6266 §4. */
static struct iris_str
disposition_of(struct iris_arena *arena, const struct file *file)
{
	struct iris_strbuf text = STRBUF_INIT(arena);

	strbuf_add(&text, type_is_shown(file->type) ? IRIS_STR("inline") : IRIS_STR("attachment"));
	if (is_plain_name(file->name)) {
		strbuf_printf(&text, "; filename=\"%.*s\"", IRIS_STR_FMT(file->name));
	} else {
		strbuf_add(&text, IRIS_STR("; filename*=UTF-8''"));
		percent_encode(&text, file->name);
	}
	return strbuf_str(&text);
}

struct range {
	int64_t first, length;
	bool partial;
};

/* A number that is at the beginning of the text, which moves on. */
static bool
take_number(struct iris_str *text, int64_t *value_r)
{
	size_t len = 0;
	bool ok;

	while (len < text->len && text->base[len] >= '0' && text->base[len] <= '9')
		len++;
	ok = str_to_int((struct iris_str){ text->base, len }, 0, INT64_MAX, value_r);
	text->base += len;
	text->len -= len;
	return ok;
}

/* RFC 9110 §14: one range of bytes; what is none is as if it was not there. False: 416. */
static bool
range_parse(struct iris_str header, int64_t size, struct range *range_r)
{
	static const struct iris_str unit = { "bytes=", 6 };
	int64_t first = 0, last = size - 1;
	bool has_first, has_last;

	*range_r = (struct range){ 0, size, false };
	if (header.len <= unit.len || memcmp(header.base, unit.base, unit.len) != 0 ||
	    memchr(header.base, ',', header.len))
		return true;
	header = (struct iris_str){ header.base + unit.len, header.len - unit.len };
	has_first = take_number(&header, &first);
	if (header.len == 0 || *header.base != '-')
		return true;
	header = (struct iris_str){ header.base + 1, header.len - 1 };
	has_last = take_number(&header, &last);
	if (header.len > 0 || (!has_first && !has_last) || (has_first && has_last && last < first))
		return true;
	if (!has_first) { /* the last so many */
		first = last < size ? size - last : 0;
		if (last == 0)
			return false;
		last = size - 1;
	}
	if (first >= size)
		return false;
	if (last >= size)
		last = size - 1;
	*range_r = (struct range){ first, last - first + 1, true };
	return true;
}

static void
get_stream(struct iris_web_request *request, const struct file *file, const struct range *range)
{
	struct content_reader *reader = content_reader_new(file);
	int64_t at = range->first, end = range->first + range->length;

	if (!reader) {
		http_retry(request, "the file cannot be read");
		return;
	}
	if (range->partial)
		web_set_header(request, "Content-Range",
			       arena_printf(web_arena(request), "bytes %lld-%lld/%lld",
					    (long long)at, (long long)end - 1,
					    (long long)file->size));
	bool ok = web_begin(request, range->partial ? 206 : 200, range->length);
	while (ok && at < end) {
		struct iris_str part = content_read(reader, at);

		if ((int64_t)part.len > end - at)
			part.len = (size_t)(end - at);
		/* Nothing: the connection is cut, so that nobody takes a part for the whole. */
		ok = !str_is_none(part) && web_write(request, part.base, part.len);
		at += (int64_t)part.len;
	}
	content_reader_free(&reader);
	metric_add(&file_metrics[METRIC_DOWNLOADS], 1);
	metric_add(&file_metrics[METRIC_DOWNLOADED], at - range->first);
}

/* What every answer about the content of a file says. */
static struct iris_str
get_headers(struct iris_web_request *request, const struct file *file)
{
	/* The bytes behind a link never change. */
	struct iris_str etag = arena_printf(web_arena(request), "\"%llx-%llx\"",
					    (unsigned long long)file->id,
					    (unsigned long long)file->created_ms);

	web_set_header(request, "ETag", etag);
	/* Asked for again each time: a link may die. */
	web_set_header(request, "Cache-Control", IRIS_STR("private, no-cache"));
	web_set_header(request, "Content-Security-Policy",
		       IRIS_STR("default-src 'none'; frame-ancestors 'none'; sandbox"));
	web_set_header(request, "Cross-Origin-Resource-Policy", IRIS_STR("cross-origin"));
	return etag;
}

static bool
etag_is_in(struct iris_str list, struct iris_str etag)
{
	return !str_is_none(list) &&
	       (str_is(list, "*") || memmem(list.base, list.len, etag.base, etag.len));
}

static void
get_clean(struct iris_web_request *request, const struct file *file)
{
	struct iris_str etag = get_headers(request, file);
	struct iris_str wanted = web_header(request, "Range");
	struct iris_str if_range = web_header(request, "If-Range");
	struct range range;

	if (etag_is_in(web_header(request, "If-None-Match"), etag)) {
		web_answer(request, 304, NULL, IRIS_STR(""));
		return;
	}
	if (!str_is_none(if_range) && !str_equal(if_range, etag))
		wanted = IRIS_STR_NONE;
	web_set_header(request, "Accept-Ranges", IRIS_STR("bytes"));
	if (!range_parse(wanted, file->size, &range)) {
		web_set_header(request, "Content-Range",
			       arena_printf(web_arena(request), "bytes */%lld",
					    (long long)file->size));
		http_refuse(request, 416, "there are no such bytes");
		return;
	}
	web_set_header(request, "Content-Type",
		       type_is_active(file->type) ? IRIS_STR("application/octet-stream") :
						    file->type);
	web_set_header(request, "Content-Disposition", disposition_of(web_arena(request), file));
	get_stream(request, file, &range);
}

static void
http_get(struct iris_web_request *request)
{
	struct file file;

	if (!http_find(request, &file))
		return;
	switch (file.state) {
	case FILE_CLEAN:
		get_clean(request, &file);
		break;
	case FILE_PENDING:
		http_retry(request, "the file is being looked at");
		break;
	case FILE_INFECTED:
	case FILE_UNSCANNABLE:
		http_refuse(request, 410, "the file was refused");
		break;
	default:
		http_refuse(request, 404, "not found");
	}
}

/* --- both --- */

static void
http_handle(struct iris_web_request *request)
{
	/* SECURITY: each has half a megabyte of buffers while it lasts. */
	if (atomic_fetch_add(&transfers, 1) >= option_int(&files_self, OPT_TRANSFERS))
		http_retry(request, "too many transfers at a time");
	else if (web_method(request) == IRIS_WEB_PUT)
		http_put(request);
	else
		http_get(request);
	atomic_fetch_sub(&transfers, 1);
}

const struct iris_web_route file_routes[] = {
	/*
	 * Links are for whoever has them, pages of other origins among them; there are no cookies.
	 */
	{ IRIS_WEB_GET | IRIS_WEB_PUT, FILES_PATH, http_handle, IRIS_WEB_ANY_ORIGIN },
	{ .path = NULL },
};
