/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often a key was used.  Records are sealed with random nonces of 96 bits, of which two must
 * not be the same under one key: after 2^32 of them the odds are no longer negligible (NIST SP
 * 800-38D §8.3).  So keys are counted, the counts are written down now and then, and a key that was
 * used half as often is replaced by a new one; it goes on opening what it has sealed.
 * Main thread.  The counting itself is done in vault_seal.c and vault_keys.c.
 */
#include "iris/fiber.h"
#include "iris/log.h"
#include "vault_private.h"

#define USES_MAX (INT64_C(1) << 31)
#define LOOK_MS 60000

static struct iris_timer usage_timer;
static bool usage_looking;

static struct iris_query usage_write = {
	.name = "vault.key_uses",
	.table = "vault_keys",
	.write = true,
	.sql = "UPDATE vault_keys SET uses = $2 WHERE id = $1 AND uses < $2",
	.params = { { "id", IRIS_INT }, { "uses", IRIS_INT } },
};

static void
key_look(uint32_t id, iris_owner owner, int64_t uses)
{
	struct iris_batch *batch = batch_new_own();

	batch_add(batch, &usage_write, VALUES(value_int(id), value_int(uses)));
	if (batch_write(&batch) != IRIS_VAULT_OK || uses < USES_MAX)
		return; /* what could not be written is written with what comes */
	enum iris_vault_result result = vault_owner_rotate(owner);
	if (result == IRIS_VAULT_OK)
		LOG(IRIS_LOG_NOTICE, "vault", "key-replaced", LOG_INT("owner", owner),
		    LOG_INT("key", id), LOG_INT("uses", uses));
}

void
usage_look(void)
{
	iris_owner owner;
	int64_t uses;

	for (uint32_t id = 0; (id = keys_next_used(id, &owner, &uses)) != 0;)
		key_look(id, owner, uses);
}

static void
usage_run(void *arg)
{
	usage_look();
	usage_looking = false;
}

static void
usage_due(void *arg)
{
	if (!usage_looking)
		usage_looking = fiber_start("vault: key usage", usage_run, NULL);
	timer_start(&usage_timer, LOOK_MS, usage_due, NULL);
}

bool
usage_open(struct iris_error *error)
{
	return statement_register(&usage_write, error);
}

void
usage_start(void)
{
	timer_start(&usage_timer, LOOK_MS, usage_due, NULL);
}

void
usage_close(void)
{
	timer_stop(&usage_timer);
}
