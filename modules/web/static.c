/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a folder, for anybody: types by name, entity tags, no listings.  On the fiber of the
 * request; what touches the disk runs in the pool.
 *
 * SECURITY: the path has no "..", and openat2(RESOLVE_BENEATH) sees to it that no link leads out of
 * the folder. Hidden files are not there. Only regular files are sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "web_private.h"

#define READ_SIZE 65536

static const struct {
	const char *suffix, *type;
} types[] = {
	{ ".html", "text/html; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".mjs", "text/javascript; charset=utf-8" },
	{ ".json", "application/json" },
	{ ".map", "application/json" },
	{ ".webmanifest", "application/manifest+json" },
	{ ".xml", "application/xml" },
	{ ".txt", "text/plain; charset=utf-8" },
	{ ".svg", "image/svg+xml" },
	{ ".png", "image/png" },
	{ ".jpg", "image/jpeg" },
	{ ".jpeg", "image/jpeg" },
	{ ".gif", "image/gif" },
	{ ".webp", "image/webp" },
	{ ".ico", "image/vnd.microsoft.icon" },
	{ ".woff", "font/woff" },
	{ ".woff2", "font/woff2" },
	{ ".ttf", "font/ttf" },
	{ ".mp3", "audio/mpeg" },
	{ ".ogg", "audio/ogg" },
	{ ".wasm", "application/wasm" },
	{ ".pdf", "application/pdf" },
};

static const char *
type_of(struct iris_str path)
{
	for (size_t i = 0; i < IRIS_COUNT(types); i++) {
		size_t len = strlen(types[i].suffix);

		if (path.len > len &&
		    http_equal((struct iris_str){ path.base + path.len - len, len },
			       str_from(types[i].suffix)))
			return types[i].type;
	}
	return "application/octet-stream";
}

/* --- the disk: in the pool --- */

struct static_file {
	const char *folder, *path; /* NUL-terminated */
	int fd; /* -1: nothing to be shown */
	struct stat stat;
	char *buffer; /* of READ_SIZE */
	ssize_t got;
};

static void
static_open(void *arg)
{
	struct static_file *file = arg;
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	int folder = open(file->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

	file->fd = -1;
	if (folder < 0)
		return;
	file->fd = (int)syscall(SYS_openat2, folder, file->path, &how, sizeof(how));
	close(folder);
	if (file->fd >= 0 && (fstat(file->fd, &file->stat) != 0 || !S_ISREG(file->stat.st_mode))) {
		close(file->fd);
		file->fd = -1;
	}
}

static void
static_read(void *arg)
{
	struct static_file *file = arg;

	do
		file->got = read(file->fd, file->buffer, READ_SIZE);
	while (file->got < 0 && errno == EINTR);
}

/* --- answers --- */

static bool
has_hidden_segment(struct iris_str path)
{
	for (size_t i = 0; i < path.len; i++)
		if (path.base[i] == '.' && (i == 0 || path.base[i - 1] == '/'))
			return true;
	return false;
}

/* RFC 9110 §8.8.3: a file that was changed within its second has another size or inode mostly. */
static struct iris_str
static_tag(struct iris_web_request *request, const struct stat *stat)
{
	return arena_printf(web_arena(request), "\"%llx-%llx-%llx\"",
			    (unsigned long long)stat->st_ino, (unsigned long long)stat->st_size,
			    (unsigned long long)stat->st_mtim.tv_sec * 1000000000ull +
				    (unsigned long long)stat->st_mtim.tv_nsec);
}

static bool
static_is_known(struct iris_web_request *request, struct iris_str tag)
{
	struct iris_str known = web_header(request, "If-None-Match");

	return str_is(known, "*") ||
	       memmem(known.base ? known.base : "", known.len, tag.base, tag.len);
}

static void
static_send_body(struct iris_web_request *request, struct static_file *file)
{
	int64_t left = file->stat.st_size;

	file->buffer = arena_alloc(web_arena(request), READ_SIZE);
	while (left > 0) {
		pool_call("web: file", static_read, file);
		if (file->got <= 0)
			return; /* it became shorter: the peer sees that something is missing */
		if (file->got > left)
			file->got = (ssize_t)left;
		if (!web_write(request, file->buffer, (size_t)file->got))
			return;
		left -= file->got;
	}
}

void
static_send(struct iris_web_request *request, struct iris_str folder, struct iris_str path)
{
	struct iris_arena *arena = web_arena(request);
	struct static_file file = { .folder = arena_copy_str(arena, folder).base };
	struct iris_str tag;

	if (path.len == 0 || path.base[path.len - 1] == '/')
		path = arena_printf(arena, "%.*sindex.html", IRIS_STR_FMT(path));
	file.path = arena_copy_str(arena, path).base;
	if (has_hidden_segment(path)) {
		answer_status(request, 404);
		return;
	}
	pool_call("web: file", static_open, &file);
	if (file.fd < 0) {
		answer_status(request, 404);
		return;
	}
	tag = static_tag(request, &file.stat);
	web_set_header(request, "ETag", tag);
	web_set_header(request, "Cache-Control", IRIS_STR("no-cache"));
	if (static_is_known(request, tag)) {
		web_answer(request, 304, NULL, IRIS_STR_NONE);
	} else {
		web_set_header(request, "Content-Type", str_from(type_of(path)));
		if (web_begin(request, 200, file.stat.st_size))
			static_send_body(request, &file);
	}
	close(file.fd);
}

void
static_handle(struct iris_web_request *request)
{
	const struct iris_settings *settings = web_settings(), *best = NULL;
	struct iris_str path = request->path;
	size_t best_len = 0;

	for (size_t i = 0; i < settings_count(settings, WEB_OPT_FOLDERS); i++) {
		const struct iris_settings *record = settings_record(settings, WEB_OPT_FOLDERS, i);
		struct iris_str prefix = settings_str(record, WEB_FOLDER_PATH);

		if (prefix.len > best_len && path.len >= prefix.len &&
		    memcmp(path.base, prefix.base, prefix.len) == 0) {
			best = record;
			best_len = prefix.len;
		}
	}
	if (best)
		static_send(request, settings_str(best, WEB_FOLDER_FOLDER),
			    (struct iris_str){ path.base + best_len, path.len - best_len });
	else
		answer_status(request, 404);
}
