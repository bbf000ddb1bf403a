/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0198 1.6: when <r/> is sent: see xep0198_ask.h.  It does not read answers. */
#include "xep/xep0198_ask.h"

#define ASK_STANZAS 8 /* asked about together when there is much traffic … */
#define ASK_MS 1000   /* … and what fewer remain after so long */
#define GRAIN_MS 50   /* those whose time comes in it are asked in one turn */

/* Those with a few stanzas that they will be asked about, in order of waiting_ms. */
struct line {
	TAILQ_HEAD(waiting, sm_ask) waiting;
	struct iris_timer timer;
};

static struct line lines[WORKER_LIMIT];

static struct line *
line_here(void)
{
	struct line *line = &lines[worker_index()];

	if (!line->waiting.tqh_last)
		TAILQ_INIT(&line->waiting);
	return line;
}

static void
line_leave(struct sm_ask *ask)
{
	struct line *line = line_here();

	if (!ask->is_waiting)
		return;
	ask->is_waiting = false;
	TAILQ_REMOVE(&line->waiting, ask, link);
	if (TAILQ_EMPTY(&line->waiting))
		timer_stop(&line->timer);
}

static void
ask_now(struct sm_ask *ask)
{
	line_leave(ask);
	ask->asked = true;
	ask->unasked = 0;
	ask->asked_ms = worker_now_ms();
	ask->send(ask);
}

static void
line_on_timer(void *arg)
{
	struct line *line = arg;
	int64_t now = worker_now_ms();
	struct sm_ask *first;

	while ((first = TAILQ_FIRST(&line->waiting)) && first->waiting_ms + ASK_MS <= now)
		ask_now(first);
	if (first)
		timer_start(&line->timer, first->waiting_ms + ASK_MS - now + GRAIN_MS,
			    line_on_timer, line);
}

static void
line_join(struct sm_ask *ask)
{
	struct line *line = line_here();

	if (ask->is_waiting)
		return;
	ask->is_waiting = true;
	ask->waiting_ms = worker_now_ms();
	TAILQ_INSERT_TAIL(&line->waiting, ask, link);
	if (!timer_is_running(&line->timer))
		timer_start(&line->timer, ASK_MS + GRAIN_MS, line_on_timer, line);
}

/* One <r/> for all that a turn sent, in the same record, and none while one is under way. */
static void
ask_on_turn(struct iris_turn *turn)
{
	struct sm_ask *ask = IRIS_CONTAINER(turn, struct sm_ask, turn);

	if (ask->asked || ask->unasked == 0)
		return;
	if (ask->unasked >= ASK_STANZAS || worker_now_ms() - ask->asked_ms >= ASK_MS)
		ask_now(ask);
	else
		line_join(ask);
}

void
sm_ask_init(struct sm_ask *ask, void (*send)(struct sm_ask *ask))
{
	*ask = (struct sm_ask){ .send = send, .asked_ms = -ASK_MS, .turn.fn = ask_on_turn };
}

void
sm_ask_sent(struct sm_ask *ask)
{
	ask->unasked++;
	worker_at_turn_end(&ask->turn);
}

void
sm_ask_answered(struct sm_ask *ask)
{
	ask->asked = false;
	if (ask->unasked > 0)
		worker_at_turn_end(&ask->turn);
}

void
sm_ask_cancel(struct sm_ask *ask)
{
	line_leave(ask);
	worker_turn_cancel(&ask->turn);
	ask->asked = false;
	ask->unasked = 0;
	ask->asked_ms = -ASK_MS;
}
