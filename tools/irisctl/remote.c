/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the server, with libstrophe: STARTTLS, SASL, then one question at a time.
 *
 * SECURITY: the certificate must be the one that the configuration names; whoever took the port
 * cannot have its key.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "iris/base.h"
#include "irisctl.h"

#define CONNECT_SECONDS 15
#define ANSWER_SECONDS 300 /* importing accounts takes a while */
#define ANSWER_ID "irisctl"

struct remote {
	xmpp_ctx_t *context;
	xmpp_conn_t *conn;
	const struct target *target;
	bool connected, ended, wrong_certificate;
	xmpp_stanza_t *answer;
};

static struct remote *checking; /* libstrophe's certificate callback has no argument of ours */

/* One block of PEM against another, line ends apart. Both start at their BEGIN line. */
static bool
is_same_block(const char *a, const char *b)
{
	for (;; a++, b++) {
		a += strspn(a, "\r\n");
		b += strspn(b, "\r\n");
		if (strncmp(a, "-----END", 8) == 0)
			return strncmp(b, "-----END", 8) == 0;
		if (*a != *b || *a == '\0')
			return false;
	}
}

/* A chain may be judged by any of its certificates: is this one of those in the file? */
static bool
is_in_file(const char *pem, const char *file)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----";

	pem = strstr(pem, begin);
	for (file = strstr(file, begin); pem && file; file = strstr(file + 1, begin))
		if (is_same_block(pem, file))
			return true;
	return false;
}

static int
on_certificate(const xmpp_tlscert_t *certificate, const char *const reason)
{
	const char *pem = xmpp_tlscert_get_pem(certificate);

	if (checking && pem && is_in_file(pem, checking->target->certificate))
		return 1;
	if (checking)
		checking->wrong_certificate = true;
	return 0;
}

static void
on_connection(xmpp_conn_t *conn, xmpp_conn_event_t event, int error,
	      xmpp_stream_error_t *stream_error, void *arg)
{
	struct remote *remote = arg;

	if (event == XMPP_CONN_CONNECT)
		remote->connected = true;
	else
		remote->ended = true;
}

static int
on_answer(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
	struct remote *remote = arg;

	if (!remote->answer)
		remote->answer = xmpp_stanza_clone(stanza);
	return 0;
}

static void
run_until(struct remote *remote, const bool *done, xmpp_stanza_t **answer, int seconds)
{
	time_t end = time(NULL) + seconds;

	while (!remote->ended && !(done && *done) && !(answer && *answer) && time(NULL) <= end)
		xmpp_run_once(remote->context, 50);
}

/* Connects even when the address asks for another server's name: loopback has none. */
static bool
start(struct remote *remote, struct iris_error *error)
{
	const struct target *target = remote->target;

	xmpp_conn_set_flags(remote->conn, XMPP_CONN_FLAG_MANDATORY_TLS);
	xmpp_conn_set_jid(remote->conn, target->jid);
	xmpp_conn_set_pass(remote->conn, target->password);
	xmpp_conn_set_certfail_handler(remote->conn, on_certificate);
	checking = remote;
	if (xmpp_connect_client(remote->conn, target->host, target->port, on_connection, remote) !=
	    XMPP_EOK) {
		error_set(error, "cannot connect to %s port %u", target->host, target->port);
		return error_hint(error, "is irisd running?");
	}
	run_until(remote, &remote->connected, NULL, CONNECT_SECONDS);
	if (remote->connected && !remote->ended)
		return true;
	if (remote->wrong_certificate)
		return error_set(error,
				 "who answers on %s port %u has another certificate than the "
				 "configuration names",
				 target->host, target->port);
	error_set(error, "cannot sign in as %s on %s port %u", target->jid, target->host,
		  target->port);
	return error_hint(error,
			  "is irisd running, and is the operator's credential of this region?");
}

struct remote *
remote_open(const struct target *target, struct iris_error *error)
{
	struct remote *remote = iris_calloc(1, sizeof(*remote));

	xmpp_initialize();
	remote->target = target;
	remote->context = xmpp_ctx_new(NULL, NULL);
	remote->conn = xmpp_conn_new(remote->context);
	if (!start(remote, error))
		remote_close(&remote);
	return remote;
}

void
remote_close(struct remote **remote_p)
{
	struct remote *remote = *remote_p;

	if (!remote)
		return;
	if (remote->connected && !remote->ended) {
		xmpp_disconnect(remote->conn);
		run_until(remote, NULL, NULL, 2);
	}
	checking = NULL;
	xmpp_conn_release(remote->conn);
	xmpp_ctx_free(remote->context);
	xmpp_shutdown();
	free(remote);
	*remote_p = NULL;
}

xmpp_ctx_t *
remote_context(struct remote *remote)
{
	return remote->context;
}

xmpp_stanza_t *
remote_ask(struct remote *remote, const char *type, xmpp_stanza_t *payload)
{
	xmpp_stanza_t *iq = xmpp_iq_new(remote->context, type, ANSWER_ID);
	const char *domain = strchr(remote->target->jid, '@');
	xmpp_stanza_t *answer;

	xmpp_stanza_set_to(iq, domain ? domain + 1 : remote->target->jid);
	xmpp_stanza_add_child(iq, payload);
	xmpp_stanza_release(payload);
	remote->answer = NULL;
	xmpp_id_handler_add(remote->conn, on_answer, ANSWER_ID, remote);
	xmpp_send(remote->conn, iq);
	xmpp_stanza_release(iq);
	run_until(remote, NULL, &remote->answer, ANSWER_SECONDS);
	answer = remote->answer;
	remote->answer = NULL;
	return answer;
}

const char *
remote_error(xmpp_stanza_t *answer)
{
	static char text[1024];
	const char *type = xmpp_stanza_get_type(answer), *condition = "undefined-condition";
	xmpp_stanza_t *error = xmpp_stanza_get_child_by_name(answer, "error"), *child;
	char *owned = NULL;
	const char *said = "";

	if (!type || strcmp(type, "error") != 0)
		return NULL;
	for (child = error ? xmpp_stanza_get_children(error) : NULL; child;
	     child = xmpp_stanza_get_next(child)) {
		const char *name = xmpp_stanza_get_name(child);

		if (name && strcmp(name, "text") != 0 && xmpp_stanza_get_ns(child) &&
		    strcmp(xmpp_stanza_get_ns(child), XMPP_NS_STANZAS_IETF) == 0)
			condition = name;
	}
	if (error)
		said = stanza_child_text(error, "text", &owned);
	snprintf(text, sizeof(text), "%s%s%s", condition, *said ? ": " : "", said);
	free(owned);
	return text;
}
