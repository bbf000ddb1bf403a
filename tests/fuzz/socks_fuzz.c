/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0065's connections, on carriers of our own: what four of them send, in what pieces, who
 * reads and who does not, who goes, and which address is activated.  Each byte is a step, those
 * behind it its choices.  Oracle: nothing but answers is sent before something was activated, and
 * who does not read is not sent more than a window.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "harness.h"
#include "worker_private.h"
#include "xep/xep0065_socks.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PARTIES 4
#define ADDRESSES 2
#define STEPS_MAX 64
#define CHUNK 16384
#define PENDING_MAX (65536 + CHUNK)

struct party_carrier {
	struct iris_carrier carrier;
	bool open, paused, finished;
	size_t pending;
};

static struct {
	struct party_carrier parties[PARTIES];
	char addresses[ADDRESSES][SOCKS_ADDRESS_LEN + 1]; /* at home on the first worker */
	bool activated;
} stage;

/* --- carriers --- */

static struct party_carrier *
party_of(const struct iris_carrier *carrier)
{
	return IRIS_CONTAINER(carrier, struct party_carrier, carrier);
}

static void
on_send(struct iris_carrier *carrier, enum iris_unit unit, struct iris_str bytes)
{
	struct party_carrier *party = party_of(carrier);

	IRIS_ASSERT(unit == IRIS_UNIT_BYTES);
	IRIS_ASSERT(stage.activated || bytes.len <= 5 + SOCKS_ADDRESS_LEN + 2);
	if (!party->finished)
		party->pending += bytes.len;
	IRIS_ASSERT(party->pending <= PENDING_MAX + 512);
}

static size_t
on_pending(const struct iris_carrier *carrier)
{
	return party_of(carrier)->pending;
}

static void
on_pause(struct iris_carrier *carrier, bool paused)
{
	party_of(carrier)->paused = paused;
}

static void
on_finish(struct iris_carrier *carrier)
{
	party_of(carrier)->finished = true;
}

static void
on_free(struct iris_carrier *carrier)
{
	party_of(carrier)->open = false;
}

static void
on_admit(struct iris_carrier *carrier)
{
	IRIS_ASSERT(party_of(carrier)->open);
}

static const struct iris_carrier_ops ops = {
	.name = "fuzz",
	.send = on_send,
	.pending = on_pending,
	.pause = on_pause,
	.finish = on_finish,
	.free = on_free,
	.admit = on_admit,
};

/* --- steps: on the first worker, the end of the turn between them --- */

static void
party_feed(struct party_carrier *party, const char *bytes, size_t len)
{
	if (party->open && !party->paused && !party->finished && len > 0)
		party->carrier.handler->input(party->carrier.owner, bytes, len);
}

static void
step_handshake(struct bytes *bytes, struct party_carrier *party)
{
	const char *address = stage.addresses[bytes_choose(bytes, ADDRESSES)];
	char request[10 + SOCKS_ADDRESS_LEN] = "\5\1\0\5\1\0\3\50";
	size_t cut = bytes_choose(bytes, sizeof(request) + 1), change = bytes_take(bytes);

	memcpy(request + 8, address, SOCKS_ADDRESS_LEN);
	/* Another address may be at home with the other worker. */
	if (change < 8 || (change >= 8 + SOCKS_ADDRESS_LEN && change < sizeof(request)))
		request[change] = (char)bytes_take(bytes);
	party_feed(party, request, cut);
	party_feed(party, request + cut, sizeof(request) - cut);
}

static void
step_bytes(struct bytes *bytes, struct party_carrier *party, bool few)
{
	static char many[CHUNK];
	size_t len = few ? bytes_take(bytes) & 31 : CHUNK;

	for (size_t i = 0; few && i < len; i++)
		many[i] = (char)bytes_take(bytes);
	party_feed(party, many, len);
}

static void
party_end(struct party_carrier *party)
{
	if (party->open)
		party->carrier.handler->ended(party->carrier.owner, "fuzz");
	IRIS_ASSERT(!party->open);
}

static void
party_begin(struct party_carrier *party)
{
	if (party->open)
		return;
	*party = (struct party_carrier){ .carrier.ops = &ops, .open = true };
	socks_take(&party->carrier);
}

static void
step(struct bytes *bytes)
{
	uint8_t byte = bytes_take(bytes);
	struct party_carrier *party = &stage.parties[(byte >> 4) % PARTIES];

	switch (byte & 7) {
	case 0: party_begin(party); break;
	case 1: party_begin(party); step_handshake(bytes, party); break;
	case 2: step_bytes(bytes, party, true); break;
	case 3: step_bytes(bytes, party, false); break;
	case 4:
		party->pending = 0;
		if (party->open)
			party->carrier.handler->drained(party->carrier.owner);
		break;
	case 5: party_end(party); break;
	default:
		if (socks_activate(str_from(stage.addresses[bytes_choose(bytes, ADDRESSES)])) ==
		    SOCKS_ACTIVE)
			stage.activated = true;
		break;
	}
}

/* --- the worker --- */

struct job {
	struct iris_mail mail;
	struct bytes *bytes; /* NULL: all of them end */
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool done;
};

static void
job_arrives(struct iris_mail *mail)
{
	struct job *job = IRIS_CONTAINER(mail, struct job, mail);

	if (job->bytes)
		step(job->bytes);
	for (size_t i = 0; !job->bytes && i < PARTIES; i++)
		party_end(&stage.parties[i]);
	pthread_mutex_lock(&job->lock);
	job->done = true;
	pthread_cond_signal(&job->news);
	pthread_mutex_unlock(&job->lock);
}

static void
job_do(struct bytes *bytes)
{
	struct job job = { .mail.fn = job_arrives, .bytes = bytes,
			   .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER };

	worker_post(worker_at(0), &job.mail);
	pthread_mutex_lock(&job.lock);
	while (!job.done)
		pthread_cond_wait(&job.news, &job.lock);
	pthread_mutex_unlock(&job.lock);
}

static void
find_addresses(void)
{
	unsigned found = 0;

	for (unsigned i = 0; found < ADDRESSES; i++) {
		snprintf(stage.addresses[found], sizeof(stage.addresses[found]), "%040x", i);
		found += home_of(str_from(stage.addresses[found])) == worker_at(0);
	}
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	harness_start();
	find_addresses();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };

	stage.activated = false;
	for (unsigned i = 0; i < STEPS_MAX && bytes.at < bytes.end; i++)
		job_do(&bytes);
	job_do(NULL);
	return 0;
}
