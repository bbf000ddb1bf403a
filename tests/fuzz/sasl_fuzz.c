/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First messages of clients: SCRAM with its GS2 header, PLAIN, HT; then the names in them.  What is
 * accepted must keep what the callers rely on.
 */
#include "sasl_private.h"
#include "xep/xep0484_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct iris_str domain = { "example.org", 11 };

static void
check_name(struct iris_arena *arena, struct iris_str name, struct iris_str authzid)
{
	struct iris_jid jid;

	if (!sasl_name_to_jid(arena, name, domain, &jid))
		return;
	IRIS_ASSERT(jid_is_bare(&jid) && jid.node_len > 0 && str_equal(jid_domain(&jid), domain));
	IRIS_ASSERT(sasl_authzid_fits(arena, jid_bare(&jid), &jid));
	(void)sasl_authzid_fits(arena, authzid, &jid);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_str message = { (const char *)data, size };
	struct iris_arena *arena = arena_new();
	struct scram_first first;
	struct plain_message plain;
	struct ht_message ht;

	if (scram_parse_first(arena, message, &first)) {
		IRIS_ASSERT(first.flag == 'n' || first.flag == 'y' || first.flag == 'p');
		IRIS_ASSERT((first.flag == 'p') == (first.binding.len > 0));
		IRIS_ASSERT(first.binding.len < SASL_BINDING_NAME_MAX && first.username.len > 0);
		check_name(arena, first.username, first.authzid);
	}
	if (plain_parse(message, &plain)) {
		IRIS_ASSERT(plain.username.len > 0 && plain.password.len > 0);
		check_name(arena, plain.username, plain.authzid);
	}
	if (ht_parse(message, &ht))
		check_name(arena, ht.username, IRIS_STR_NONE);
	arena_unref(&arena);
	return 0;
}
