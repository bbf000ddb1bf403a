/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents made from the tables of the modules, so that they cannot be stale: the manual page of
 * the configuration, a sample of it, and the DOAP file (XEP-0453), for irisd's --print-… flags.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "module_private.h"

#define URL_RFC "https://www.rfc-editor.org/info/rfc"
#define NS_DOAP "http://usefulinc.com/ns/doap#"
#define NS_RDF "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
#define NS_DOAP_XMPP "https://linkmauve.fr/ns/xmpp-doap#"

/* --- manual: mdoc --- */

/* A dot at the start would be a macro, a backslash an escape; sentences start on new lines. */
static void
write_mdoc(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (text[0] == '.' && text[1] == ' ' && text[2] >= 'A' && text[2] <= 'Z')
			fputs(".\n", out), text++; /* the space */
		else
			fputc(*text == '\n' ? ' ' : *text, out);
	}
}

/* One sentence of a table, with or without its full stop. */
static void
write_mdoc_sentence(FILE *out, const char *text)
{
	const size_t len = strlen(text);

	write_mdoc(out, text);
	fputs(len > 0 && text[len - 1] == '.' ? "\n" : ".\n", out);
}

static void
write_mdoc_facts(FILE *out, const struct iris_option *option)
{
	char text[300];

	option_describe(option, text, sizeof(text));
	fputs("Value: ", out);
	write_mdoc(out, text);
	fputs(".\n", out);
	if (option->fallback) {
		fputs("Default: ", out);
		write_mdoc(out, *option->fallback ? option->fallback : "empty");
		fputs(".\n", out);
	} else if (!option->optional && option->type < IRIS_OPT_STRINGS)
		fputs("It is required.\n", out);
	if (option->secret)
		fputs("It is a secret and never printed.\n", out);
	fputs(option->reloadable ? "A reload applies it.\n" : "A change needs a restart.\n", out);
}

/* Of a field of a record: shorter, what holds for the option holds for it. */
static void
write_mdoc_field(FILE *out, const struct iris_option *field)
{
	char text[300];

	option_describe(field, text, sizeof(text));
	fputs("Value: ", out);
	write_mdoc(out, text);
	if (field->fallback)
		fprintf(out, "; default: %s.\n", *field->fallback ? field->fallback : "empty");
	else
		fputs(field->optional || field->type >= IRIS_OPT_STRINGS ? ".\n" : "; required.\n",
		      out);
}

static void
write_mdoc_options(FILE *out, const struct iris_option *options, bool top)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (; options && options->name; options++) {
		fprintf(out, ".It Cm %s\n", options->name);
		if (options->help)
			write_mdoc_sentence(out, options->help);
		if (top)
			write_mdoc_facts(out, options);
		else
			write_mdoc_field(out, options);
		if (options->fields) {
			fputs("Each entry has:\n", out);
			write_mdoc_options(out, options->fields, false);
		}
	}
	fputs(".El\n", out);
}

static int
compare_modules(const void *a, const void *b)
{
	const struct iris_module *x = *(const struct iris_module *const *)a,
				 *y = *(const struct iris_module *const *)b;
	/* The core, plug-ins, and then those that are an XEP, each by name. */
	if ((x->xep != NULL) != (y->xep != NULL))
		return x->xep ? 1 : -1;
	return strcmp(x->name, y->name);
}

/* A sorted copy, to be freed; ends with NULL. */
static const struct iris_module **
sorted(const struct iris_module *const *modules)
{
	const struct iris_module **copy;
	size_t count = 0;

	while (modules[count])
		count++;
	copy = iris_calloc(count + 1, sizeof(const struct iris_module *));
	memcpy(copy, modules, count * sizeof(const struct iris_module *));
	qsort(copy, count, sizeof(const struct iris_module *), compare_modules);
	return copy;
}

static void
write_mdoc_section(FILE *out, const struct iris_module *module)
{
	fprintf(out, ".Ss %s\n", module->name);
	write_mdoc_sentence(out, module->summary);
	if (module->xep)
		fprintf(out, "It implements %s.\n", module->xep);
	if (module->off_by_default)
		fprintf(out, "It is loaded only when\n.Cm modules.load\nnames it.\n");
	write_mdoc_options(out, module->options, true);
}

void
config_write_manual(FILE *out, const struct iris_module *const *modules)
{
	const struct iris_module **list = sorted(modules);

	fputs(".\\\" SPDX-License-Identifier: Apache-2.0\n"
	      ".\\\" Made from the option tables by irisd --print-manual.\n"
	      ".Dd $Mdocdate$\n.Dt IRIS.CONF 5\n.Os\n"
	      ".Sh NAME\n.Nm iris.conf\n.Nd configuration of the XMPP server irisd\n"
	      ".Sh DESCRIPTION\n"
	      "The file\n.Pa iris.yaml\nis YAML: a mapping of sections, each named after\n"
	      "a module, to options.\n"
	      "Anchors, aliases, tags, merge keys and a second document are refused, as is any\n"
	      "option that stands twice or that no module has.\n"
	      ".Bl -tag -width Ds\n"
	      ".It Cm include\n"
	      "A file or a list of files, relative to the file that names them; patterns as in\n"
	      ".Xr glob 7 .\n"
	      "A section may be spread over several files.\n"
	      ".It Cm ${NAME}\n"
	      "stands in any value for the environment variable,\n.Cm ${NAME:-default}\n"
	      "for a default when it is unset or empty, and\n.Cm $${\nfor\n.Cm ${\nitself.\n"
	      ".It Durations\n"
	      "are numbers with units: ms, seconds, minutes, hours, days, weeks, as in\n"
	      ".Ql 1 hour 30 minutes .\n"
	      ".It Sizes\n"
	      "are numbers with units: bytes, KiB, MiB, GiB, TiB (powers of 1024),\n"
	      "kB, MB, GB, TB (of 1000).\n"
	      ".It Paths\n"
	      "are relative to the file that names them; defaults, to the main file.\n"
	      ".El\n.Pp\n"
	      "The file is checked completely before it is used, at start and by a\nreload.\n"
	      ".Sh SECTIONS\n",
	      out);
	for (size_t i = 0; list[i]; i++)
		if (list[i]->options && list[i]->options->name)
			write_mdoc_section(out, list[i]);
	fputs(".Sh SEE ALSO\n.Xr irisctl 1 ,\n.Xr irisd 8\n", out);
	free(list);
}

/* --- sample: YAML --- */

/* Wraps a text at 90 columns behind `mark`. */
static void
write_comment(FILE *out, const char *mark, const char *text)
{
	while (*text) {
		size_t len = strlen(text), at = 90;
		if (len > at) {
			while (at > 0 && text[at] != ' ')
				at--;
			len = at > 0 ? at : len;
		}
		fprintf(out, "%s%.*s\n", mark, (int)len, text);
		text += len;
		while (*text == ' ')
			text++;
	}
}

/* What must be quoted so that it reads back the same. */
static bool
is_plain_yaml(const char *text)
{
	if (*text == '\0' || strchr("-?:,[]{}#&*!|>'\"%@` ", *text))
		return false;
	return strstr(text, ": ") == NULL && strstr(text, " #") == NULL &&
	       text[strlen(text) - 1] != ':' && strcmp(text, "null") != 0 && strcmp(text, "~") != 0;
}

static void
write_yaml_value(FILE *out, const struct iris_option *option, const char *text)
{
	if (option->type >= IRIS_OPT_STRINGS || is_plain_yaml(text)) {
		fputs(text, out);
		return;
	}
	fputc('\'', out);
	for (; *text; text++)
		fputs(*text == '\'' ? "''" : (char[]){ *text, '\0' }, out);
	fputc('\'', out);
}

static void
write_sample_option(FILE *out, const struct iris_option *option)
{
	char text[300];

	if (option->help)
		write_comment(out, "#  # ", option->help);
	option_describe(option, text, sizeof(text));
	fprintf(out, "#  # (%s%s%s)\n", text,
		option->fallback || option->optional || option->type >= IRIS_OPT_STRINGS
			? ""
			: "; required",
		option->reloadable ? "" : "; needs a restart");
	/* Without a value it would not hold, unless it is required. */
	const bool bare =
		option->fallback == NULL && (option->optional || option->type >= IRIS_OPT_STRINGS);
	fprintf(out, "#  %s%s:", bare ? "#" : "", option->name);
	if (option->fallback) {
		fputc(' ', out);
		write_yaml_value(out, option, option->fallback);
	}
	fputc('\n', out);
	for (const struct iris_option *field = option->fields; field && field->name; field++) {
		option_describe(field, text, sizeof(text));
		fprintf(out, "#  #   %s %s: %s  (%s)\n", field == option->fields ? "-" : " ",
			field->name, field->fallback ? field->fallback : "", text);
	}
}

static void
write_sample_title(FILE *out, const struct iris_module *module)
{
	struct iris_arena *arena = arena_new();
	struct iris_str title =
		arena_printf(arena, "%s%s%s%s", module->summary, module->xep ? " – " : "",
			     module->xep ? module->xep : "",
			     module->off_by_default ? " (off by default)" : "");

	fputc('\n', out);
	write_comment(out, "# ", title.base);
	fprintf(out, "#%s:\n", module->name);
	arena_unref(&arena);
}

void
config_write_sample(FILE *out, const struct iris_module *const *modules)
{
	const struct iris_module **list = sorted(modules);

	fputs("# SPDX-License-Identifier: Apache-2.0\n"
	      "# A sample configuration of irisd: every section and option, with its default.\n"
	      "# Made by irisd --print-sample. To use a section, take the first \"#\" from its\n"
	      "# lines. See iris.conf(5).\n\n"
	      "#include: [conf.d/*.yaml]\n",
	      out);
	for (size_t i = 0; list[i]; i++) {
		const struct iris_module *module = list[i];
		if (module->options == NULL || module->options->name == NULL)
			continue;
		write_sample_title(out, module);
		for (const struct iris_option *option = module->options; option->name; option++)
			write_sample_option(out, option);
	}
	free(list);
}

/* --- DOAP --- */

/* One "XEP-0191 1.3"; more are separated by commas. */
static void
write_supported(FILE *out, struct iris_str entry, const char *note)
{
	const char *space = memchr(entry.base, ' ', entry.len);
	const size_t number_at = sizeof("XEP-") - 1;

	if (space == NULL || entry.len < sizeof("XEP-0000 0") - 1 ||
	    memcmp(entry.base, "XEP-", number_at) != 0)
		return;
	fprintf(out,
		"    <implements>\n"
		"      <xmpp:SupportedXep>\n"
		"        <xmpp:xep rdf:resource=\"https://xmpp.org/extensions/xep-%.4s.html\"/>\n"
		"        <xmpp:status>complete</xmpp:status>\n"
		"        <xmpp:version>%.*s</xmpp:version>\n"
		"        <xmpp:note>%s</xmpp:note>\n"
		"      </xmpp:SupportedXep>\n"
		"    </implements>\n",
		entry.base + number_at, (int)(entry.base + entry.len - space - 1), space + 1, note);
}

static void
write_module_doap(FILE *out, const struct iris_module *module)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf note = STRBUF_INIT(arena);
	struct iris_str rest = str_from(module->xep);

	xml_escape(&note, str_from(module->summary));
	if (module->off_by_default)
		strbuf_add(&note, IRIS_STR(" (off by default)"));
	while (rest.len > 0) {
		const char *comma = memchr(rest.base, ',', rest.len);
		const size_t len = comma ? (size_t)(comma - rest.base) : rest.len;
		write_supported(out, (struct iris_str){ rest.base, len }, strbuf_str(&note).base);
		rest = (struct iris_str){ rest.base + len, rest.len - len };
		while (rest.len > 0 && (*rest.base == ',' || *rest.base == ' '))
			rest = (struct iris_str){ rest.base + 1, rest.len - 1 };
	}
	arena_unref(&arena);
}

void
modules_write_doap(FILE *out, const struct iris_module *const *modules)
{
	static const int rfcs[] = { 6120, 6121, 7590, 7622 };
	const struct iris_module **list = sorted(modules);

	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	      "<rdf:RDF xmlns=\"" NS_DOAP "\" xmlns:rdf=\"" NS_RDF "\" xmlns:xmpp=\"" NS_DOAP_XMPP
	      "\">\n"
	      "  <Project>\n"
	      "    <name>Iris</name>\n"
	      "    <shortdesc xml:lang=\"en\">An XMPP server</shortdesc>\n"
	      "    <license rdf:resource=\"https://www.apache.org/licenses/LICENSE-2.0\"/>\n"
	      "    <programming-language>C</programming-language>\n"
	      "    <os>Linux</os>\n"
	      "    <category rdf:resource=\"" NS_DOAP_XMPP "category-server\"/>\n",
	      out);
	for (size_t i = 0; i < IRIS_COUNT(rfcs); i++)
		fprintf(out, "    <implements rdf:resource=\"" URL_RFC "%d\"/>\n", rfcs[i]);
	for (size_t i = 0; list[i]; i++)
		if (list[i]->xep)
			write_module_doap(out, list[i]);
	fputs("  </Project>\n</rdf:RDF>\n", out);
	free(list);
}
