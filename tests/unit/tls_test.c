/* SPDX-License-Identifier: Apache-2.0 */
/* server/tls.c and server/hosts.c: what is offered and refused, SNI, ALPN, tickets, channel
 * bindings, bad files. */
#include <signal.h>

#include "stream_common.h"

#define MORE TEST_LISTENERS "tls: {client-ca: client.crt}\n"

static int
start(void **state)
{
	return test_start_server(2, MORE);
}

static int
stop(void **state)
{
	return test_stop_server();
}

static void
assert_served_by(struct client *client, const char *name)
{
	X509 *certificate = SSL_get1_peer_certificate(client->ssl);
	char cn[64];

	assert_non_null(certificate);
	X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, cn,
				  sizeof(cn));
	assert_string_equal(cn, name);
	X509_free(certificate);
}

static struct client *
connect_direct(SSL_CTX *context, const char *name)
{
	struct client *client = client_connect("127.0.0.1", listen_at(TEST_DIRECT)->port);

	assert_int_equal(client_try_tls(client, context, name), 1);
	return client;
}

static void
test_the_certificate_fits_the_name(void **state)
{
	static const struct {
		const char *asked, *served;
	} names[] = { { TEST_HOST, "one" },
		      { "other.example", "two" },
		      { "OTHER.example", "two" },
		      { "unknown.example", "one" },
		      { NULL, "one" } };

	for (size_t i = 0; i < IRIS_COUNT(names); i++) {
		struct client *client = connect_direct(test.client_alpn, names[i].asked);

		assert_served_by(client, names[i].served);
		client_close(client);
	}
}

/* With STARTTLS it is the stream's `to` that counts. */
static void
test_starttls_takes_the_certificate_of_to(void **state)
{
	struct client *client = test_connect(TEST_STARTTLS);

	client_send(client, "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM
			    "' to='other.example' version='1.0'><starttls xmlns='" NS_TLS "'/>");
	client_expect(client, "<proceed");
	client_expect(client, "/>");
	assert_int_equal(client_try_tls(client, test.client, NULL), 1);
	assert_served_by(client, "two");
	client_close(client);
}

static int
try_with(void (*set)(SSL_CTX *context))
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	struct client *client = client_connect("127.0.0.1", listen_at(TEST_DIRECT)->port);
	int result;

	SSL_CTX_set_security_level(context, 0);
	set(context);
	result = client_try_tls(client, context, TEST_HOST);
	client_close(client);
	SSL_CTX_free(context);
	return result;
}

static void
set_tls11(SSL_CTX *context)
{
	SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
}

static void
set_tls12(SSL_CTX *context)
{
	SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
}

static void
set_cbc(SSL_CTX *context)
{
	set_tls12(context);
	assert_int_equal(SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-AES128-SHA256"), 1);
}

static void
set_p384(SSL_CTX *context)
{
	assert_int_equal(SSL_CTX_set1_groups_list(context, "P-384"), 1);
}

static void
set_http(SSL_CTX *context)
{
	test_set_alpn(context, "http/1.1");
}

static void
set_nothing(SSL_CTX *context)
{
}

static void
test_what_is_spoken(void **state)
{
	assert_int_equal(try_with(set_nothing), 1);
	assert_int_equal(try_with(set_tls12), 1);
	assert_int_not_equal(try_with(set_tls11), 1);
	assert_int_not_equal(try_with(set_cbc), 1);
	assert_int_not_equal(try_with(set_p384), 1);
	assert_int_not_equal(try_with(set_http), 1);
}

static void
test_alpn_is_answered(void **state)
{
	struct client *client = connect_direct(test.client_alpn, TEST_HOST);
	const unsigned char *protocol;
	unsigned len;

	SSL_get0_alpn_selected(client->ssl, &protocol, &len);
	assert_int_equal(len, 11);
	assert_memory_equal(protocol, "xmpp-client", 11);
	client_close(client);
}

static void
test_tickets_resume(void **state)
{
	struct client *client = connect_direct(test.client_alpn, TEST_HOST);
	SSL_SESSION *session;

	client_send(client, TEST_HEADER);
	client_expect(client, "</stream:features>"); /* reads the ticket too */
	session = SSL_get1_session(client->ssl);
	SSL_shutdown(client->ssl);
	client_close(client);
	client = client_connect("127.0.0.1", listen_at(TEST_DIRECT)->port);
	client->ssl = SSL_new(test.client_alpn);
	SSL_set_tlsext_host_name(client->ssl, TEST_HOST);
	SSL_set_session(client->ssl, session);
	SSL_set_fd(client->ssl, client->fd);
	assert_int_equal(SSL_connect(client->ssl), 1);
	assert_true(SSL_session_reused(client->ssl));
	client_send(client, TEST_HEADER);
	client_expect(client, "</stream:features>");
	SSL_SESSION_free(session);
	client_close(client);
}

/* --- bindings: both ends in this process, over a socketpair --- */

struct ends {
	SSL *server, *client;
};

static void
use_identity(SSL_CTX *context, const char *identity)
{
	char name[64], path[256];

	snprintf(name, sizeof(name), "%s.crt", identity);
	assert_int_equal(
		SSL_CTX_use_certificate_file(context, tls_path(path, name), SSL_FILETYPE_PEM), 1);
	snprintf(name, sizeof(name), "%s.key", identity);
	assert_int_equal(
		SSL_CTX_use_PrivateKey_file(context, tls_path(path, name), SSL_FILETYPE_PEM), 1);
}

/* identity: of the client's certificate, or NULL. */
static struct ends
shake_hands(SSL_CTX *server, int max_version, const char *identity)
{
	struct ends ends;
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	int fds[2], done = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	SSL_CTX_set_max_proto_version(context, max_version);
	if (identity)
		use_identity(context, identity);
	ends.server = tls_accept_new(server, fds[0], NULL, false);
	ends.client = SSL_new(context);
	SSL_set_fd(ends.client, fds[1]);
	SSL_set_connect_state(ends.client);
	for (int i = 0; i < 10 && done != 2; i++)
		done = (SSL_do_handshake(ends.client) == 1) + (SSL_do_handshake(ends.server) == 1);
	assert_int_equal(done, 2);
	SSL_CTX_free(context);
	return ends;
}

static void
end(struct ends *ends)
{
	close(SSL_get_fd(ends->server));
	close(SSL_get_fd(ends->client));
	SSL_free(ends->server);
	SSL_free(ends->client);
}

static void
test_channel_bindings(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	struct iris_arena *arena = arena_new();
	SSL_CTX *server = host_tls(host_default(), false);

	for (size_t i = 0; i < IRIS_COUNT(versions); i++) {
		struct ends ends = shake_hands(server, versions[i], NULL);
		bool tls13 = versions[i] == TLS1_3_VERSION;
		unsigned char expected[64];
		struct iris_str data;
		size_t len;

		assert_string_equal(tls_channel_bindings(ends.server)[0],
				    tls13 ? "tls-exporter" : "tls-server-end-point");
		assert_int_equal(tls_channel_binding(ends.server, "tls-exporter", arena, &data),
				 tls13);
		if (tls13) {
			assert_int_equal(SSL_export_keying_material(ends.client, expected, 32,
								    "EXPORTER-Channel-Binding", 24,
								    (const unsigned char *)"", 0,
								    1),
					 1);
			assert_memory_equal(data.base, expected, 32);
		}
		assert_true(tls_channel_binding(ends.server, "tls-unique", arena, &data));
		len = SSL_get_finished(ends.client, expected, sizeof(expected));
		assert_int_equal(data.len, len);
		assert_memory_equal(data.base, expected, len);
		assert_true(tls_channel_binding(ends.server, "tls-server-end-point", arena, &data));
		assert_int_equal(X509_digest(SSL_get0_peer_certificate(ends.client), EVP_sha256(),
					     expected, NULL),
				 1);
		assert_memory_equal(data.base, expected, 32);
		assert_false(tls_channel_binding(ends.server, "tls-unknown", arena, &data));
		assert_null(tls_peer_certificate(ends.server));
		end(&ends);
	}
	arena_unref(&arena);
}

/* Only a chain to an authority that is trusted makes a certificate worth looking at; none ends the
 * handshake. */
static void
test_client_certificates(void **state)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	SSL_CTX *server = host_tls(host_default(), false);

	for (size_t i = 0; i < IRIS_COUNT(versions); i++) {
		struct ends trusted = shake_hands(server, versions[i], "client");
		struct ends stranger = shake_hands(server, versions[i], "two");

		assert_non_null(tls_peer_certificate(trusted.server));
		assert_null(tls_peer_certificate(stranger.server));
		end(&trusted);
		end(&stranger);
	}
}

static void
reload(size_t errors)
{
	struct iris_report report = { .error_count = 0 };

	assert_true(modules_reload(&report) || errors > 0);
	assert_int_equal(report.error_count, errors);
	report_clear(&report);
}

static long
serial_of(const char *name)
{
	struct client *client = connect_direct(test.client_alpn, name);
	X509 *certificate = SSL_get1_peer_certificate(client->ssl);
	long serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));

	X509_free(certificate);
	client_close(client);
	return serial;
}

/* While clients connect, certificates are exchanged; a bad one leaves the one before. */
static void
test_reload_exchanges_certificates(void **state)
{
	char path[256];
	long before = serial_of("other.example");

	for (int i = 0; i < 5; i++) {
		struct client *open = connect_direct(test.client_alpn, "other.example");

		tls_make_identity("two", 86400 * 90);
		reload(0);
		assert_int_not_equal(serial_of("other.example"), before);
		before = serial_of("other.example");
		client_send(open, TEST_HEADER); /* those who are there stay */
		client_expect(open, "</stream:features>");
		client_close(open);
	}
	assert_int_equal(truncate(tls_path(path, "two.key"), 10), 0);
	reload(0);
	assert_int_equal(serial_of("other.example"), before);
}

static void
test_reload_ends_streams_of_a_domain_that_goes(void **state)
{
	struct client *client = connect_direct(test.client_alpn, "other.example");

	tls_make_identity("two", 86400 * 90);
	client_send(client, "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM
			    "' to='other.example' version='1.0'>");
	client_expect(client, "</stream:features>");
	test_write_configuration("third.example", MORE);
	reload(0);
	client_expect(client, "<host-gone");
	client_expect_end(client);
	client_close(client);
	test_write_configuration("other.example", MORE);
	reload(0);
	client = connect_direct(test.client_alpn, "other.example");
	assert_served_by(client, "two");
	client_close(client);
}

static void
test_bad_files_are_told(void **state)
{
	char one[256], one_key[256], two_key[256], missing[256];
	struct iris_error error;

	tls_path(one, "one.crt");
	tls_path(one_key, "one.key");
	tls_path(two_key, "two.key");
	tls_path(missing, "missing.crt");
	assert_null(tls_context_new(str_from(missing), str_from(one_key), &error));
	assert_non_null(strstr(error.message, "cannot read the certificate"));
	assert_string_equal(error.detail, missing);
	assert_null(tls_context_new(str_from(one), str_from(two_key), &error));
	assert_non_null(strstr(error.message, "key"));
	assert_true(error.hint[0] != '\0');
	assert_null(tls_context_new(str_from(one_key), str_from(one_key), &error));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_certificate_fits_the_name),
		cmocka_unit_test(test_starttls_takes_the_certificate_of_to),
		cmocka_unit_test(test_what_is_spoken),
		cmocka_unit_test(test_alpn_is_answered),
		cmocka_unit_test(test_tickets_resume),
		cmocka_unit_test(test_channel_bindings),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_bad_files_are_told),
		cmocka_unit_test(test_reload_exchanges_certificates),
		cmocka_unit_test(test_reload_ends_streams_of_a_domain_that_goes),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
