/* SPDX-License-Identifier: Apache-2.0 */
/* See dns_record.h.  SECURITY: anybody writes what he likes into his own zone. */
#include "dns_record.h"

#define SERVICE_HEAD 6u
#define TLSA_HEAD 3u
#define LABEL_MAX 63u
#define NAME_MAX_BYTES 253u

static uint16_t
read_16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/* What names of hosts are made of (RFC 1123 §2.1), and the underscore of some zones. */
static bool
is_host_char(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* A label of the wire (RFC 1035 §3.1) behind what is there already. */
static bool
add_label(struct iris_strbuf *name, const uint8_t *label, size_t len)
{
	if (name->len > 0)
		strbuf_add_char(name, '.');
	for (size_t i = 0; i < len; i++) {
		uint8_t c = label[i] >= 'A' && label[i] <= 'Z' ? (uint8_t)(label[i] | 0x20) :
								 label[i];

		if (!is_host_char(c))
			return false;
		strbuf_add_char(name, (char)c);
	}
	return name->len <= NAME_MAX_BYTES;
}

static bool
parse_name(struct iris_arena *arena, const uint8_t *bytes, size_t len, struct iris_str *name_r)
{
	struct iris_strbuf name = STRBUF_INIT(arena);
	size_t at = 0;

	while (at < len && bytes[at] != 0) {
		size_t label = bytes[at];

		/* Longer is a pointer, and a resolver resolves those. */
		if (label > LABEL_MAX || label >= len - at ||
		    !add_label(&name, bytes + at + 1, label))
			return false;
		at += 1 + label;
	}
	*name_r = name.len ? strbuf_str(&name) : IRIS_STR("");
	return at + 1 == len;
}

bool
dns_parse_service(struct iris_arena *arena, struct iris_str data,
		  struct iris_dns_service *service_r)
{
	const uint8_t *bytes = (const uint8_t *)data.base;

	if (data.len <= SERVICE_HEAD)
		return false;
	*service_r = (struct iris_dns_service){ .priority = read_16(bytes),
						.weight = read_16(bytes + 2),
						.port = read_16(bytes + 4) };
	return parse_name(arena, bytes + SERVICE_HEAD, data.len - SERVICE_HEAD,
			  &service_r->target) &&
	       (service_r->port > 0 || service_r->target.len == 0);
}

bool
dns_parse_tlsa(struct iris_arena *arena, struct iris_str data, struct iris_dns_tlsa *tlsa_r)
{
	const uint8_t *bytes = (const uint8_t *)data.base;

	if (data.len <= TLSA_HEAD)
		return false;
	*tlsa_r = (struct iris_dns_tlsa){ bytes[0], bytes[1], bytes[2],
					  arena_copy_str(arena, (struct iris_str){
						data.base + TLSA_HEAD, data.len - TLSA_HEAD }) };
	return true;
}

/* Those of weight 0 first, so that they have "a very small chance" before heavier ones. */
static bool
comes_before(const struct iris_dns_service *a, const struct iris_dns_service *b)
{
	return a->priority != b->priority ? a->priority < b->priority : a->weight < b->weight;
}

static void
move_to(struct iris_dns_service *services, size_t from, size_t to)
{
	struct iris_dns_service moved = services[from];

	memmove(&services[to + 1], &services[to], (from - to) * sizeof(*services));
	services[to] = moved;
}

/* Chooses who is tried next among the `count` that are left of one priority. */
static size_t
choose(const struct iris_dns_service *services, size_t count, unsigned (*dice)(unsigned sum))
{
	unsigned sum = 0, thrown, running = 0;
	size_t i = 0;

	for (size_t k = 0; k < count; k++)
		sum += services[k].weight;
	thrown = dice(sum);
	while ((running += services[i].weight) < thrown && i + 1 < count)
		i++;
	return i;
}

/* At most DNS_RECORDS_MAX for each question: sorting by insertion is enough. */
void
dns_order_services(struct iris_dns_service *services, size_t count, unsigned (*dice)(unsigned sum))
{
	for (size_t i = 1; i < count; i++) {
		size_t to = i;

		while (to > 0 && comes_before(&services[i], &services[to - 1]))
			to--;
		move_to(services, i, to);
	}
	for (size_t i = 0; i + 1 < count; i++) {
		size_t equals = 1;

		while (i + equals < count && services[i + equals].priority == services[i].priority)
			equals++;
		move_to(services, i + choose(&services[i], equals, dice), i);
	}
}
