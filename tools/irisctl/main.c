/* SPDX-License-Identifier: Apache-2.0 */
/* irisctl's command line: see README.md. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "irisctl.h"

#define NS_COMMANDS "http://jabber.org/protocol/commands"
#define NS_ITEMS "http://jabber.org/protocol/disco#items"
#define NS_DATA "jabber:x:data"

static void
print_usage(FILE *out)
{
	fputs("usage: irisctl [--config FILE] [--json] [--yes] NOUN VERB [ARGUMENT …] [--FIELD "
	      "VALUE …]\n"
	      "       irisctl NOUN VERB --help\n"
	      "       irisctl help             what the server offers\n"
	      "\n"
	      "  -c, --config FILE  the server's configuration [" IRIS_SYSCONFDIR "/iris.yaml]\n"
	      "      --json         the result as JSON\n"
	      "      --yes          do not ask before what cannot be undone\n"
	      "\n"
	      "While the server is down:\n"
	      "  init               make the master key, the database and the operator's "
	      "credential\n"
	      "  config check       check the configuration completely\n"
	      "  db upgrade         bring the database up to date\n"
	      "  db copy --to ENGINE  move the region to the other engine (sqlite, postgresql)\n"
	      "  region init MAP KEY      make a sample of the region map, and a pair of keys\n"
	      "  region sign MAP KEY      check the map, and sign it\n"
	      "  region check MAP KEY.pub what the server would say of it\n"
	      "  region diff MAP NEWMAP   what would change\n"
	      "  region secret MAP FILE   make the regions' secret; does the map name it?\n"
	      "\n"
	      "Passwords are read from a prompt, or from standard input; never from arguments.\n"
	      "Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 server not reached, 78 "
	      "configuration wrong.\n",
	      out);
}

static xmpp_stanza_t *
make_command(xmpp_ctx_t *context, const char *node, const char *action, const char *session)
{
	xmpp_stanza_t *command = xmpp_stanza_new(context);

	xmpp_stanza_set_name(command, "command");
	xmpp_stanza_set_ns(command, NS_COMMANDS);
	xmpp_stanza_set_attribute(command, "node", node);
	xmpp_stanza_set_attribute(command, "action", action);
	if (session)
		xmpp_stanza_set_attribute(command, "sessionid", session);
	return command;
}

/* The answer's <command/>, or NULL and why on stderr. */
static xmpp_stanza_t *
answer_command(xmpp_stanza_t *answer, enum exit_code *code_r)
{
	const char *error = answer ? remote_error(answer) : NULL;
	xmpp_stanza_t *command =
		answer && !error ? xmpp_stanza_get_child_by_ns(answer, NS_COMMANDS) : NULL;

	*code_r = !answer ? EXIT_UNREACHABLE : command ? EXIT_DONE : EXIT_REFUSED;
	if (!answer)
		fputs("irisctl: the connection to the server broke\n", stderr);
	else if (!command)
		fprintf(stderr, "irisctl: %s\n",
			error ? error : "the server's answer is not a command");
	return command;
}

static void
cancel_command(struct remote *remote, const char *node, const char *session)
{
	xmpp_stanza_t *answer = remote_ask(
		remote, "set", make_command(remote_context(remote), node, "cancel", session));

	if (answer)
		xmpp_stanza_release(answer);
}

/* Sends the filled-in form back; more: standard input has more lines than one call takes. */
static enum exit_code
submit_form(struct remote *remote, const char *node, xmpp_stanza_t *asked,
	    const struct arguments *arguments, const struct options *options)
{
	const char *session = xmpp_stanza_get_attribute(asked, "sessionid");
	xmpp_stanza_t *form = xmpp_stanza_get_child_by_ns(asked, NS_DATA), *filled, *command,
		      *answer;
	enum exit_code code;
	bool more;

	do {
		filled = form_fill(remote, form, arguments, options, &more);
		if (!filled) {
			cancel_command(remote, node, session);
			return EXIT_USAGE;
		}
		command = make_command(remote_context(remote), node,
				       session ? "complete" : "execute", session);
		xmpp_stanza_add_child(command, filled);
		xmpp_stanza_release(filled);
		answer = remote_ask(remote, "set", command);
		command = answer_command(answer, &code);
		if (command)
			output_command(remote_context(remote), command, options);
		if (answer)
			xmpp_stanza_release(answer);
		session = NULL; /* a submitted form may come without */
	} while (more && code == EXIT_DONE);
	return code;
}

static enum exit_code
run_command(struct remote *remote, const char *noun, const char *verb,
	    const struct arguments *arguments, const struct options *options)
{
	xmpp_stanza_t *answer, *command;
	enum exit_code code;
	char node[128];

	if (snprintf(node, sizeof(node), "%s/%s", noun, verb) >= (int)sizeof(node))
		return EXIT_USAGE;
	answer = remote_ask(remote, "set",
			    make_command(remote_context(remote), node, "execute", NULL));
	if (answer && remote_error(answer) &&
	    strncmp(remote_error(answer), "item-not-found", 14) == 0) {
		fprintf(stderr, "irisctl: the server has no command “%s %s”; try: irisctl help\n",
			noun, verb);
		xmpp_stanza_release(answer);
		return EXIT_USAGE;
	}
	command = answer_command(answer, &code);
	if (command && strcmp(xmpp_stanza_get_attribute(command, "status"), "executing") != 0)
		output_command(remote_context(remote), command, options);
	else if (command && options->help) {
		form_print_help(stdout, noun, verb, xmpp_stanza_get_child_by_ns(command, NS_DATA));
		cancel_command(remote, node, xmpp_stanza_get_attribute(command, "sessionid"));
	} else if (command)
		code = submit_form(remote, node, command, arguments, options);
	if (answer)
		xmpp_stanza_release(answer);
	return code;
}

static enum exit_code
list_commands(struct remote *remote, const struct options *options)
{
	xmpp_stanza_t *query = xmpp_stanza_new(remote_context(remote)), *answer;
	const char *error;

	xmpp_stanza_set_name(query, "query");
	xmpp_stanza_set_ns(query, NS_ITEMS);
	xmpp_stanza_set_attribute(query, "node", NS_COMMANDS);
	answer = remote_ask(remote, "get", query);
	error = answer ? remote_error(answer) : "the connection to the server broke";
	if (error)
		fprintf(stderr, "irisctl: %s\n", error);
	else
		output_list(xmpp_stanza_get_child_by_ns(answer, NS_ITEMS), options);
	if (answer)
		xmpp_stanza_release(answer);
	return error ? EXIT_REFUSED : EXIT_DONE;
}

static enum exit_code
run_remote(const struct arguments *words, const struct options *options)
{
	struct arguments rest = { words->count - 2, words->words + 2 };
	struct iris_error error = { .message = "" };
	struct target target = { .jid = NULL };
	struct remote *remote = NULL;
	enum exit_code code = EXIT_UNREACHABLE;

	if (!target_load(options, &target, &error))
		code = EXIT_CONFIG;
	else
		remote = remote_open(&target, &error);
	if (!remote)
		fprintf(stderr, "irisctl: %s%s%s%s%s\n", error.message, error.detail[0] ? ": " : "",
			error.detail, error.hint[0] ? "\n  " : "", error.hint);
	else if (strcmp(words->words[0], "help") == 0)
		code = list_commands(remote, options);
	else
		code = run_command(remote, words->words[0], words->words[1], &rest, options);
	remote_close(&remote);
	target_free(&target);
	return code;
}

/*
 * Takes our own flags, wherever they stand before a field's flag of the command, out of the
 * words.
 */
static bool
take_options(int argc, char **argv, struct options *options, struct arguments *words)
{
	words->words = argv + 1;
	words->count = 0;
	for (int i = 1; i < argc; i++) {
		if ((strcmp(argv[i], "--config") == 0 || strcmp(argv[i], "-c") == 0) &&
		    i + 1 < argc)
			options->config = argv[++i];
		else if (strncmp(argv[i], "--config=", 9) == 0)
			options->config = argv[i] + 9;
		else if (strcmp(argv[i], "--json") == 0)
			options->json = true;
		else if (strcmp(argv[i], "--yes") == 0)
			options->yes = true;
		else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			options->help = true;
		else
			words->words[words->count++] = argv[i];
	}
	return words->count > 0;
}

int
main(int argc, char **argv)
{
	struct options options = { .config = IRIS_SYSCONFDIR "/iris.yaml" };
	struct arguments words;
	bool given = take_options(argc, argv, &options, &words);
	const char *noun = given ? words.words[0] : "",
		   *verb = words.count > 1 ? words.words[1] : "";
	enum exit_code code;

	if (!given || (options.help && words.count < 2)) {
		print_usage(given || options.help ? stdout : stderr);
		return options.help ? EXIT_DONE : EXIT_USAGE;
	}
	if (strcmp(noun, "version") == 0) {
		puts("irisctl " PACKAGE_VERSION);
		return EXIT_DONE;
	}
	if (strcmp(noun, "init") == 0 && words.count == 1)
		return local_init(&options);
	if (strcmp(noun, "config") == 0 && strcmp(verb, "check") == 0)
		return local_config_check(&options);
	if (strcmp(noun, "db") == 0 && strcmp(verb, "upgrade") == 0)
		return local_db_upgrade(&options);
	if (strcmp(noun, "db") == 0 && strcmp(verb, "copy") == 0)
		return local_db_copy(&options, words.count, words.words);
	if (strcmp(noun, "region") == 0 && local_region(words.count, words.words, &code))
		return code;
	if (words.count < 2 && strcmp(noun, "help") != 0) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	return run_remote(&words, &options);
}
