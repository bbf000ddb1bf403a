/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mailbox: senders push on a stack, the receiver takes all of it and turns it round, which keeps
 * the order of each sender.  One wake-up serves all mail that comes before the receiver looks.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "worker_private.h"

bool
mailbox_open(struct mailbox *box)
{
	atomic_init(&box->newest, NULL);
	box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return box->fd >= 0;
}

void
mailbox_close(struct mailbox *box)
{
	IRIS_ASSERT(atomic_load(&box->newest) == NULL);
	(void)close(box->fd);
	box->fd = -1;
}

/* The receiver waits for the edge and never reads the counter: one system call per batch. */
void
mailbox_wake(struct mailbox *box)
{
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(box->fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	IRIS_ASSERT(n == (ssize_t)sizeof(one));
}

void
mailbox_put(struct mailbox *box, struct iris_mail *mail)
{
	struct iris_mail *newest = atomic_load_explicit(&box->newest, memory_order_relaxed);

	do
		mail->next = newest;
	while (!atomic_compare_exchange_weak_explicit(&box->newest, &newest, mail,
						      memory_order_release, memory_order_relaxed));
	/* `mail` may be gone by now. */
	if (!newest)
		mailbox_wake(box);
}

struct iris_mail *
mailbox_take(struct mailbox *box)
{
	struct iris_mail *mail, *oldest = NULL;

	mail = atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);
	while (mail) {
		struct iris_mail *next = mail->next;

		mail->next = oldest;
		oldest = mail;
		mail = next;
	}
	return oldest;
}
