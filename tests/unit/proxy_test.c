/* SPDX-License-Identifier: Apache-2.0 */
/* server/proxy.c and server/admission.c: headers of load balancers, networks, and how many are let
 * in. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "admission.h"
#include "proxy.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static const uint8_t ipv4[28] =
	SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x14\x66";

static void
test_ipv4_arrives_in_pieces(void **state)
{
	struct proxy_header header;
	const struct sockaddr_in *peer = (const void *)&header.peer;

	for (size_t len = 0; len < 28; len++) {
		assert_int_equal(proxy_parse(ipv4, len, &header), PROXY_MORE);
		assert_int_equal(header.need, len < 16 ? 16 : 28);
	}
	assert_int_equal(proxy_parse(ipv4, 28, &header), PROXY_OK);
	assert_int_equal(peer->sin_family, AF_INET);
	assert_int_equal(ntohl(peer->sin_addr.s_addr), 0xc0000201);
	assert_int_equal(ntohs(peer->sin_port), 12345);
}

static void
test_ipv6_with_checksum(void **state)
{
	/* The checksum was computed independently. */
	static const uint8_t bytes[59] = SIGNATURE "\x21\x21\x00\x2b"
						   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
						   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"
						   "\x30\x39\x14\x66"
						   "\x03\x00\x04"
						   "\xa2\x04\x10\x12";
	uint8_t wrong[59];
	struct proxy_header header;
	const struct sockaddr_in6 *peer = (const void *)&header.peer;

	assert_int_equal(proxy_parse(bytes, 59, &header), PROXY_OK);
	assert_int_equal(peer->sin6_family, AF_INET6);
	assert_int_equal(peer->sin6_addr.s6_addr[15], 1);
	memcpy(wrong, bytes, 59);
	wrong[31] = 9;
	assert_int_equal(proxy_parse(wrong, 59, &header), PROXY_BAD);
}

static void
test_local_has_no_address(void **state)
{
	static const uint8_t bytes[16] = SIGNATURE "\x20\x00\x00\x00";
	struct proxy_header header;

	assert_int_equal(proxy_parse(bytes, 16, &header), PROXY_OK);
	assert_true(header.is_local);
}

static void
expect_bad(size_t at, uint8_t value)
{
	uint8_t bytes[28];
	struct proxy_header header;

	memcpy(bytes, ipv4, 28);
	bytes[at] = value;
	assert_int_equal(proxy_parse(bytes, 28, &header), PROXY_BAD);
}

static void
test_everything_else_is_refused(void **state)
{
	struct proxy_header header;

	expect_bad(3, 'x'); /* signature */
	expect_bad(12, 0x11); /* version 1 */
	expect_bad(12, 0x22); /* a command there is none */
	expect_bad(13, 0x12); /* datagrams */
	expect_bad(13, 0x31); /* UNIX sockets */
	expect_bad(13, 0x21); /* too short for IPv6 */
	expect_bad(14, 0x7f); /* longer than any header */
	expect_bad(15, 0x0b); /* shorter than what came */
	assert_int_equal(proxy_parse((const uint8_t *)"PROXY TCP4 ", 11, &header), PROXY_BAD);
	assert_int_equal(proxy_parse((const uint8_t *)"<stream:stream", 14, &header), PROXY_BAD);
}

static void
test_tlv_beyond_the_end(void **state)
{
	static const uint8_t bytes[31] =
		SIGNATURE "\x21\x11\x00\x0f\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x14\x66"
			  "\x04\x00\x05";
	struct proxy_header header;

	assert_int_equal(proxy_parse(bytes, 31, &header), PROXY_BAD);
}

static bool
network_has(const char *network, const char *address)
{
	struct proxy_network parsed;
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	assert_true(proxy_network_parse(str_from(network), &parsed));
	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		return proxy_network_has(&parsed, (struct sockaddr *)&in);
	assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
	return proxy_network_has(&parsed, (struct sockaddr *)&in6);
}

static void
test_networks(void **state)
{
	struct proxy_network parsed;

	assert_true(network_has("192.0.2.0/24", "192.0.2.255"));
	assert_false(network_has("192.0.2.0/24", "192.0.3.0"));
	assert_true(network_has("10.0.0.0/9", "10.127.0.1"));
	assert_false(network_has("10.0.0.0/9", "10.128.0.1"));
	assert_true(network_has("192.0.2.7", "192.0.2.7"));
	assert_true(network_has("192.0.2.0/24", "::ffff:192.0.2.9"));
	assert_true(network_has("0.0.0.0/0", "203.0.113.1"));
	assert_false(network_has("0.0.0.0/0", "2001:db8::1"));
	assert_true(network_has("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(network_has("2001:db8::/33", "2001:db8:8000::1"));
	assert_false(proxy_network_parse(IRIS_STR("192.0.2.0/33"), &parsed));
	assert_false(proxy_network_parse(IRIS_STR("192.0.2/24"), &parsed));
	assert_false(proxy_network_parse(IRIS_STR("x"), &parsed));
	assert_false(proxy_network_parse(IRIS_STR("::/129"), &parsed));
	assert_false(proxy_network_parse(IRIS_STR("::/"), &parsed));
}

static struct admission *
enter(const char *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		return admission_enter((struct sockaddr *)&in);
	assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
	return admission_enter((struct sockaddr *)&in6);
}

static void
test_admission(void **state)
{
	struct admission *in[4];

	admission_set_limits(3, 2);
	in[0] = enter("2001:db8::1");
	in[1] = enter("2001:db8::2");
	assert_non_null(in[0]);
	assert_non_null(in[1]);
	assert_null(enter("2001:db8::3")); /* the same network */
	in[2] = enter("2001:db8:0:1::3");
	assert_non_null(in[2]);
	assert_null(enter("192.0.2.1")); /* three are in */
	admission_leave(&in[0]);
	assert_null(in[0]);
	in[3] = enter("192.0.2.1");
	assert_non_null(in[3]);
	for (int i = 0; i < 4; i++)
		admission_leave(&in[i]);
	assert_int_equal(admission_count(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4_arrives_in_pieces),
		cmocka_unit_test(test_ipv6_with_checksum),
		cmocka_unit_test(test_local_has_no_address),
		cmocka_unit_test(test_everything_else_is_refused),
		cmocka_unit_test(test_tlv_beyond_the_end),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_admission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
