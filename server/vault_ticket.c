/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets: see iris/vault.h.  A count that any worker may take down, and whose end is told on the
 * worker that made it.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/fiber.h"
#include "iris/worker.h"
#include "vault_private.h"

struct iris_ticket {
	struct iris_mail mail;
	atomic_uint refs;
	atomic_bool failed;
	struct iris_worker *home;
	void (*done)(void *arg, bool failed);
	void *arg;
};

struct iris_ticket *
ticket_new(void (*done)(void *arg, bool failed), void *arg)
{
	struct iris_ticket *ticket = iris_malloc(sizeof(*ticket));

	*ticket = (struct iris_ticket){ .home = worker_self(), .done = done, .arg = arg };
	atomic_init(&ticket->refs, 1);
	return ticket;
}

struct iris_ticket *
ticket_ref(struct iris_ticket *ticket)
{
	if (ticket)
		atomic_fetch_add_explicit(&ticket->refs, 1, memory_order_relaxed);
	return ticket;
}

void
ticket_fail(struct iris_ticket *ticket)
{
	if (ticket)
		atomic_store_explicit(&ticket->failed, true, memory_order_relaxed);
}

static void
ticket_finish(struct iris_mail *mail)
{
	struct iris_ticket *ticket = IRIS_CONTAINER(mail, struct iris_ticket, mail);

	bool before = transit_begin(false); /* that it is done is no word of it */

	ticket->done(ticket->arg, atomic_load_explicit(&ticket->failed, memory_order_relaxed));
	transit_end(before);
	free(ticket);
}

void
ticket_unref(struct iris_ticket **ticket_p)
{
	struct iris_ticket *ticket = *ticket_p;

	*ticket_p = NULL;
	if (!ticket || atomic_fetch_sub_explicit(&ticket->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (ticket->home && ticket->home != worker_self()) {
		ticket->mail.fn = ticket_finish;
		worker_post(ticket->home, &ticket->mail);
	} else {
		ticket_finish(&ticket->mail);
	}
}
