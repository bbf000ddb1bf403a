/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and passwords from any bytes.  Oracle: what was prepared is prepared again to the same,
 * is split the same way without preparing, and made of its own parts.
 */
#include "iris/jid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_prepared(struct iris_arena *arena, const struct iris_jid *jid)
{
	struct iris_jid again;

	IRIS_ASSERT(jid->domain_len > 0 && jid->node_len <= JID_PART_MAX &&
		    jid->resource_len <= JID_PART_MAX);
	IRIS_ASSERT(jid_parse(arena, jid_full(jid), &again));
	IRIS_ASSERT(jid_equal(jid, &again) && jid->domain_len == again.domain_len);
	again = jid_from_prepared(jid_full(jid));
	IRIS_ASSERT(jid_equal(jid, &again) && jid->domain_len == again.domain_len);
	IRIS_ASSERT(jid_make(arena, jid_node(jid), jid_domain(jid), jid_resource(jid), &again));
	IRIS_ASSERT(jid_equal(jid, &again));
	for (size_t i = 0; i < jid->domain_len; i++)
		IRIS_ASSERT(jid_domain(jid).base[i] > ' ' && jid_domain(jid).base[i] < 0x7f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iris_str text = { (const char *)data, size }, prepared, again;
	struct iris_arena *arena = arena_new();
	struct iris_jid jid;

	if (jid_parse(arena, text, &jid))
		check_prepared(arena, &jid);
	if (jid_prepare_new_node(arena, text, &prepared)) {
		IRIS_ASSERT(jid_make(arena, text, IRIS_STR("example.org"), IRIS_STR_NONE, &jid));
		IRIS_ASSERT(str_equal(jid_node(&jid), prepared));
	}
	if (password_prepare(arena, text, &prepared))
		IRIS_ASSERT(password_prepare(arena, prepared, &again) &&
			    str_equal(prepared, again));
	arena_unref(&arena);
	return 0;
}
