/* SPDX-License-Identifier: Apache-2.0 */
/* irisctl between its files. One thread, no fibers but for local_init(). */
#ifndef IRISCTL_H
#define IRISCTL_H

#include <stdio.h>
#include <strophe.h>

#include "config_private.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3,
	EXIT_CONFIG = 78
};

struct options {
	const char *config;  /* path */
	bool json, yes, help;
};

/* --- local.c --- */

enum exit_code local_init(const struct options *options);
enum exit_code local_config_check(const struct options *options);
enum exit_code local_db_upgrade(const struct options *options);
/* Like the server does, and as the user that serves; ends the process when the configuration is
 * wrong. */
IRIS_MUST_CHECK bool local_prepare(const struct options *options, struct iris_error *error);
enum exit_code local_tell_error(const struct iris_error *error);
void local_finish(void);

/* --- copy.c --- */

/* words: NOUN VERB --to ENGINE */
enum exit_code local_db_copy(const struct options *options, int count, char **words);

/* --- region.c --- */

/* words: "region" VERB …; false: no verb of this side, the server knows more */
IRIS_MUST_CHECK bool local_region(int count, char **words, enum exit_code *code_r);

/* How to reach the server, from its configuration. Owned strings. */
struct target {
	char *jid, *password; /* the operator's; the password is wiped when freed */
	char *host;           /* the address to connect to */
	unsigned short port;
	char *certificate;    /* PEM, as the configuration's file has it */
};

IRIS_MUST_CHECK bool target_load(const struct options *options, struct target *target,
				 struct iris_error *error);
void target_free(struct target *target);

/* --- remote.c --- */

struct remote;
/* signed in, or NULL */
struct remote *remote_open(const struct target *target, struct iris_error *error);
void remote_close(struct remote **remote_p);
xmpp_ctx_t *remote_context(struct remote *remote);
/*
 * Sends an iq to the server's domain with this payload (taken over); the answer, to be released,
 * or NULL: the connection broke.
 */
xmpp_stanza_t *remote_ask(struct remote *remote, const char *type, xmpp_stanza_t *payload);
/* "forbidden: text" of an error answer, in a static buffer; NULL: it is none. */
const char *remote_error(xmpp_stanza_t *answer);

/* --- form.c --- */

/* What the user wrote behind NOUN VERB. */
struct arguments {
	int count;
	char **words;
};

/*
 * Makes the submitted form from the server's; NULL: wrongly used, and said so. *more_r: standard
 * input had more lines than one call takes; call again.
 */
xmpp_stanza_t *form_fill(struct remote *remote, xmpp_stanza_t *form,
			 const struct arguments *arguments, const struct options *options,
			 bool *more_r);
void form_print_help(FILE *out, const char *noun, const char *verb, xmpp_stanza_t *form);
/* Children of the form's fields. */
/* free *owned_r by xmpp_free */
const char *stanza_child_text(xmpp_stanza_t *parent, const char *name, char **owned_r);

/* --- output.c --- */

void output_command(xmpp_ctx_t *context, xmpp_stanza_t *command, const struct options *options);
void output_list(xmpp_stanza_t *items, const struct options *options);

#endif
