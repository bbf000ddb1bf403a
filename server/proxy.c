/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PROXY protocol, version 2, receiver's side, strict: stream sockets over IPv4 and IPv6, a
 * checksum is verified when there is one.  It does not do version 1 and does not read sockets.
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "proxy.h"

#define TLV_CRC32C 0x03

enum {
	COMMAND_LOCAL = 0x20,
	COMMAND_PROXY = 0x21,
	FAMILY_UNSPEC = 0x00,
	FAMILY_TCP4 = 0x11,
	FAMILY_TCP6 = 0x21
};

static const uint8_t proxy_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

/* Castagnoli's polynomial, as RFC 4960 Appendix B uses it, over the header with its own field as
 * zero. */
static uint32_t
proxy_crc32c(const uint8_t *data, size_t len, size_t zero_at)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < len; i++) {
		crc ^= i >= zero_at && i < zero_at + 4 ? 0 : data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1u));
	}
	return ~crc;
}

/* Are the TLVs behind the addresses whole, and is the checksum right? */
static bool
proxy_check_tlvs(const uint8_t *data, size_t at, size_t len)
{
	while (at < len) {
		size_t value_len;
		uint32_t crc;

		if (len - at < 3)
			return false;
		value_len = (size_t)data[at + 1] << 8 | data[at + 2];
		if (value_len > len - at - 3)
			return false;
		if (data[at] == TLV_CRC32C) {
			if (value_len != 4)
				return false;
			memcpy(&crc, data + at + 3, 4);
			if (ntohl(crc) != proxy_crc32c(data, len, at + 3))
				return false;
		}
		at += 3 + value_len;
	}
	return true;
}

static void
proxy_take_ipv4(const uint8_t *addresses, struct sockaddr_storage *peer_r)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	memcpy(&address.sin_addr, addresses, 4);
	memcpy(&address.sin_port, addresses + 8, 2);
	memcpy(peer_r, &address, sizeof(address));
}

static void
proxy_take_ipv6(const uint8_t *addresses, struct sockaddr_storage *peer_r)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6 };

	memcpy(&address.sin6_addr, addresses, 16);
	memcpy(&address.sin6_port, addresses + 32, 2);
	memcpy(peer_r, &address, sizeof(address));
}

static bool
proxy_take_addresses(const uint8_t *data, size_t len, struct proxy_header *header_r)
{
	const uint8_t *addresses = data + PROXY_PREFIX;
	size_t body = len - PROXY_PREFIX, size = 0;

	header_r->is_local = data[12] == COMMAND_LOCAL;
	if (data[13] == FAMILY_TCP4)
		size = 12;
	else if (data[13] == FAMILY_TCP6)
		size = 36;
	else if (!header_r->is_local)
		return false; /* neither datagrams nor UNIX sockets reach a TCP port */
	if (header_r->is_local)
		return true; /* what follows is to be skipped, whatever it is */
	if (body < size)
		return false;
	if (size == 12)
		proxy_take_ipv4(addresses, &header_r->peer);
	else
		proxy_take_ipv6(addresses, &header_r->peer);
	return proxy_check_tlvs(data, PROXY_PREFIX + size, len);
}

enum proxy_result
proxy_parse(const uint8_t *data, size_t len, struct proxy_header *header_r)
{
	size_t total;

	*header_r = (struct proxy_header){ .need = PROXY_PREFIX };
	if (memcmp(data, proxy_signature,
		   len < sizeof(proxy_signature) ? len : sizeof(proxy_signature)) != 0)
		return PROXY_BAD;
	if (len < PROXY_PREFIX)
		return PROXY_MORE;
	if (data[12] != COMMAND_LOCAL && data[12] != COMMAND_PROXY)
		return PROXY_BAD;
	total = PROXY_PREFIX + ((size_t)data[14] << 8 | data[15]);
	if (total > PROXY_MAX || len > total)
		return PROXY_BAD;
	header_r->need = total;
	if (len < total)
		return PROXY_MORE;
	return proxy_take_addresses(data, len, header_r) ? PROXY_OK : PROXY_BAD;
}

bool
proxy_network_parse(struct iris_str text, struct proxy_network *network_r)
{
	const char *slash = text.base ? memchr(text.base, '/', text.len) : NULL;
	struct iris_str address = { text.base, slash ? (size_t)(slash - text.base) : text.len };
	char buf[INET6_ADDRSTRLEN];
	int64_t bits, max;

	*network_r = (struct proxy_network){ .family = AF_INET };
	if (!str_copy_to(buf, sizeof(buf), address))
		return false;
	if (strchr(buf, ':'))
		network_r->family = AF_INET6;
	if (inet_pton(network_r->family, buf, network_r->address) != 1)
		return false;
	max = bits = network_r->family == AF_INET ? 32 : 128;
	if (slash &&
	    !str_to_int((struct iris_str){ slash + 1, text.len - address.len - 1 }, 0, max, &bits))
		return false;
	network_r->bits = (uint8_t)bits;
	return true;
}

bool
proxy_network_has(const struct proxy_network *network, const struct sockaddr *address)
{
	const uint8_t *bytes;
	size_t whole = network->bits / 8;
	unsigned rest = network->bits % 8u;

	if (address->sa_family == AF_INET6) {
		const struct in6_addr *in6 =
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		bytes = in6->s6_addr;
		if (network->family ==
		    AF_INET) { /* a dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d */
			if (!IN6_IS_ADDR_V4MAPPED(in6))
				return false;
			bytes += 12;
		}
	} else if (address->sa_family == AF_INET && network->family == AF_INET) {
		bytes = (const void *)&((const struct sockaddr_in *)(const void *)address)
				->sin_addr;
	} else {
		return false;
	}
	if (memcmp(bytes, network->address, whole) != 0)
		return false;
	return rest == 0 || (bytes[whole] ^ network->address[whole]) >> (8u - rest) == 0;
}
