/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's form, filled in from flags, arguments, prompts and standard input.
 *
 * Words without a flag fill the required fields in the order of the form, secrets and texts
 * excepted. SECURITY: a secret is never taken from the command line, where every user of the
 * machine could read it.
 */
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "iris/base.h"
#include "irisctl.h"
#include <openssl/crypto.h>

#define NS_DATA "jabber:x:data"
#define LINE_SIZE 2048
#define LINES_A_CALL 500   /* of a text of many lines: what the server takes at once … */
#define BYTES_A_CALL 60000 /* … of the 64 KiB it takes, without the last line */

struct filling {
	xmpp_ctx_t *context;
	const struct arguments *arguments;
	const struct options *options;
	bool *used;     /* which words have been taken */
	bool more;      /* standard input has more */
	bool failed;
};

static bool
field_is(xmpp_stanza_t *field, const char *type)
{
	const char *own = xmpp_stanza_get_attribute(field, "type");

	return own && strcmp(own, type) == 0;
}

static const char *
field_name(xmpp_stanza_t *field)
{
	const char *name = xmpp_stanza_get_attribute(field, "var");

	return name ? name : "";
}

static const char *
field_label(xmpp_stanza_t *field)
{
	const char *label = xmpp_stanza_get_attribute(field, "label");

	return label ? label : field_name(field);
}

static bool
field_is_required(xmpp_stanza_t *field)
{
	return xmpp_stanza_get_child_by_name(field, "required") != NULL;
}

static bool
field_is_secret(xmpp_stanza_t *field)
{
	return field_is(field, "text-private");
}

/* --- where values come from --- */

/* --name VALUE, --name=VALUE; a boolean alone is true. NULL: not given. */
static const char *
take_flag(struct filling *filling, xmpp_stanza_t *field)
{
	const char *name = field_name(field);
	size_t length = strlen(name);

	for (int i = 0; i < filling->arguments->count; i++) {
		const char *word = filling->arguments->words[i];

		if (filling->used[i] || strncmp(word, "--", 2) != 0 ||
		    strncmp(word + 2, name, length) != 0)
			continue;
		if (word[2 + length] == '=') {
			filling->used[i] = true;
			return word + 3 + length;
		}
		if (word[2 + length] != '\0')
			continue;
		filling->used[i] = true;
		if (field_is(field, "boolean"))
			return "true";
		if (i + 1 < filling->arguments->count) {
			filling->used[i + 1] = true;
			return filling->arguments->words[i + 1];
		}
	}
	return NULL;
}

static const char *
take_word(struct filling *filling)
{
	for (int i = 0; i < filling->arguments->count; i++) {
		if (!filling->used[i] && strncmp(filling->arguments->words[i], "--", 2) != 0) {
			filling->used[i] = true;
			return filling->arguments->words[i];
		}
	}
	return NULL;
}

/* A line of standard input without its end; false: there is none. */
static bool
read_line(char *line, int size)
{
	if (!fgets(line, size, stdin))
		return false;
	line[strcspn(line, "\r\n")] = '\0';
	return true;
}

static bool
prompt_secret(const char *label, char *line, int size)
{
	struct termios before, quiet;
	bool read;

	if (!isatty(STDIN_FILENO))
		return read_line(line, size);
	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return false;
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	fprintf(stderr, "%s: ", label);
	read = read_line(line, size);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return read;
}

/* --- the filled-in form --- */

static xmpp_stanza_t *
add_child(xmpp_ctx_t *context, xmpp_stanza_t *parent, const char *name)
{
	xmpp_stanza_t *child = xmpp_stanza_new(context);

	xmpp_stanza_set_name(child, name);
	xmpp_stanza_add_child(parent, child);
	xmpp_stanza_release(child);
	return child;
}

static void
add_value(xmpp_ctx_t *context, xmpp_stanza_t *field, const char *text)
{
	xmpp_stanza_t *value = add_child(context, field, "value"),
		      *content = xmpp_stanza_new(context);

	xmpp_stanza_set_text(content, text);
	xmpp_stanza_add_child(value, content);
	xmpp_stanza_release(content);
}

static void
fill_secret(struct filling *filling, xmpp_stanza_t *field, xmpp_stanza_t *filled)
{
	char line[LINE_SIZE];

	if (!field_is_required(field) && isatty(STDIN_FILENO))
		return;
	if (prompt_secret(field_label(field), line, sizeof(line)))
		add_value(filling->context, filled, line);
	else if (field_is_required(field)) {
		fprintf(stderr, "irisctl: %s is read from standard input, which has ended\n",
			field_name(field));
		filling->failed = true;
	}
	OPENSSL_cleanse(line, sizeof(line));
}

/* Many lines come from standard input, as many as one call takes. */
static void
fill_lines(struct filling *filling, xmpp_stanza_t *field, xmpp_stanza_t *filled)
{
	const char *flag = take_flag(filling, field);
	char line[LINE_SIZE];
	size_t bytes = 0;
	int next;

	if (flag) {
		add_value(filling->context, filled, flag);
		return;
	}
	for (int count = 0;
	     count < LINES_A_CALL && bytes < BYTES_A_CALL && read_line(line, sizeof(line));
	     count++) {
		add_value(filling->context, filled, line);
		bytes += strlen(line) + 1;
	}
	OPENSSL_cleanse(line, sizeof(line));
	next = fgetc(stdin);
	filling->more = next != EOF;
	if (filling->more)
		ungetc(next, stdin);
}

static void
fill_plain(struct filling *filling, xmpp_stanza_t *field, xmpp_stanza_t *filled)
{
	const char *value = take_flag(filling, field);
	char *owned = NULL;

	if (!value && field_is_required(field))
		value = take_word(filling);
	if (!value && field_is_required(field)) {
		fprintf(stderr, "irisctl: %s is missing (--%s)\n", field_label(field),
			field_name(field));
		filling->failed = true;
		return;
	}
	if (!value)
		value = stanza_child_text(field, "value", &owned); /* the form's own default */
	if (*value)
		add_value(filling->context, filled, value);
	if (owned)
		xmpp_free(filling->context, owned);
}

static void
fill_field(struct filling *filling, xmpp_stanza_t *field, xmpp_stanza_t *form)
{
	xmpp_stanza_t *filled;

	if (field_is(field, "fixed"))
		return;
	filled = add_child(filling->context, form, "field");
	xmpp_stanza_set_attribute(filled, "var", field_name(field));
	if (field_is_secret(field))
		fill_secret(filling, field, filled);
	else if (field_is(field, "text-multi"))
		fill_lines(filling, field, filled);
	else
		fill_plain(filling, field, filled);
}

static void
check_leftovers(struct filling *filling)
{
	for (int i = 0; i < filling->arguments->count; i++) {
		if (filling->used[i])
			continue;
		fprintf(stderr, "irisctl: “%s” is not expected here; see --help\n",
			filling->arguments->words[i]);
		filling->failed = true;
	}
}

/* The form's instructions warn of what cannot be undone; then a person is asked. */
static bool
confirm(struct filling *filling, xmpp_stanza_t *form)
{
	char *owned, line[16];
	const char *warning = stanza_child_text(form, "instructions", &owned);
	bool sure = !*warning || filling->options->yes || !isatty(STDIN_FILENO);

	if (!sure) {
		fprintf(stderr, "%s Go on? [y/N] ", warning);
		sure = read_line(line, sizeof(line)) && (line[0] == 'y' || line[0] == 'Y');
	}
	if (owned)
		xmpp_free(filling->context, owned);
	return sure;
}

xmpp_stanza_t *
form_fill(struct remote *remote, xmpp_stanza_t *form, const struct arguments *arguments,
	  const struct options *options, bool *more_r)
{
	struct filling filling = { .context = remote_context(remote),
				   .arguments = arguments,
				   .options = options };
	xmpp_stanza_t *filled = xmpp_stanza_new(filling.context), *field;

	filling.used = iris_calloc((size_t)arguments->count + 1, sizeof(*filling.used));
	xmpp_stanza_set_name(filled, "x");
	xmpp_stanza_set_ns(filled, NS_DATA);
	xmpp_stanza_set_type(filled, "submit");
	for (field = form ? xmpp_stanza_get_children(form) : NULL; field;
	     field = xmpp_stanza_get_next(field)) {
		if (xmpp_stanza_get_name(field) &&
		    strcmp(xmpp_stanza_get_name(field), "field") == 0)
			fill_field(&filling, field, filled);
	}
	check_leftovers(&filling);
	free(filling.used);
	*more_r = filling.more;
	if (filling.failed || (form && !confirm(&filling, form))) {
		xmpp_stanza_release(filled);
		return NULL;
	}
	return filled;
}

void
form_print_help(FILE *out, const char *noun, const char *verb, xmpp_stanza_t *form)
{
	xmpp_stanza_t *field;
	char *owned;

	fprintf(out, "irisctl %s %s: %s\n", noun, verb, stanza_child_text(form, "title", &owned));
	free(owned);
	for (field = form ? xmpp_stanza_get_children(form) : NULL; field;
	     field = xmpp_stanza_get_next(field)) {
		if (!xmpp_stanza_get_name(field) ||
		    strcmp(xmpp_stanza_get_name(field), "field") != 0)
			continue;
		fprintf(out, "  --%-18s %s%s%s\n", field_name(field), field_label(field),
			field_is_required(field) ? " (required)" : "",
			field_is_secret(field) ? ", from a prompt or standard input" :
			field_is(field, "text-multi") ? ", from standard input" : "");
	}
}
