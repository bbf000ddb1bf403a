/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a client is asked what it has got (XEP-0198 §4: <r/>).  An answer costs the client's
 * radio, and us, more than a stanza: who is sent a lot is asked about several at once, who is
 * sent little with each. Home worker of the session.
 */
#ifndef XEP0198_ASK_H
#define XEP0198_ASK_H

#include <sys/queue.h>

#include "iris/worker.h"

/* Part of a session's state; cancelled before it goes (sm_ask_cancel). */
struct sm_ask {
	void (*send)(struct sm_ask *ask); /* writes the <r/> */
	bool asked;                       /* it has not been answered */
	unsigned unasked;                 /* stanzas sent since */
	int64_t asked_ms;
	TAILQ_ENTRY(sm_ask) link;         /* while is_waiting */
	int64_t waiting_ms;
	bool is_waiting;
	struct iris_turn turn;
};

void sm_ask_init(struct sm_ask *ask, void (*send)(struct sm_ask *ask));
void sm_ask_sent(struct sm_ask *ask);     /* a stanza was written */
void sm_ask_answered(struct sm_ask *ask);
/* nobody is there to be asked; the next stanza starts anew */
void sm_ask_cancel(struct sm_ask *ask);

#endif
