/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parcels: one stanza for another server, in memory, and what the vault does with its row.  Home
 * worker of the remote.  Which lists it lies in is route.c's.
 */
#include <stdlib.h>

#include "modules/federation/outbox.h"
#include "modules/federation/parcel.h"

/* --- errors to senders --- */

/* Presence to all contacts, and probes: the absence of their servers is no news to the client. */
static bool
may_be_returned(const struct iris_delivery *delivery)
{
	const struct iris_stanza *stanza = delivery->stanza;

	return stanza->kind != IRIS_PRESENCE ||
	       (jid_is_none(&delivery->to) && stanza->type != IRIS_PROBE);
}

struct returned {
	struct iris_mail mail;
	struct iris_stanza *error;
};

static void
returned_arrives(struct iris_mail *mail)
{
	struct returned *returned = IRIS_CONTAINER(mail, struct returned, mail);

	route_stanza(&returned->error, NULL);
	free(returned);
}

/* From the loop: who hears of it may send again, into what is being walked here. */
void
return_to_sender(const struct iris_delivery *delivery, enum iris_condition condition)
{
	struct iris_stanza *error = NULL;
	struct returned *returned;

	federation_count(METRIC_RETURNED, 1);
	if (may_be_returned(delivery))
		error = stanza_error(delivery->stanza,
				     &(struct iris_refusal){ .condition = condition });
	if (!error)
		return;
	if (!jid_is_none(&delivery->to))
		stanza_set_from(error, &delivery->to);
	returned = iris_calloc(1, sizeof(*returned));
	returned->mail.fn = returned_arrives;
	returned->error = error;
	worker_post(worker_self(), &returned->mail);
}

/* --- life --- */

struct parcel *
parcel_new(const struct iris_delivery *delivery)
{
	size_t text = delivery_text(delivery);
	struct parcel *parcel = iris_calloc(1, sizeof(*parcel) + text);

	delivery_keep(&parcel->delivery, delivery, parcel->text);
	parcel->until_ms = worker_now_ms() + option_int(&federation_self, OPT_EXPIRY);
	parcel->size = sizeof(*parcel) + text + arena_size(delivery->stanza->arena);
	return parcel;
}

struct parcel *
parcel_new_from_row(struct iris_stanza *stanza, int64_t id, int64_t until_ms)
{
	struct parcel *parcel = parcel_new(&(struct iris_delivery){ .stanza = stanza });

	parcel->row = id;
	parcel->until_ms = until_ms;
	parcel->is_committed = true;
	return parcel;
}

struct parcel *
parcel_new_husk(void)
{
	return iris_calloc(1, sizeof(struct parcel));
}

void
parcel_free(struct parcel **parcel_p)
{
	struct parcel *parcel = *parcel_p;

	*parcel_p = NULL;
	if (parcel->delivery.stanza)
		delivery_let_go(&parcel->delivery);
	free(parcel);
}

bool
parcel_may_be_handed(const struct parcel *parcel)
{
	return parcel->row == 0 || parcel->is_committed;
}

bool
parcel_is_expired(const struct parcel *parcel)
{
	return parcel->until_ms <= (parcel->row ? worker_wall_ms() : worker_now_ms());
}

/* --- rows --- */

/* P7.2: a client that counts hears nothing of it, and sends it once more; others get an error. */
static void
parcel_on_commit(void *arg, bool failed)
{
	struct parcel *parcel = arg;

	if (parcel->row == 0)
		return; /* it was not taken */
	parcel->is_committed = true;
	if (failed && parcel->sender)
		ticket_fail(parcel->sender);
	else if (failed)
		return_to_sender(&parcel->delivery, IRIS_INTERNAL_SERVER_ERROR);
	ticket_unref(&parcel->sender);
	if (parcel->route)
		route_committed(parcel, failed);
	else
		parcel_free(&parcel);
}

enum iris_vault_result
parcel_keep(struct parcel *parcel, const struct route *route, struct iris_ticket *ticket)
{
	const struct outbox_route place = { route_remote(route), route_local(route) };
	struct iris_ticket *own = ticket_new(parcel_on_commit, parcel);
	int64_t perishes_ms = parcel->until_ms;
	enum iris_vault_result result;

	parcel->row = vault_next_id(IRIS_SEQ_LOG);
	parcel->until_ms =
		worker_wall_ms() + option_int(&federation_self, OPT_OUTBOX_EXPIRY);
	result = outbox_add(&place, parcel->row, parcel->until_ms, &parcel->delivery, own);
	if (result == IRIS_VAULT_OK) {
		parcel->sender = ticket_ref(ticket);
		federation_count(METRIC_KEPT, 1);
	} else {
		parcel->row = 0;
		parcel->until_ms = perishes_ms;
	}
	ticket_unref(&own);
	return result;
}

static void
parcel_on_removal(void *arg, bool failed)
{
	struct parcel *parcel = arg;

	if (parcel->refusal == IRIS_NO_ERROR)
		return; /* it was not taken */
	return_to_sender(&parcel->delivery, parcel->refusal);
	parcel_free(&parcel);
}

bool
parcel_remove_row(struct parcel *parcel, enum iris_condition condition)
{
	struct iris_ticket *ticket;
	bool done;

	if (!parcel->is_committed)
		return false;
	ticket = ticket_new(parcel_on_removal, parcel);
	done = outbox_remove(parcel->row, ticket) == IRIS_VAULT_OK;
	parcel->refusal = done ? condition : IRIS_NO_ERROR;
	ticket_unref(&ticket);
	return done;
}
