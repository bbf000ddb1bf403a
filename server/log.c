/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured logs.  A line is made in a bounded buffer and leaves in one write(), or goes to
 * journald as fields; any thread, no thread of its own.  Keeps no history and rotates nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <syslog.h>
#include <systemd/sd-journal.h>
#endif

#include "iris/hash.h"
#include "iris/module.h"
#include "log_private.h"

#define LINE_SIZE 2048u  /* below PIPE_BUF: lines of several threads never mix in a pipe */
#define LINE_SPARE 64u   /* for what must follow the fields */
#define TEXT_MAX 512u    /* of one value */
#define FIELDS_MAX 16u
#define KINDS 1024u      /* of events; the code has a few hundred */
#define BURST_SECONDS 20u
#define KEY_MAX 64u

static const char *const level_names[] = { "error", "warning", "notice", "info", "debug", NULL };

enum sink { SINK_STREAM, SINK_JOURNAL };

static _Atomic int current_level = IRIS_LOG_INFO;
static _Atomic int sink = SINK_STREAM;
static _Atomic int out_fd = STDERR_FILENO;
static char out_path[4096];

/* --- counters of the operators --- */

enum { METRIC_LINES, METRIC_SUPPRESSED, METRIC_LOST };

static struct iris_metric log_metrics[] = {
	[METRIC_LINES] = { "iris_log_lines_total", NULL, IRIS_COUNTER, "Log lines written.", 0 },
	[METRIC_SUPPRESSED] = { "iris_log_suppressed_total", NULL, IRIS_COUNTER,
				"Log lines held back by the rate limit.", 0 },
	[METRIC_LOST] = { "iris_log_lost_total", NULL, IRIS_COUNTER,
			  "Log lines that could not be written.", 0 },
	{ .name = NULL },
};

/* --- the rate limit: a bucket of tokens per kind of event --- */

struct kind {
	uint64_t hash; /* 0: free */
	int64_t refilled_ms;
	uint64_t thousandths; /* of tokens */
	int64_t suppressed;
};

static pthread_mutex_t kinds_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct kind kinds[KINDS];
static _Atomic unsigned rate = 50;

static uint64_t
kind_hash(const char *area, const char *event)
{
	uint64_t both[2] = { hash_bytes(area, strlen(area)), hash_bytes(event, strlen(event)) };

	return hash_bytes(both, sizeof(both)) | 1;
}

/* When all are taken (never, unless events were named by data) the last one is shared. */
static struct kind *
kind_find(uint64_t hash)
{
	struct kind *kind = NULL;

	for (size_t i = 0; i < KINDS; i++) {
		kind = &kinds[(hash + i) % KINDS];
		if (kind->hash == hash || kind->hash == 0)
			break;
	}
	return kind;
}

static int64_t
monotonic_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
kind_refill(struct kind *kind, uint64_t per_second)
{
	uint64_t full = per_second * BURST_SECONDS * 1000, more;
	int64_t now = monotonic_ms();

	more = (uint64_t)(now - kind->refilled_ms) * per_second;
	if (kind->hash == 0 || more > full - kind->thousandths || kind->thousandths > full)
		kind->thousandths = full;
	else
		kind->thousandths += more;
	kind->refilled_ms = now;
}

/* SECURITY: a peer that repeats what is logged must not fill the disk. */
static bool
may_write(const char *area, const char *event, int64_t *suppressed_r)
{
	unsigned per_second = atomic_load_explicit(&rate, memory_order_relaxed);
	uint64_t hash = kind_hash(area, event);
	struct kind *kind;
	bool may;

	*suppressed_r = 0;
	if (per_second == 0)
		return true;
	IRIS_ASSERT(pthread_mutex_lock(&kinds_mutex) == 0);
	kind = kind_find(hash);
	kind_refill(kind, per_second);
	kind->hash = hash;
	may = kind->thousandths >= 1000;
	if (may) {
		kind->thousandths -= 1000;
		*suppressed_r = kind->suppressed;
		kind->suppressed = 0;
	} else {
		kind->suppressed++;
	}
	IRIS_ASSERT(pthread_mutex_unlock(&kinds_mutex) == 0);
	return may;
}

/* --- pseudonyms --- */

static pthread_mutex_t key_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned char pseudonym_key[KEY_MAX];
static size_t pseudonym_key_len;

void
log_set_pseudonym_key(const void *key, size_t len)
{
	IRIS_ASSERT(len > 0 && len <= KEY_MAX);
	IRIS_ASSERT(pthread_mutex_lock(&key_mutex) == 0);
	OPENSSL_cleanse(pseudonym_key, sizeof(pseudonym_key));
	memcpy(pseudonym_key, key, len);
	pseudonym_key_len = len;
	IRIS_ASSERT(pthread_mutex_unlock(&key_mutex) == 0);
}

static void
draw_key_if_none(void)
{
	if (pseudonym_key_len > 0)
		return;
	IRIS_ASSERT(getrandom(pseudonym_key, 32, 0) == 32);
	pseudonym_key_len = 32;
}

void
log_pseudonym(struct iris_str bare_jid, char digits_r[LOG_PSEUDONYM_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;
	size_t at = 0;

	IRIS_ASSERT(pthread_mutex_lock(&key_mutex) == 0);
	draw_key_if_none();
	IRIS_ASSERT(HMAC(EVP_sha256(), pseudonym_key, (int)pseudonym_key_len,
			 (const unsigned char *)bare_jid.base, bare_jid.len, mac, &mac_len));
	IRIS_ASSERT(pthread_mutex_unlock(&key_mutex) == 0);
	for (size_t i = 0; i < (LOG_PSEUDONYM_SIZE - 1) / 2; i++) {
		digits_r[at++] = hex[mac[i] >> 4];
		digits_r[at++] = hex[mac[i] & 15];
	}
	digits_r[at] = '\0';
}

/* --- text in a bounded buffer: what does not fit sets `full` and is left out --- */

struct line {
	char *base;
	size_t len, size;
	bool full;
};

static void
put(struct line *line, const char *text, size_t len)
{
	if (line->full || len > line->size - line->len) {
		line->full = true;
		return;
	}
	memcpy(line->base + line->len, text, len);
	line->len += len;
}

static void
put_cstr(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

static void
put_number(struct line *line, int64_t number)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%lld", (long long)number);

	put(line, text, (size_t)len);
}

/* RFC 3339, UTC, with milliseconds. */
static void
put_time(struct line *line)
{
	struct timespec now;
	struct tm tm;
	char text[40];
	size_t len;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	IRIS_ASSERT(gmtime_r(&now.tv_sec, &tm) != NULL);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	put(line, text, len);
	len = (size_t)snprintf(text, sizeof(text), ".%03ldZ", now.tv_nsec / 1000000);
	put(line, text, len);
}

/* Length of the well-formed UTF-8 character at s (RFC 3629), 0 when there is none. */
static size_t
character_len(const unsigned char *s, size_t left)
{
	static const struct {
		unsigned char from, to, second_from, second_to;
		size_t len;
	} forms[] = {
		{ 0x00, 0x7f, 0x80, 0xbf, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < IRIS_COUNT(forms); i++) {
		if (s[0] < forms[i].from || s[0] > forms[i].to)
			continue;
		if (forms[i].len > left)
			return 0;
		if (forms[i].len > 1 && (s[1] < forms[i].second_from || s[1] > forms[i].second_to))
			return 0;
		for (size_t j = 2; j < forms[i].len; j++)
			if ((s[j] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* SECURITY: text of peers must end neither the string nor the line. */
static void
put_json(struct line *line, struct iris_str s)
{
	bool cut = s.len > TEXT_MAX;
	size_t end = cut ? TEXT_MAX : s.len;

	put_cstr(line, "\"");
	for (size_t i = 0; i < end;) {
		const unsigned char *at = (const unsigned char *)s.base + i;
		size_t len = character_len(at, s.len - i);
		char escaped[8];

		if (len == 0)
			put_cstr(line, "\\ufffd");
		else if (*at < 0x20 || *at == 0x7f)
			put(line, escaped,
			    (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", *at));
		else if (*at == '"' || *at == '\\')
			put(line, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\%c", *at));
		else
			put(line, (const char *)at, len);
		i += len > 0 ? len : 1;
	}
	put_cstr(line, cut ? "…\"" : "\"");
}

/* RFC 7622 §3.1: the first '/' begins the resource, the first '@' before it ends the local part. */
static struct iris_str
address_text(struct iris_str jid, char *buf, size_t size)
{
	const char *slash = jid.len > 0 ? memchr(jid.base, '/', jid.len) : NULL;
	struct iris_str bare = { jid.base, slash ? (size_t)(slash - jid.base) : jid.len };
	const char *at = bare.len > 0 ? memchr(bare.base, '@', bare.len) : NULL;
	char digits[LOG_PSEUDONYM_SIZE];
	int len;

	if (!at)
		return bare;
	log_pseudonym(bare, digits);
	len = snprintf(buf, size, "%s%.*s", digits, (int)(bare.len - (size_t)(at - bare.base)), at);
	return (struct iris_str){ buf, (size_t)len < size ? (size_t)len : size - 1 };
}

/* --- one line of JSON --- */

static void
put_member(struct line *line, const char *name, struct iris_str value)
{
	put_cstr(line, ",\"");
	put_cstr(line, name);
	put_cstr(line, "\":");
	put_json(line, value);
}

static void
put_member_number(struct line *line, const char *name, int64_t value)
{
	put_cstr(line, ",\"");
	put_cstr(line, name);
	put_cstr(line, "\":");
	put_number(line, value);
}

static void
put_field(struct line *line, const struct iris_log_field *field)
{
	char address[TEXT_MAX + 8];

	if (field->type == IRIS_LOG_NUMBER)
		put_member_number(line, field->name, field->number);
	else if (str_is_none(field->text))
		return;
	else if (field->type == IRIS_LOG_ADDRESS)
		put_member(line, field->name, address_text(field->text, address, sizeof(address)));
	else
		put_member(line, field->name, field->text);
}

/* All fields that fit; whole ones only. */
static void
put_fields(struct line *line, const struct iris_log_field *fields, size_t count)
{
	line->size -= LINE_SPARE;
	for (size_t i = 0; i < count; i++) {
		size_t before = line->len;

		put_field(line, &fields[i]);
		if (!line->full)
			continue;
		line->len = before;
		break;
	}
	line->size += LINE_SPARE;
}

static void
write_stream(enum iris_log_level level, const char *area, const char *event, int64_t suppressed,
	     const struct iris_log_field *fields, size_t count)
{
	char text[LINE_SIZE];
	struct line line = { .base = text, .size = sizeof(text) };
	ssize_t n;

	put_cstr(&line, "{\"time\":\"");
	put_time(&line);
	put_cstr(&line, "\",\"level\":\"");
	put_cstr(&line, level_names[level]);
	put_cstr(&line, "\"");
	put_member(&line, "area", str_from(area));
	put_member(&line, "event", str_from(event));
	put_fields(&line, fields, count);
	if (line.full)
		line.full = false, put_cstr(&line, ",\"truncated\":true");
	if (suppressed > 0)
		put_member_number(&line, "suppressed", suppressed);
	put_cstr(&line, "}\n");
	do
		n = write(atomic_load(&out_fd), line.base, line.len);
	while (n < 0 && errno == EINTR);
	metric_add(&log_metrics[n == (ssize_t)line.len ? METRIC_LINES : METRIC_LOST], 1);
}

/* --- journald --- */

#ifdef HAVE_SYSTEMD
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

struct entry {
	struct line line;
	struct iovec fields[FIELDS_MAX + 6];
	int count;
};

static void
entry_add(struct entry *entry, const char *name, struct iris_str value)
{
	struct line *line = &entry->line;
	size_t from = line->len;

	for (const char *c = name; *c; c++) {
		char upper = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c == '-' ? '_' : *c;

		put(line, &upper, 1);
	}
	put_cstr(line, "=");
	put(line, value.base, value.len < TEXT_MAX ? value.len : TEXT_MAX);
	if (line->full) {
		line->len = from;
		return;
	}
	entry->fields[entry->count++] = (struct iovec){ line->base + from, line->len - from };
}

static void
entry_add_number(struct entry *entry, const char *name, int64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", (long long)number);
	entry_add(entry, name, str_from(text));
}

static void
entry_add_field(struct entry *entry, const struct iris_log_field *field)
{
	char name[64], address[TEXT_MAX + 8];

	(void)snprintf(name, sizeof(name), "iris-%s", field->name);
	if (field->type == IRIS_LOG_NUMBER)
		entry_add_number(entry, name, field->number);
	else if (str_is_none(field->text))
		return;
	else if (field->type == IRIS_LOG_ADDRESS)
		entry_add(entry, name, address_text(field->text, address, sizeof(address)));
	else
		entry_add(entry, name, field->text);
}

static void
write_journal(enum iris_log_level level, const char *area, const char *event, int64_t suppressed,
	      const struct iris_log_field *fields, size_t count)
{
	char text[LINE_SIZE], message[160];
	struct entry entry = { .line = { .base = text, .size = sizeof(text) } };

	(void)snprintf(message, sizeof(message), "%s: %s", area, event);
	entry_add(&entry, "MESSAGE", str_from(message));
	entry_add_number(&entry, "PRIORITY", priorities[level]);
	entry_add(&entry, "IRIS_AREA", str_from(area));
	entry_add(&entry, "IRIS_EVENT", str_from(event));
	if (suppressed > 0)
		entry_add_number(&entry, "IRIS_SUPPRESSED", suppressed);
	for (size_t i = 0; i < count && i < FIELDS_MAX; i++)
		entry_add_field(&entry, &fields[i]);
	metric_add(&log_metrics[sd_journal_sendv(entry.fields, entry.count) == 0 ? METRIC_LINES
									     : METRIC_LOST], 1);
}

/* Without a journal sending says 0 and drops: so look once, and refuse to start without it. */
static bool
open_journal(struct iris_error *error)
{
	if (access("/run/systemd/journal/socket", W_OK) != 0) {
		(void)error_set(error, "log.target is journal, but no journal is running");
		(void)error_detail(error, "/run/systemd/journal/socket: %s", strerror(errno));
		return error_hint(error, "set log.target to stderr or file");
	}
	atomic_store(&sink, SINK_JOURNAL);
	return true;
}
#else
static void
write_journal(enum iris_log_level level, const char *area, const char *event, int64_t suppressed,
	      const struct iris_log_field *fields, size_t count)
{
}

static bool
open_journal(struct iris_error *error)
{
	(void)error_set(error, "log.target is journal, but irisd was built without libsystemd");
	return error_hint(error, "set log.target to stderr or file");
}
#endif

/* --- for everybody --- */

bool
log_is_enabled(enum iris_log_level level)
{
	return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void
log_write(enum iris_log_level level, const char *area, const char *event,
	  const struct iris_log_field *fields, size_t count)
{
	int saved_errno = errno;
	int64_t suppressed;

	if (!may_write(area, event, &suppressed))
		metric_add(&log_metrics[METRIC_SUPPRESSED], 1);
	else if (atomic_load(&sink) == SINK_JOURNAL)
		write_journal(level, area, event, suppressed, fields, count);
	else
		write_stream(level, area, event, suppressed, fields, count);
	errno = saved_errno;
}

static struct iris_str
unless_empty(const char *text)
{
	return *text ? str_from(text) : IRIS_STR_NONE;
}

void
log_error(enum iris_log_level level, const char *area, const char *event,
	  const struct iris_error *error)
{
	LOG(level, area, event, LOG_CSTR("message", error->message),
	    LOG_STR("detail", unless_empty(error->detail)),
	    LOG_STR("hint", unless_empty(error->hint)));
}

void
log_set_level(enum iris_log_level level)
{
	atomic_store(&current_level, (int)level);
}

enum iris_log_level
log_level(void)
{
	return (enum iris_log_level)atomic_load(&current_level);
}

bool
log_level_from(struct iris_str name, enum iris_log_level *level_r)
{
	for (size_t i = 0; level_names[i]; i++) {
		if (str_is(name, level_names[i])) {
			*level_r = (enum iris_log_level)i;
			return true;
		}
	}
	return false;
}

const char *
log_level_name(enum iris_log_level level)
{
	return level_names[level];
}

void
log_set_rate(unsigned lines_per_second)
{
	atomic_store(&rate, lines_per_second);
}

/* --- open and close --- */

static int
open_file(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

bool
log_open(const char *target, enum iris_log_level level, struct iris_error *error)
{
	int fd;

	log_close();
	log_set_level(level);
	if (strcmp(target, "stderr") == 0)
		return true;
	if (strcmp(target, "journal") == 0)
		return open_journal(error);
	if (!str_copy_to(out_path, sizeof(out_path), str_from(target)))
		return error_set(error, "the path of the log is too long");
	fd = open_file(target);
	if (fd < 0) {
		(void)error_set(error, "cannot open the log");
		(void)error_detail(error, "%s: %s", target, strerror(errno));
		return error_hint(error, "make its folder writable for the user of irisd");
	}
	atomic_store(&out_fd, fd);
	return true;
}

/* The number of the descriptor stays, so that threads may go on writing meanwhile. */
void
log_reopen(void)
{
	int fd = atomic_load(&out_fd), fresh;

	if (fd == STDERR_FILENO)
		return;
	fresh = open_file(out_path);
	if (fresh < 0) {
		LOG(IRIS_LOG_ERROR, "log", "reopen-failed", LOG_CSTR("path", out_path),
		    LOG_CSTR("reason", strerror(errno)));
		return;
	}
	IRIS_ASSERT(dup3(fresh, fd, O_CLOEXEC) == fd);
	(void)close(fresh);
}

void
log_close(void)
{
	int fd = atomic_exchange(&out_fd, STDERR_FILENO);

	atomic_store(&sink, SINK_STREAM);
	if (fd != STDERR_FILENO)
		(void)close(fd);
}

/* --- the section `log` --- */

enum { OPTION_TARGET, OPTION_PATH, OPTION_LEVEL, OPTION_RATE };
enum { TARGET_STDERR, TARGET_JOURNAL, TARGET_FILE };

static const char *const targets[] = { "stderr", "journal", "file", NULL };

static const struct iris_option options[] = {
	[OPTION_TARGET] = {
		.name = "target", .type = IRIS_OPT_CHOICE, .fallback = "stderr", .choices = targets,
		.help = "Where log lines go; stderr and file are JSON, one object on a line.",
	},
	[OPTION_PATH] = {
		.name = "path", .type = IRIS_OPT_PATH, .optional = true,
		.help = "The file of target file; opened anew at SIGHUP.",
	},
	[OPTION_LEVEL] = {
		.name = "level", .type = IRIS_OPT_CHOICE, .fallback = "info",
		.choices = level_names,
		.reloadable = true,
		.help = "The least urgent level that is written.",
	},
	[OPTION_RATE] = {
		.name = "lines-per-second", .type = IRIS_OPT_INT, .fallback = "50", .max = 1000000,
		.reloadable = true,
		.help = "For each kind of event, twenty seconds' worth at once; what is held back "
			"is counted in a later line. 0 is no limit.",
	},
	IRIS_OPTIONS_END,
};

static struct iris_module_self module_self;

static bool
module_check(const struct iris_settings *settings, struct iris_error *error)
{
	bool is_file = settings_int(settings, OPTION_TARGET) == TARGET_FILE;

	if (is_file && str_is_empty(settings_str(settings, OPTION_PATH))) {
		(void)error_set(error, "log.target is file, but log.path is missing");
		return error_hint(error, "name the file, or use stderr or journal");
	}
	return true;
}

static bool
module_start(struct iris_error *error)
{
	int64_t target = option_int(&module_self, OPTION_TARGET);
	enum iris_log_level level = (enum iris_log_level)option_int(&module_self, OPTION_LEVEL);
	char *path = NULL;
	bool opened;

	log_set_rate((unsigned)option_int(&module_self, OPTION_RATE));
	if (target == TARGET_FILE)
		path = str_dup(option_str(&module_self, OPTION_PATH));
	opened = log_open(path ? path : targets[target], level, error);
	free(path);
	return opened;
}

static void
module_reload(void)
{
	log_set_level((enum iris_log_level)option_int(&module_self, OPTION_LEVEL));
	log_set_rate((unsigned)option_int(&module_self, OPTION_RATE));
	log_reopen();
}

const struct iris_module iris_module_log = {
	IRIS_MODULE_HEAD,
	.name = "log",
	.summary = "Structured logs",
	.self = &module_self,
	.options = options,
	.metrics = log_metrics,
	.not_unloadable = true,
	.at_edge = true,
	.check = module_check,
	.start = module_start,
	.reload = module_reload,
	.stop = log_close,
};
