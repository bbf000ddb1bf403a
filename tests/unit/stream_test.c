/* SPDX-License-Identifier: Apache-2.0 */
/* server/stream*.c over real sockets: negotiation, errors, order, moves between two workers, limits
 * of time. */
#include <errno.h>
#include <signal.h>

#include "stream_common.h"

#define GO(user) "<go xmlns='" TEST_NS "' user='" user "'/>"
#define NAP "<nap xmlns='" TEST_NS "'/>"

#define FIBERS 8

static int
start(void **state)
{
	fiber_set_limit(FIBERS);
	return test_start_server(2, TEST_LISTENERS "stream: {negotiation-timeout: 2 seconds, "
						   "close-timeout: 500 ms, output-limit: 256 KiB, "
						   "stanzas-per-turn: 8}\n");
}

static int
stop(void **state)
{
	return test_stop_server();
}

static void
test_header_is_answered(void **state)
{
	struct client *client = test_connect(TEST_STARTTLS);

	client_send(
		client,
		"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM
		"' to='TEST.example' from='Romeo@test.example/x' xml:lang='de' version='1.9'>");
	client_expect(
		client,
		"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM
		"' id='");
	client_expect(client,
		      "' from='test.example' to='romeo@test.example' version='1.0' xml:lang='de'>");
	client_expect(client, "<stream:features><starttls xmlns='" NS_TLS
			      "'><required/></starttls></stream:features>");
	client_send(client, "</stream:stream>");
	client_expect(client, "</stream:stream>");
	client_expect_end(client);
	client_close(client);
}

static void
test_one_byte_at_a_time(void **state)
{
	static const char text[] = TEST_HEADER GO(
		"juliet") "<message id='m1'><body>ha&lt;sten slowly \xe2\x98\x83</body></message>"
			  "<iq type='get' id='q' to='x'><q xmlns='y'/></iq></stream:stream>";
	struct client *client = test_connect(TEST_DIRECT);

	for (const char *p = text; *p; p++)
		client_send_bytes(client, p, 1);
	client_expect(client, "<gone");
	client_expect(client, "<message id='m1'><body>ha&lt;sten slowly \xe2\x98\x83</body><seen");
	client_expect(client, "id='q'");
	client_expect(client, "</stream:stream>");
	client_expect_end(client);
	client_close(client);
}

static void
test_starttls(void **state)
{
	struct client *client = test_open(TEST_STARTTLS);

	client_send(client, "<starttls xmlns='" NS_TLS "'/>");
	client_expect(client, "<proceed xmlns='" NS_TLS "'/>");
	assert_int_equal(client_try_tls(client, test.client, NULL), 1);
	client_send(client, TEST_HEADER);
	client_expect(client, "id='");
	client_expect(client, "<stream:features></stream:features>");
	client_send(client, GO("romeo"));
	client_expect(client, "<gone");
	client_close(client);
}

/* SECURITY: command injection. What is behind <starttls/> in the clear must have no effect under
 * TLS. */
static void
test_starttls_forgets_what_came_in_the_clear(void **state)
{
	struct client *client = test_open(TEST_STARTTLS);

	client_send(client, "<starttls xmlns='" NS_TLS "'/>" TEST_HEADER GO("mallory"));
	client_expect(client, "<proceed xmlns='" NS_TLS "'/>");
	assert_int_equal(client_try_tls(client, test.client, NULL), 1);
	client_send(client, TEST_HEADER);
	client_expect(client, "<stream:features></stream:features>");
	client_send(client, NAP); /* allowed before authentication in this test's role */
	client_expect(client, "<rested");
	assert_null(strstr(client->in, "gone"));
	client_close(client);
}

static void
test_restart_after_authentication(void **state)
{
	struct client *client = test_open(TEST_DIRECT);

	client_send(client, "<go xmlns='" TEST_NS "' user='tybalt' restart='1'/>");
	client_expect(client, "<gone");
	client_send(client, TEST_HEADER);
	client_expect(client, "<stream:stream");
	client_expect(client, "</stream:features>");
	client_send(client, "<message id='after'/>");
	client_expect(client, "id='after'");
	client_close(client);
}

/* What ends a stream before it has a session, by what is sent; `open`: after the header was
 * answered. */
static const struct {
	const char *sent, *condition;
	bool open;
} faults[] = {
	{ "<foo/>", "invalid-namespace", false },
	{ "<stream xmlns='" NS_STREAM "'>", "invalid-namespace", false },
	{ "<stream:strom xmlns:stream='" NS_STREAM "' xmlns='jabber:client'>", "bad-format",
	  false },
	{ "<stream:stream xmlns:stream='urn:x' xmlns='jabber:client' to='test.example' "
	  "version='1.0'>",
	  "invalid-namespace", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM
	  "' xmlns='jabber:server' to='test.example' version='1.0'>",
	  "invalid-namespace", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM "' xmlns='jabber:client' version='1.0'>",
	  "improper-addressing", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM
	  "' xmlns='jabber:client' to='a@b/c' version='1.0'>",
	  "improper-addressing", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM
	  "' xmlns='jabber:client' to='elsewhere.example' version='1.0'>",
	  "host-unknown", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM "' xmlns='jabber:client' to='test.example'>",
	  "unsupported-version", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM
	  "' xmlns='jabber:client' to='test.example' version='0.9'>",
	  "unsupported-version", false },
	{ "<stream:stream xmlns:stream='" NS_STREAM
	  "' xmlns='jabber:client' to='test.example' from='@' version='1.0'>",
	  "invalid-from", false },
	{ "GET / HTTP/1.1\r\nHost: test.example\r\n\r\n", "not-well-formed", false },
	{ "<?xml version='1.0' encoding='ISO-8859-1'?><stream:stream>", "unsupported-encoding",
	  false },
	{ "<!DOCTYPE x [<!ENTITY a 'b'>]><x/>", "restricted-xml", false },
	{ "<message><body></message>", "not-well-formed", true },
	{ "<message><!-- --></message>", "restricted-xml", true },
	{ "<message><?pi x?></message>", "restricted-xml", true },
	{ "<message>&undefined;</message>", "restricted-xml", true },
	{ "<message>\x01</message>", "not-well-formed", true },
	{ "<message>\xc0\xaf</message>", "not-well-formed", true },
	{ "<message/>", "not-authorized", true },
	{ "<iq type='set' id='1'><bind xmlns='" NS_BIND "'/></iq>", "not-authorized", true },
	{ "<presence/>", "not-authorized", true },
	{ "<fail xmlns='" TEST_NS "'/>", "internal-server-error", true },
	{ "<strange xmlns='urn:strange'/>", "unsupported-stanza-type", true },
	{ "<starttls xmlns='" NS_TLS "'/>", "unsupported-stanza-type", true },
	{ "<body/>", "unsupported-stanza-type", true },
	{ "text", "invalid-xml", true },
	{ GO("locked"), "not-authorized", true },
	{ GO("nobody"), "not-authorized", true },
	{ GO("broken"), "internal-server-error", true },
};

static void
test_every_fault_has_its_error(void **state)
{
	for (size_t i = 0; i < IRIS_COUNT(faults); i++) {
		struct client *client =
			faults[i].open ? test_open(TEST_PLAIN) : test_connect(TEST_PLAIN);

		client_send(client, faults[i].sent);
		client_expect_end(client);
		/* RFC 6120 §4.9.1.2: the error stands in a stream, which is closed. */
		if ((strstr(client->in, "<stream:stream ") != NULL) != !faults[i].open ||
		    !strstr(client->in, "<stream:error><") ||
		    !strstr(client->in, faults[i].condition) ||
		    !strstr(client->in, "</stream:error></stream:stream>"))
			fail_msg("%s gave %s", faults[i].sent, client->in);
		client_close(client);
	}
}

static void
test_limits_before_authentication(void **state)
{
	struct client *client = test_open(TEST_PLAIN);
	char *big = malloc(20000);

	memset(big, 'x', 19999);
	big[19999] = '\0';
	client_send(client, "<nap xmlns='" TEST_NS "'>");
	(void)!send(client->fd, big, 19999, MSG_NOSIGNAL);
	client_expect(client, "<policy-violation");
	client_expect_end(client);
	client_close(client);
	client = test_sign_in(TEST_PLAIN, "romeo");
	client_send(client, "<message id='big'><body>");
	client_send(client, big);
	client_send(client, "</body></message>");
	client_expect(client, "id='big'");
	client_expect(client, "</message>");
	client_close(client);
	free(big);
}

static void
test_malformed_address_is_answered(void **state)
{
	struct client *client = test_sign_in(TEST_PLAIN, "romeo");

	client_send(client, "<message id='m' to='@nowhere'/><message type='error' "
			    "to='@nowhere'/><message id='n'/>");
	client_expect(client, "type='error'");
	client_expect(client, "<jid-malformed");
	client_expect(client, "</message>");
	client_expect(client, "<message id='n'>");
	client_close(client);
}

/* While the fiber waits, what follows keeps its order, however it arrives. */
static void
test_order_is_kept_while_waiting(void **state)
{
	struct client *client = test_sign_in(TEST_DIRECT, "mercutio");

	client_send(client, NAP "<message id='1'/>" NAP);
	client_send(client, "<message id='2'/>");
	client_send(client, NAP "<message id='3'/></stream:stream>");
	client_expect(client, "<rested");
	client_expect(client, "id='1'");
	client_expect(client, "<rested");
	client_expect(client, "id='2'");
	client_expect(client, "<rested");
	client_expect(client, "id='3'");
	client_expect(client, "</stream:stream>");
	client_expect_end(client);
	client_close(client);
}

/* More than the budget of a turn, in one record. */
static void
test_many_stanzas_at_once(void **state)
{
	struct client *client = test_sign_in(TEST_DIRECT, "benvolio");
	char many[16000] = "", id[64];
	size_t len = 0;

	for (int i = 0; i < 300; i++)
		len += (size_t)snprintf(many + len, sizeof(many) - len, "<message id='a%d'/>", i);
	client_send(client, many);
	for (int i = 0; i < 300; i++) {
		snprintf(id, sizeof(id), "<message id='a%d'>", i);
		client_expect(client, id);
	}
	client_close(client);
}

/* When no fiber can be had, a stream waits its turn and loses nothing. */
static void
test_more_streams_than_fibers(void **state)
{
	struct client *clients[4 * FIBERS];

	for (size_t i = 0; i < IRIS_COUNT(clients); i++) {
		clients[i] = test_open(TEST_PLAIN);
		client_send(clients[i], NAP NAP NAP);
	}
	for (size_t i = 0; i < IRIS_COUNT(clients); i++) {
		for (int k = 0; k < 3; k++)
			client_expect(clients[i], "<rested");
		client_close(clients[i]);
	}
}

static void
test_orderly_and_lost(void **state)
{
	unsigned orderly, lost, closed;
	struct client *client;

	test_await_no_streams();
	orderly = test.orderly, lost = test.lost, closed = test.closed;
	client = test_sign_in(TEST_DIRECT, "romeo");

	client_send(client, "</stream:stream>");
	client_expect(client, "</stream:stream>");
	TEST_EVENTUALLY(test.orderly == orderly + 1);
	client_close(client);
	client = test_sign_in(TEST_DIRECT, "romeo");
	SSL_shutdown(client->ssl); /* close_notify without the closing tag is a loss too */
	client_close(client);
	TEST_EVENTUALLY(test.lost == lost + 1);
	client = test_sign_in(TEST_PLAIN, "romeo");
	client_send(client,
		    NAP "</stream:stream>"); /* read, but not handled when the connection goes */
	client_close(client);
	TEST_EVENTUALLY(test.orderly == orderly + 2);
	assert_int_equal(test.lost, lost + 1);
	TEST_EVENTUALLY(test.closed == closed + 3);
}

static void
test_silence_is_timed_out(void **state)
{
	struct client *header = test_connect(TEST_PLAIN),
		      *handshake = client_connect("127.0.0.1", listen_at(TEST_DIRECT)->port),
		      *slow = test_open(TEST_STARTTLS);

	client_expect(header, "<connection-timeout");
	client_expect_end(header);
	client_expect_end(handshake);
	client_expect(slow, "<connection-timeout");
	client_expect_end(slow);
	client_close(header);
	client_close(handshake);
	client_close(slow);
}

/* SECURITY: who sends and never reads is cut when what waits for him passes the limit. */
static void
test_who_does_not_read_is_cut(void **state)
{
	unsigned lost = (test_await_no_streams(), test.lost);
	struct client *client = test_sign_in(TEST_PLAIN, "romeo");
	struct timeval short_time = { .tv_usec = 100000 };
	char *message = malloc(65536);
	bool sending = true;

	memset(message, 'x', 65536);
	memcpy(message, "<message><body>", 15);
	memcpy(message + 65536 - 17, "</body></message>", 17);
	setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &short_time, sizeof(short_time));
	for (int i = 0; i < 400 && sending && test.lost == lost; i++)
		for (size_t at = 0; at < 65536 && sending && test.lost == lost;) {
			ssize_t sent = send(client->fd, message + at, 65536 - at, MSG_NOSIGNAL);

			sending = sent > 0 || errno == EAGAIN;
			at += sent > 0 ? (size_t)sent : 0;
		}
	TEST_EVENTUALLY(test.lost == lost + 1);
	client_close(client);
	free(message);
}

/* Pipelined behind the sign-in, in one record and in several, everything arrives in order at home.
 */
static void
move_once(unsigned round)
{
	struct client *client = test_open(round % 3 ? TEST_PLAIN : TEST_DIRECT);
	char text[512], id[64];

	snprintf(text, sizeof(text),
		 "<go xmlns='" TEST_NS "' user='u%u'/><message id='a%u'/><message id='b%u'/>",
		 round, round, round);
	client_send(client, text);
	snprintf(text, sizeof(text), "<message id='c%u'/><mess", round);
	client_send(client, text);
	snprintf(text, sizeof(text), "age id='d%u'/>", round);
	client_send(client, text);
	client_expect(client, "<gone");
	for (char c = 'a'; c <= 'd'; c++) {
		snprintf(id, sizeof(id), "<message id='%c%u'>", c, round);
		client_expect(client, id);
	}
	client_close(client);
}

static void
test_moves_with_pipelined_data(void **state)
{
	const char *rounds = getenv("IRIS_TEST_ROUNDS");
	unsigned count = rounds ? (unsigned)strtoul(rounds, NULL, 10) : 600;
	int64_t closed = (test_await_no_streams(), test.closed);

	for (unsigned round = 0; round < count; round++)
		move_once(round);
	assert_int_equal(test.wrong_home, 0);
	TEST_EVENTUALLY(test.closed == closed + count);
}

static void
test_shutdown_tells_everybody(void **state)
{
	struct client *bound = test_sign_in(TEST_DIRECT, "romeo"), *open = test_open(TEST_STARTTLS);

	client_send(bound, NAP);
	listen_close();
	streams_close_all("system-shutdown", 5000);
	client_expect(bound, "<system-shutdown");
	client_expect(bound, "</stream:stream>");
	client_expect(open, "<system-shutdown");
	client_close(bound);
	client_close(open);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_is_answered),
		cmocka_unit_test(test_one_byte_at_a_time),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_starttls_forgets_what_came_in_the_clear),
		cmocka_unit_test(test_restart_after_authentication),
		cmocka_unit_test(test_every_fault_has_its_error),
		cmocka_unit_test(test_limits_before_authentication),
		cmocka_unit_test(test_malformed_address_is_answered),
		cmocka_unit_test(test_order_is_kept_while_waiting),
		cmocka_unit_test(test_many_stanzas_at_once),
		cmocka_unit_test(test_more_streams_than_fibers),
		cmocka_unit_test(test_orderly_and_lost),
		cmocka_unit_test(test_silence_is_timed_out),
		cmocka_unit_test(test_who_does_not_read_is_cut),
		cmocka_unit_test(test_moves_with_pipelined_data),
		cmocka_unit_test(test_shutdown_tells_everybody),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
