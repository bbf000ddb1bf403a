/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libstrophe signs in over TLS, adds a contact, shows presence, and talks both ways.
 * Usage: strophe_client JID HOST PORT starttls|tls CA-FILE PEER; the password comes in
 * IRIS_PASSWORD. Prints CONNECTED, ROSTER, SUBSCRIBED, GOT text, CLOSED; exits 0 when all of them
 * happened.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strophe.h>

static struct {
	const char *peer;
	bool connected, subscribed, got, closed;
} state;

static void
say(const char *what, const char *text)
{
	printf("%s%s%s\n", what, text ? " " : "", text ? text : "");
	fflush(stdout);
}

static void
presence_send(xmpp_conn_t *conn, const char *type)
{
	xmpp_stanza_t *presence = xmpp_presence_new(xmpp_conn_get_context(conn));

	if (type) {
		xmpp_stanza_set_type(presence, type);
		xmpp_stanza_set_to(presence, state.peer);
	}
	xmpp_send(conn, presence);
	xmpp_stanza_release(presence);
}

static void
roster_send(xmpp_conn_t *conn, const char *type, const char *id, const char *contact)
{
	xmpp_ctx_t *ctx = xmpp_conn_get_context(conn);
	xmpp_stanza_t *iq = xmpp_iq_new(ctx, type, id), *query = xmpp_stanza_new(ctx);

	xmpp_stanza_set_name(query, "query");
	xmpp_stanza_set_ns(query, XMPP_NS_ROSTER);
	if (contact) {
		xmpp_stanza_t *item = xmpp_stanza_new(ctx);
		xmpp_stanza_set_name(item, "item");
		xmpp_stanza_set_attribute(item, "jid", contact);
		xmpp_stanza_set_attribute(item, "name", "Peer");
		xmpp_stanza_add_child_ex(query, item, 0);
	}
	xmpp_stanza_add_child_ex(iq, query, 0);
	xmpp_send(conn, iq);
	xmpp_stanza_release(iq);
}

static int
on_roster(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
	const char *type = xmpp_stanza_get_type(stanza);

	if (type && strcmp(type, "result") == 0)
		say("ROSTER", NULL);
	presence_send(conn, NULL);
	presence_send(conn, "subscribe");
	return 0;
}

static int
on_presence(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
	const char *type = xmpp_stanza_get_type(stanza);

	if (type && strcmp(type, "subscribe") == 0)
		presence_send(conn, "subscribed");
	if (type && strcmp(type, "subscribed") == 0) {
		state.subscribed = true;
		say("SUBSCRIBED", NULL);
	}
	return 1;
}

static int
on_message(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *arg)
{
	xmpp_ctx_t *ctx = xmpp_conn_get_context(conn);
	char *body = xmpp_message_get_body(stanza);

	if (!body)
		return 1;
	say("GOT", body);
	state.got = true;
	xmpp_stanza_t *reply = xmpp_message_new(ctx, "chat", xmpp_stanza_get_from(stanza), "reply");
	xmpp_message_set_body(reply, "hello from strophe <&>");
	xmpp_send(conn, reply);
	xmpp_stanza_release(reply);
	xmpp_free(ctx, body);
	xmpp_disconnect(conn);
	return 1;
}

static void
on_connection(xmpp_conn_t *conn, xmpp_conn_event_t event, int error,
	      xmpp_stream_error_t *stream_error, void *arg)
{
	if (event != XMPP_CONN_CONNECT) {
		state.closed = error == 0 && !stream_error;
		say("CLOSED", NULL);
		xmpp_stop(arg);
		return;
	}
	state.connected = xmpp_conn_is_secured(conn);
	say("CONNECTED", xmpp_conn_get_bound_jid(conn));
	xmpp_handler_add(conn, on_message, NULL, "message", NULL, NULL);
	xmpp_handler_add(conn, on_presence, NULL, "presence", NULL, NULL);
	xmpp_id_handler_add(conn, on_roster, "roster-add", NULL);
	roster_send(conn, "get", "roster-get", NULL);
	roster_send(conn, "set", "roster-add", state.peer);
}

static int
on_timeout(xmpp_ctx_t *ctx, void *arg)
{
	say("TIMEOUT", NULL);
	xmpp_stop(ctx);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc != 7)
		return 2;
	state.peer = argv[6];
	xmpp_initialize();
	xmpp_ctx_t *ctx = xmpp_ctx_new(NULL, xmpp_get_default_logger(XMPP_LEVEL_ERROR));
	xmpp_conn_t *conn = xmpp_conn_new(ctx);
	xmpp_conn_set_flags(conn, strcmp(argv[4], "tls") == 0 ? XMPP_CONN_FLAG_LEGACY_SSL :
								XMPP_CONN_FLAG_MANDATORY_TLS);
	xmpp_conn_set_jid(conn, argv[1]);
	xmpp_conn_set_pass(conn, getenv("IRIS_PASSWORD"));
	xmpp_conn_set_cafile(conn, argv[5]);
	xmpp_global_timed_handler_add(ctx, on_timeout, 20000, NULL);
	if (xmpp_connect_client(conn, argv[2], (unsigned short)strtoul(argv[3], NULL, 10),
				on_connection, ctx) == XMPP_EOK)
		xmpp_run(ctx);
	xmpp_conn_release(conn);
	xmpp_ctx_free(ctx);
	xmpp_shutdown();
	return state.connected && state.subscribed && state.got && state.closed ? 0 : 1;
}
