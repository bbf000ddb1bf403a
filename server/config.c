/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: YAML by libyaml's event interface, into a tree that keeps file, line and
 * column of everything.  Included files, ${NAME} in scalars.  Main thread.
 *
 * Of YAML, only what reads the same to everybody: no anchors, aliases, tags, merge keys or second
 * documents, no key twice.  What a scalar means (true, 10 minutes) is not decided here but by the
 * option's type: there is no implicit typing.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "config_private.h"
#include "settings_private.h"

/* One file being read. */
struct reader {
	struct iris_config *config;
	struct iris_report *report;
	struct config_file *file;
	yaml_parser_t yaml;
	unsigned depth; /* of mappings and sequences */
};

/* --- expansion --- */

static bool
is_name_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}

/* What stands between "${" and "}". */
static bool
expand_variable(struct iris_arena *arena, struct iris_str inner, struct iris_str *value_r,
		struct iris_str *why_r)
{
	struct iris_str name = { inner.base, 0 };
	const char *value;

	while (name.len < inner.len && is_name_char(inner.base[name.len], name.len == 0))
		name.len++;
	struct iris_str rest = { inner.base + name.len, inner.len - name.len };
	const bool has_default = rest.len >= 2 && memcmp(rest.base, ":-", 2) == 0;
	if (name.len == 0 || (rest.len > 0 && !has_default)) {
		*why_r = arena_printf(arena, "\"${%.*s}\" is neither ${NAME} nor ${NAME:-default}",
				      IRIS_STR_FMT(inner));
		return false;
	}
	value = getenv(arena_copy_str(arena, name).base);
	if (value && (*value || !has_default)) {
		*value_r = arena_copy_str(arena, str_from(value));
		return true;
	}
	*value_r = (struct iris_str){ rest.base + 2, rest.len - 2 };
	if (!has_default)
		*why_r = arena_printf(arena, "the environment variable %.*s is not set",
				      IRIS_STR_FMT(name));
	return has_default;
}

bool
config_expand(struct iris_arena *arena, struct iris_str text, struct iris_str *text_r,
	      struct iris_str *why_r)
{
	struct iris_strbuf buf = STRBUF_INIT(arena);
	size_t i = 0;

	if (memchr(text.base, '$', text.len) == NULL) {
		*text_r = text;
		return true;
	}
	while (i < text.len) {
		const char *at = text.base + i;
		const size_t left = text.len - i;
		struct iris_str value;

		if (left >= 3 && memcmp(at, "$${", 3) == 0) { /* "$${" stands for "${" */
			strbuf_add(&buf, IRIS_STR("${"));
			i += 3;
			continue;
		}
		if (left < 2 || memcmp(at, "${", 2) != 0) {
			strbuf_add_char(&buf, *at);
			i++;
			continue;
		}
		const char *end = memchr(at, '}', left);
		if (end == NULL) {
			*why_r = IRIS_STR(
				"\"${\" has no closing \"}\" (\"$${\" stands for \"${\" itself)");
			return false;
		}
		if (!expand_variable(arena, (struct iris_str){ at + 2, (size_t)(end - at) - 2 },
				     &value, why_r))
			return false;
		strbuf_add(&buf, value);
		i += (size_t)(end - at) + 1;
	}
	*text_r = buf.base ? strbuf_str(&buf) : IRIS_STR("");
	return true;
}

/* --- events to nodes --- */

static bool
reader_error(struct reader *reader, yaml_mark_t mark, const char *what)
{
	report_error(reader->report, "%s:%zu:%zu: %s", reader->file->name, mark.line + 1,
		     mark.column + 1, what);
	return false;
}

/* The next event; false when the text is not YAML, or uses what we do not take. */
static bool
reader_next(struct reader *reader, yaml_event_t *event_r)
{
	const yaml_parser_t *yaml = &reader->yaml;
	char text[300];
	bool ok;

	if (!yaml_parser_parse(&reader->yaml, event_r)) {
		snprintf(text, sizeof(text), "%s%s%s", yaml->problem ? yaml->problem : "not YAML",
			 yaml->context ? " " : "", yaml->context ? yaml->context : "");
		return reader_error(reader, yaml->problem_mark, text);
	}
	switch (event_r->type) {
	case YAML_ALIAS_EVENT:
		ok = reader_error(reader, event_r->start_mark,
				  "aliases (*name) are not used here: write it out");
		break;
	case YAML_SCALAR_EVENT:
		ok = !event_r->data.scalar.anchor && !event_r->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		ok = !event_r->data.sequence_start.anchor && !event_r->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		ok = !event_r->data.mapping_start.anchor && !event_r->data.mapping_start.tag;
		break;
	default:
		return true;
	}
	if (!ok && event_r->type != YAML_ALIAS_EVENT)
		reader_error(reader, event_r->start_mark,
			     "anchors (&name) and tags (!name) are not used here");
	if (!ok)
		yaml_event_delete(event_r);
	return ok;
}

static struct config_node *
node_new(struct reader *reader, enum config_kind kind, yaml_mark_t mark)
{
	struct config_node *node;

	if (++reader->config->node_count > CONFIG_NODES_MAX) {
		reader_error(reader, mark, "the configuration is too large");
		return NULL;
	}
	node = ARENA_NEW(reader->config->arena, struct config_node);
	node->kind = kind;
	node->file = reader->file;
	node->line = (unsigned)mark.line + 1;
	node->column = (unsigned)mark.column + 1;
	return node;
}

static void
node_append(struct config_node *parent, struct config_node *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->count++;
}

static struct config_node *
read_scalar(struct reader *reader, const yaml_event_t *event)
{
	struct iris_str raw = { (const char *)event->data.scalar.value, event->data.scalar.length },
			why;
	struct config_node *node = node_new(reader, CONFIG_SCALAR, event->start_mark);

	if (node == NULL)
		return NULL;
	if (memchr(raw.base, '\0', raw.len)) {
		reader_error(reader, event->start_mark, "a value contains a NUL character");
		return NULL;
	}
	node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	raw = arena_copy_str(reader->config->arena, raw);
	if (config_expand(reader->config->arena, raw, &node->text, &why))
		return node;
	reader_error(reader, event->start_mark, why.base);
	return NULL;
}

static struct config_node *read_node(struct reader *reader, const yaml_event_t *event);

/* A key is a plain name, once in its mapping. */
static bool
check_key(struct reader *reader, const struct config_node *mapping, const yaml_event_t *event)
{
	struct iris_str key = { (const char *)event->data.scalar.value, event->data.scalar.length };
	const struct config_node *before;
	char text[300];

	if (event->type != YAML_SCALAR_EVENT || key.len == 0 || key.len > 100 ||
	    memchr(key.base, '\0', key.len))
		return reader_error(reader, event->start_mark,
				    "here the name of an option is expected");
	if (str_is(key, "<<"))
		return reader_error(reader, event->start_mark,
				    "merge keys (<<) are not used here: write it out");
	if (mapping->count >= CONFIG_KEYS_MAX)
		return reader_error(reader, event->start_mark, "too many options in one place");
	before = config_child(mapping, key);
	if (before == NULL)
		return true;
	snprintf(text, sizeof(text), "\"%.*s\" is here twice, first in line %u", IRIS_STR_FMT(key),
		 before->line);
	return reader_error(reader, event->start_mark, text);
}

static bool
read_pair(struct reader *reader, struct config_node *mapping, const yaml_event_t *key)
{
	yaml_event_t event;
	struct config_node *value;

	if (!check_key(reader, mapping, key) || !reader_next(reader, &event))
		return false;
	value = read_node(reader, &event);
	yaml_event_delete(&event);
	if (value == NULL)
		return false;
	value->key = arena_copy_str(
		reader->config->arena,
		(struct iris_str){ (const char *)key->data.scalar.value, key->data.scalar.length });
	value->line = (unsigned)key->start_mark.line + 1;
	value->column = (unsigned)key->start_mark.column + 1;
	node_append(mapping, value);
	return true;
}

static bool
read_item(struct reader *reader, struct config_node *sequence, const yaml_event_t *event)
{
	struct config_node *item;

	if (sequence->count >= CONFIG_ITEMS_MAX)
		return reader_error(reader, event->start_mark, "too many entries in one list");
	item = read_node(reader, event);
	if (item)
		node_append(sequence, item);
	return item != NULL;
}

static struct config_node *
read_collection(struct reader *reader, enum config_kind kind, const yaml_event_t *start)
{
	const yaml_event_type_t end =
		kind == CONFIG_MAPPING ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
	struct config_node *node = node_new(reader, kind, start->start_mark);
	bool ok = node != NULL;

	if (ok && ++reader->depth > CONFIG_DEPTH_MAX)
		ok = reader_error(reader, start->start_mark, "nested too deeply");
	while (ok) {
		yaml_event_t event;
		if (!reader_next(reader, &event))
			return NULL;
		const bool at_end = event.type == end;
		if (!at_end)
			ok = kind == CONFIG_MAPPING ? read_pair(reader, node, &event)
						    : read_item(reader, node, &event);
		yaml_event_delete(&event);
		if (at_end)
			break;
	}
	reader->depth--;
	return ok ? node : NULL;
}

/* NULL: the report has the reason, and reading ends. The event stays the caller's. */
static struct config_node *
read_node(struct reader *reader, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return read_scalar(reader, event);
	case YAML_SEQUENCE_START_EVENT:
		return read_collection(reader, CONFIG_SEQUENCE, event);
	case YAML_MAPPING_START_EVENT:
		return read_collection(reader, CONFIG_MAPPING, event);
	default:
		reader_error(reader, event->start_mark, "here a value is expected");
		return NULL;
	}
}

/* The one document; *node_r stays NULL when the text is empty. */
static bool
read_document(struct reader *reader, struct config_node **node_r)
{
	bool ok = true, at_end = false;

	*node_r = NULL;
	while (ok && !at_end) {
		yaml_event_t event;
		if (!reader_next(reader, &event))
			return false;
		switch (event.type) {
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_STREAM_END_EVENT:
			at_end = true;
			break;
		case YAML_DOCUMENT_START_EVENT:
			if (*node_r)
				ok = reader_error(reader, event.start_mark,
						  "a second document (---) in one file");
			break;
		default:
			*node_r = read_node(reader, &event);
			ok = *node_r != NULL;
		}
		yaml_event_delete(&event);
	}
	return ok;
}

static bool
reader_parse(struct reader *reader, struct iris_str text, struct config_node **node_r)
{
	bool ok;

	if (!yaml_parser_initialize(&reader->yaml))
		iris_assert_failed("out of memory", __FILE__, __LINE__);
	yaml_parser_set_encoding(&reader->yaml, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader->yaml, (const unsigned char *)text.base, text.len);
	ok = read_document(reader, node_r);
	yaml_parser_delete(&reader->yaml);
	return ok;
}

/* --- sections --- */

static bool
is_null(const struct config_node *node)
{
	return node->kind == CONFIG_SCALAR && node->is_plain &&
	       (node->text.len == 0 || str_is(node->text, "~") || str_is(node->text, "null"));
}

/* One section of one file joins what other files say about the same module. */
static bool
merge_section(struct iris_config *config, struct config_node *section, struct iris_report *report)
{
	struct config_node *whole;
	bool ok = true;

	if (is_null(section))
		section->kind = CONFIG_MAPPING;
	if (section->kind != CONFIG_MAPPING) {
		report_error(report, "%s:%u: %.*s: a section with options is expected",
			     section->file->name, section->line, IRIS_STR_FMT(section->key));
		return false;
	}
	whole = (struct config_node *)config_child(config->root, section->key);
	if (whole == NULL) {
		section->next = NULL;
		node_append(config->root, section);
		return true;
	}
	for (struct config_node *option = section->first, *next; option; option = next) {
		const struct config_node *before = config_child(whole, option->key);
		next = option->next;
		option->next = NULL;
		if (before == NULL)
			node_append(whole, option);
		else {
			report_error(report, "%s:%u: %.*s.%.*s is set in %s:%u already",
				     option->file->name, option->line, IRIS_STR_FMT(section->key),
				     IRIS_STR_FMT(option->key), before->file->name, before->line);
			ok = false;
		}
	}
	return ok;
}

/* --- files --- */

static bool
read_all(int fd, char *buf, size_t size, size_t *len_r)
{
	size_t len = 0;
	ssize_t n;

	while (len < size && (n = read(fd, buf + len, size - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		len += (size_t)n;
	}
	*len_r = len;
	return true;
}

/* "No such file", with who asked for it. */
static bool
file_error(struct iris_report *report, const struct config_node *by, const char *name,
	   const char *what)
{
	if (by)
		report_error(report, "%s:%u: include: %s: %s", by->file->name, by->line, name,
			     what);
	else
		report_error(report, "%s: %s", name, what);
	return false;
}

/* An open, regular file of a bearable size; -1: the report says why. */
static int
file_open(const char *name, const struct config_node *by, struct iris_report *report,
	  struct stat *status_r)
{
	/* Without waiting: a named pipe must not stop the start. */
	const int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *what = NULL;

	if (fd < 0 || fstat(fd, status_r) != 0)
		what = strerror(errno);
	else if (!S_ISREG(status_r->st_mode))
		what = "is not a regular file";
	else if (status_r->st_size > CONFIG_FILE_MAX)
		what = "is larger than 1 MiB";
	if (what == NULL)
		return fd;
	file_error(report, by, name, what);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The whole text, to be wiped and freed; NULL: the report says why. */
static char *
file_read(const char *name, const struct config_node *by, struct iris_report *report,
	  struct stat *status_r, size_t *len_r)
{
	const int fd = file_open(name, by, report, status_r);
	char *buf;
	bool ok;

	if (fd < 0)
		return NULL;
	buf = iris_malloc(CONFIG_FILE_MAX + 1);
	ok = read_all(fd, buf, CONFIG_FILE_MAX + 1, len_r);
	if (!ok)
		file_error(report, by, name, strerror(errno));
	else if (*len_r > CONFIG_FILE_MAX)
		ok = file_error(report, by, name, "is larger than 1 MiB");
	close(fd);
	if (ok)
		return buf;
	free(buf);
	return NULL;
}

static const char *
dir_of(struct iris_arena *arena, const char *name)
{
	char *copy = str_dup(str_from(name));
	char *real = realpath(dirname(copy), NULL);
	const char *dir = arena_copy_str(arena, str_from(real ? real : "/")).base;

	free(real);
	free(copy);
	return dir;
}

static struct config_file *
file_add(struct iris_config *config, const char *name, const struct stat *status)
{
	struct config_file *file = ARENA_NEW(config->arena, struct config_file);

	file->name = arena_copy_str(config->arena, str_from(name)).base;
	file->dir = status ? dir_of(config->arena, name) : "/";
	file->device = status ? (uint64_t)status->st_dev : 0;
	file->inode = status ? (uint64_t)status->st_ino : 0;
	config->files[config->file_count++] = file;
	return file;
}

/* Has this very file been read before, or is it being read? */
static bool
check_new_file(struct iris_config *config, const char *name, const struct stat *status,
	       const struct config_node *by, struct iris_report *report)
{
	if (config->file_count == CONFIG_FILES_MAX)
		return file_error(report, by, name, "too many files");
	for (size_t i = 0; i < config->file_count; i++)
		if (config->files[i]->device == (uint64_t)status->st_dev &&
		    config->files[i]->inode == (uint64_t)status->st_ino)
			return file_error(report, by, name,
					  "is included twice, or includes itself");
	return true;
}

static bool load_file(struct iris_config *config, const char *name, const struct config_node *by,
		      unsigned depth, struct iris_report *report);

/* One of `include:`, relative to the file that names it; patterns may match nothing. */
static bool
include_pattern(struct iris_config *config, const struct config_node *by, unsigned depth,
		struct iris_report *report)
{
	struct iris_str dir = str_from(by->file->name);
	struct iris_str pattern = by->text;
	glob_t found = { 0 };
	bool ok = true;
	int rc;

	if (by->kind != CONFIG_SCALAR || pattern.len == 0)
		return file_error(report, by, "?", "the name of a file is expected");
	if (depth >= CONFIG_INCLUDE_DEPTH)
		return file_error(report, by, pattern.base, "is nested too deeply");
	while (dir.len > 0 && dir.base[dir.len - 1] != '/')
		dir.len--;
	if (pattern.base[0] != '/')
		pattern = arena_printf(config->arena, "%.*s%.*s", IRIS_STR_FMT(dir),
				       IRIS_STR_FMT(pattern));
	rc = glob(pattern.base, GLOB_NOMAGIC, NULL, &found);
	if (rc != 0 && rc != GLOB_NOMATCH)
		ok = file_error(report, by, pattern.base, "cannot be searched");
	for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
		ok = load_file(config, found.gl_pathv[i], by, depth + 1, report) && ok;
	globfree(&found);
	return ok;
}

static bool
include_all(struct iris_config *config, struct config_node *include, unsigned depth,
	    struct iris_report *report)
{
	bool ok = true;

	if (include->kind == CONFIG_SCALAR)
		return include_pattern(config, include, depth, report);
	if (include->kind == CONFIG_MAPPING)
		return file_error(report, include, "{}", "a file or a list of files is expected");
	for (struct config_node *item = include->first; item; item = item->next)
		ok = include_pattern(config, item, depth, report) && ok;
	return ok;
}

/* Merges the sections of a file's document; `include` is no section. */
static bool
take_document(struct iris_config *config, struct config_node *document,
	      struct config_node **include_r, struct iris_report *report)
{
	bool ok = true;

	*include_r = NULL;
	if (document == NULL || is_null(document))
		return true;
	if (document->kind != CONFIG_MAPPING) {
		report_error(report, "%s:%u: sections are expected", document->file->name,
			     document->line);
		return false;
	}
	for (struct config_node *child = document->first, *next; child; child = next) {
		next = child->next;
		if (str_is(child->key, "include"))
			*include_r = child;
		else
			ok = merge_section(config, child, report) && ok;
	}
	return ok;
}

static bool
load_text(struct iris_config *config, struct config_file *file, struct iris_str text,
	  struct iris_report *report, struct config_node **include_r)
{
	struct reader *reader = iris_calloc(1, sizeof(*reader));
	struct config_node *document;
	bool ok;

	*reader = (struct reader){ .config = config, .report = report, .file = file };
	ok = reader_parse(reader, text, &document);
	free(reader);
	return ok && take_document(config, document, include_r, report);
}

static bool
load_file(struct iris_config *config, const char *name, const struct config_node *by,
	  unsigned depth, struct iris_report *report)
{
	struct config_node *include = NULL;
	struct stat status;
	size_t len;
	char *text = file_read(name, by, report, &status, &len);
	bool ok;

	if (text == NULL)
		return false;
	ok = check_new_file(config, name, &status, by, report);
	if (ok)
		ok = load_text(config, file_add(config, name, &status),
			       (struct iris_str){ text, len }, report, &include);
	explicit_bzero(text, len);
	free(text);
	if (include)
		ok = include_all(config, include, depth, report) && ok;
	return ok;
}

static struct iris_config *
config_new(void)
{
	struct iris_config *config = iris_calloc(1, sizeof(*config));

	config->arena = arena_new();
	config->root = ARENA_NEW(config->arena, struct config_node);
	config->root->kind = CONFIG_MAPPING;
	return config;
}

struct iris_config *
config_load(const char *path, struct iris_report *report)
{
	struct iris_config *config = config_new();

	if (!load_file(config, path, NULL, 0, report))
		config_free(&config);
	return config;
}

struct iris_config *
config_parse(const char *name, struct iris_str text, struct iris_report *report)
{
	struct iris_config *config = config_new();
	struct config_node *include = NULL;
	bool ok = load_text(config, file_add(config, name, NULL), text, report, &include);

	if (include)
		ok = file_error(report, include, "include", "is only for files");
	if (!ok)
		config_free(&config);
	return config;
}

void
config_free(struct iris_config **config_p)
{
	struct iris_config *config = *config_p;

	if (config == NULL)
		return;
	for (struct iris_settings *settings = config->settings; settings; settings = settings->next)
		settings_wipe(settings);
	arena_unref(&config->arena);
	free(config);
	*config_p = NULL;
}

const struct config_node *
config_child(const struct config_node *mapping, struct iris_str key)
{
	for (const struct config_node *child = mapping->first; child; child = child->next)
		if (str_equal(child->key, key))
			return child;
	return NULL;
}

const struct config_node *
config_section(const struct iris_config *config, struct iris_str name)
{
	return config_child(config->root, name);
}

const struct config_node *
config_fallback(struct iris_config *config, const char *text)
{
	static const struct config_file defaults = { .name = "default" };
	struct iris_report report = { 0 };
	struct config_node *node = NULL;
	struct reader *reader = iris_calloc(1, sizeof(*reader));

	*reader = (struct reader){
		.config = config,
		.report = &report,
		.file = (struct config_file *)&defaults,
	};
	const bool ok = reader_parse(reader, str_from(text), &node);
	free(reader);
	report_clear(&report);
	IRIS_ASSERT(ok && node != NULL);
	return node;
}
