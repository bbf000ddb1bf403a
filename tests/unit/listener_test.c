/* SPDX-License-Identifier: Apache-2.0 */
/* server/listener.c: workers share an address, PROXY headers, limits of strangers, no descriptor
 * left. */
#include <signal.h>
#include <sys/resource.h>

#include "admission.h"
#include "stream_common.h"

#define STRANGERS 40

static int
start(void **state)
{
	return test_start_server(
		2, TEST_LISTENERS
		"    - {address: 127.0.0.1, port: 0, role: test, tls: none, proxy-protocol: true, "
		"trusted-proxies: [127.0.0.0/8]}\n"
		"    - {address: 127.0.0.1, port: 0, role: test, tls: none, proxy-protocol: true, "
		"trusted-proxies: [192.0.2.0/24]}\n"
		"    - {address: \"::1\", port: 0, role: test, tls: none}\n"
		"  max-unauthenticated-per-address: 40\n");
}

enum { LISTENER_PROXY = TEST_PLAIN + 1, LISTENER_UNTRUSTED, LISTENER_IPV6 };

static int
stop(void **state)
{
	return test_stop_server();
}

static size_t
count_closed(struct client *const *clients, size_t count)
{
	size_t closed = 0;
	char byte;

	for (size_t i = 0; i < count; i++)
		closed += recv(clients[i]->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
	return closed;
}

/* SECURITY: silent connections are bounded, and who signs in does not count. */
static void
test_silent_connections_are_bounded(void **state)
{
	struct client *clients[300];

	for (size_t i = 0; i < 300; i++)
		clients[i] = client_connect("127.0.0.1", listen_at(TEST_PLAIN)->port);
	TEST_EVENTUALLY(count_closed(clients, 300) == 300 - STRANGERS);
	assert_int_equal(admission_count(), STRANGERS);
	assert_int_equal(test_streams(), STRANGERS);
	for (size_t i = 0; i < 300; i++)
		client_close(clients[i]);
	test_await_no_streams();
	assert_int_equal(admission_count(), 0);
	for (size_t i = 0; i < 60; i++)
		clients[i] = test_sign_in(TEST_PLAIN, "romeo");
	assert_int_equal(test_streams(), 60);
	for (size_t i = 0; i < 60; i++)
		client_close(clients[i]);
	test_await_no_streams();
}

static void
test_proxy_header_comes_first(void **state)
{
	static const uint8_t header[28] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6"
					  "\x33\x64\x02\x30\x39\x14\x66";
	struct client *client = client_connect("127.0.0.1", listen_at(LISTENER_PROXY)->port);

	for (size_t i = 0; i < sizeof(header); i++)
		client_send_bytes(client, header + i, 1);
	client_send(client, TEST_HEADER);
	client_expect(client, "</stream:features>");
	client_close(client);
	client = client_connect("127.0.0.1", listen_at(LISTENER_PROXY)->port);
	client_send(client, TEST_HEADER);
	client_expect_end(client);
	assert_int_equal(client->len, 0);
	client_close(client);
}

static void
test_proxy_must_be_trusted(void **state)
{
	struct client *client = client_connect("127.0.0.1", listen_at(LISTENER_UNTRUSTED)->port);

	client_expect_end(client);
	assert_int_equal(client->len, 0);
	client_close(client);
}

static void
test_both_workers_accept(void **state)
{
	bool seen[2] = { false, false };

	for (int i = 0; i < 200 && !(seen[0] && seen[1]); i++) {
		struct client *client = test_open(TEST_PLAIN);

		client_send(client, "<where xmlns='" TEST_NS "'/>");
		client_expect(client, "<here xmlns='" TEST_NS "' worker='");
		seen[client->in[0] == '1'] = true;
		client_close(client);
	}
	assert_true(seen[0] && seen[1]);
}

static void
test_ipv6(void **state)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct client *client = calloc(1, sizeof(*client));

	to.sin6_port = htons(listen_at(LISTENER_IPV6)->port);
	client->fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	client_send(client, TEST_HEADER);
	client_expect(client, "</stream:features>");
	client_close(client);
}

/* SECURITY: who comes when no descriptor is left is closed at once, and does not keep the loop
 * spinning. */
static void
test_no_descriptor_left(void **state)
{
	struct rlimit limit, low;
	struct client *refused = calloc(1, sizeof(*refused)), *later;
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(listen_at(TEST_PLAIN)->port) };
	int spare[512], count = 0;

	test_await_no_streams();
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	refused->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 256;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (count < 512 && (spare[count] = dup(refused->fd)) >= 0)
		count++;
	assert_int_equal(connect(refused->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	client_expect_end(refused);
	assert_int_equal(refused->len, 0);
	while (count > 0)
		close(spare[--count]);
	client_close(refused);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	later = test_open(TEST_PLAIN);
	client_close(later);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_connections_are_bounded),
		cmocka_unit_test(test_proxy_header_comes_first),
		cmocka_unit_test(test_proxy_must_be_trusted),
		cmocka_unit_test(test_both_workers_accept),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_no_descriptor_left),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
