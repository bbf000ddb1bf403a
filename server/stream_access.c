/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others ask of a stream and tell it (iris/stream.h): who it is, references, authentication
 * done, bound.  The stream's worker.
 */
#include <stdlib.h>

#include <unistd.h>

#include "im_private.h"
#include "iris/dial.h"
#include "stream_private.h"
#include "worker_private.h"

#define CLOSE_POLL_MS 10
#define CUT_TIMEOUT_MS 1000

enum iris_stream_state
stream_state(const struct iris_stream *stream)
{
	return stream->state;
}

const struct iris_stream_role *
stream_role(const struct iris_stream *stream)
{
	return stream->role;
}

struct iris_host *
stream_host(const struct iris_stream *stream)
{
	return stream->host;
}

struct iris_str
stream_lang(const struct iris_stream *stream)
{
	return stream->lang[0] ? str_from(stream->lang) : IRIS_STR_NONE;
}

struct iris_str
stream_id(const struct iris_stream *stream)
{
	return str_from(stream->initiator ? stream->initiator->id : stream->id);
}

struct iris_str
stream_peer_address(const struct iris_stream *stream)
{
	return stream->carrier ? str_from(carrier_peer(stream->carrier)) : IRIS_STR_NONE;
}

bool
stream_is_secure(const struct iris_stream *stream)
{
	return stream->carrier && carrier_is_secure(stream->carrier);
}

const struct iris_jid *
stream_jid(const struct iris_stream *stream)
{
	return jid_is_none(&stream->jid) ? NULL : &stream->jid;
}

const struct iris_account *
stream_account(const struct iris_stream *stream)
{
	return stream->account.id ? &stream->account : NULL;
}

struct iris_session *
stream_session(const struct iris_stream *stream)
{
	return stream->session;
}

struct iris_jid
stream_claimed_jid(const struct iris_stream *stream)
{
	return stream->claimed ? jid_from_prepared(str_from(stream->claimed)) : IRIS_JID_NONE;
}

/* The connection that this stream has for itself, or NULL: no TLS, or several connections. */
static SSL *
stream_ssl(const struct iris_stream *stream)
{
	return stream_is_secure(stream) ? carrier_ssl(stream->carrier) : NULL;
}

void *
stream_peer_certificate(const struct iris_stream *stream)
{
	SSL *ssl = stream_ssl(stream);

	return ssl ? tls_peer_certificate(ssl) : NULL;
}

const char *
stream_tls_version(const struct iris_stream *stream)
{
	SSL *ssl = stream_ssl(stream);

	return ssl ? SSL_get_version(ssl) : "";
}

bool
stream_proves(const struct iris_stream *stream, struct iris_str domain)
{
	SSL *ssl = stream_ssl(stream);

	return ssl && tls_proves_domain(ssl, domain);
}

bool
stream_is_pinned(const struct iris_stream *stream)
{
	SSL *ssl = stream_ssl(stream);

	return ssl && tls_is_pinned(ssl);
}

bool
stream_region(const struct iris_stream *stream, struct iris_arena *arena, struct iris_str *id_r)
{
	SSL *ssl = stream_ssl(stream);

	*id_r = IRIS_STR_NONE;
	return !ssl || tls_region(ssl, arena, id_r);
}

bool
stream_is_under(const struct iris_stream *stream, const char *fingerprint)
{
	SSL *ssl = stream_ssl(stream);

	return ssl && tls_is_under(ssl, fingerprint);
}

bool
stream_is_initiated(const struct iris_stream *stream)
{
	return stream->initiator != NULL;
}

const char *
stream_peer_error(const struct iris_stream *stream)
{
	return stream->peer_error;
}

void **
stream_slot(struct iris_stream *stream, const struct iris_module_self *self)
{
	return slots_get(&stream->slots, self->index);
}

/*
 * Scripts in browsers come by framed carriers and cannot see their TLS; libraries among them take a
 * mechanism that ends in -PLUS where it is offered, and fail.
 */
static SSL *
stream_bindable_ssl(const struct iris_stream *stream)
{
	SSL *ssl = stream_ssl(stream);

	return ssl && !stream->carrier->ops->framed ? ssl : NULL;
}

bool
stream_channel_binding(struct iris_stream *stream, const char *type, struct iris_arena *arena,
		       struct iris_str *data_r)
{
	SSL *ssl = stream_bindable_ssl(stream);

	return ssl && tls_channel_binding(ssl, type, arena, data_r);
}

const char *const *
stream_channel_bindings(struct iris_stream *stream)
{
	static const char *const none[] = { NULL };
	SSL *ssl = stream_bindable_ssl(stream);

	return ssl ? tls_channel_bindings(ssl) : none;
}

/* --- references --- */

void
stream_ref(struct iris_stream *stream)
{
	IRIS_ASSERT(stream->home == worker_index() && stream->refs > 0);
	stream->refs++;
}

void
stream_unref(struct iris_stream **stream_p)
{
	struct iris_stream *stream = *stream_p;

	if (!stream)
		return;
	*stream_p = NULL;
	IRIS_ASSERT(stream->home == worker_index() && stream->refs > 0);
	if (--stream->refs > 0)
		return;
	IRIS_ASSERT(stream->finished && !stream->arrival && !stream->carrier);
	xml_parser_free(&stream->parser);
	free((char *)(uintptr_t)stream->jid.base);
	free(stream->claimed);
	stream_initiator_free(&stream->initiator);
	free(stream);
}

/* --- who it becomes --- */

static void
stream_set_jid(struct iris_stream *stream, const struct iris_jid *jid)
{
	struct iris_str bare = jid_bare(jid);

	stream->jid = *jid;
	stream->jid.base = str_dup(bare);
	stream->jid.resource_len = 0;
	free(stream->claimed);
	stream->claimed = NULL;
}

/*
 * The move itself waits for the end of the turn, when neither the caller nor the connection's read
 * loop is on the stack any more.
 */
void
stream_authenticated(struct iris_stream *stream, const struct iris_jid *jid, bool restart,
		     void (*next)(struct iris_stream *stream, void *arg), void *arg)
{
	struct stream_arrival *arrival;

	IRIS_ASSERT(fiber_self() && !stream->arrival);
	if (stream->state != IRIS_STREAM_UNAUTHENTICATED) {
		next(stream, arg); /* it ended meanwhile: nothing will be sent, but arg is freed */
		return;
	}
	stream_set_jid(stream, jid);
	carrier_admit(stream->carrier);
	carrier_pause(stream->carrier, true);
	if (restart) {
		xml_parser_restart(stream->parser);
		stream->header_sent = false;
	}
	stream_set_limits(stream);
	stream_move_to_state(stream, restart ? IRIS_STREAM_HEADER : IRIS_STREAM_AUTHENTICATED);
	arrival = iris_calloc(1, sizeof(*arrival));
	arrival->next = next;
	arrival->arg = arg;
	stream->arrival = arrival;
	stream_touch(stream);
}

void
stream_set_session(struct iris_stream *stream, struct iris_session *session)
{
	IRIS_ASSERT(stream->home == worker_index());
	stream->session = session;
	if (session && stream->state == IRIS_STREAM_AUTHENTICATED)
		stream_move_to_state(stream, IRIS_STREAM_BOUND);
}

void
stream_set_bound(struct iris_stream *stream)
{
	if (stream->state >= IRIS_STREAM_BOUND)
		return;
	stream_move_to_state(stream, IRIS_STREAM_BOUND);
	carrier_admit(stream->carrier);
	stream_set_limits(stream);
}

void
stream_set_counting(struct iris_stream *stream, bool counting)
{
	stream->counting = counting;
}

/* --- all streams: main thread --- */

size_t
stream_count(void)
{
	return streams_here()->count;
}

static void
streams_count_here(void *arg)
{
	atomic_fetch_add((atomic_size_t *)arg, stream_count());
}

/* Each stream of the worker, in any state; fn may move it to another list. */
static void
streams_each_here(void (*fn)(struct iris_stream *stream, const char *reason), const char *reason)
{
	for (int i = 0; i < STREAM_LISTS; i++) {
		struct iris_stream *stream = TAILQ_FIRST(&streams_here()->lists[i]), *next;

		for (; stream; stream = next) {
			next = TAILQ_NEXT(stream, link);
			fn(stream, reason);
		}
	}
}

/* §4.9.3.4: the domain was taken out of the configuration. */
static void
stream_check_host(struct iris_stream *stream, const char *condition)
{
	if (stream->host && host_find(stream->host->name) != stream->host)
		stream_error(stream, condition, NULL);
}

static void
streams_check_hosts_here(void *arg)
{
	streams_each_here(stream_check_host, "host-gone");
}

void
streams_check_hosts(void)
{
	workers_each(streams_check_hosts_here, NULL);
}

static void
stream_send_away(struct iris_stream *stream, const char *condition)
{
	stream_error(stream, condition, NULL);
}

static void
streams_close_here(void *arg)
{
	streams_here()->closing = arg;
	streams_each_here(stream_send_away, arg);
}

static void
streams_cut_here(void *arg)
{
	streams_each_here(stream_cut, "shutting down");
}

static bool
streams_wait_for_none(unsigned timeout_ms)
{
	for (unsigned waited = 0;; waited += CLOSE_POLL_MS) {
		atomic_size_t count = 0;

		workers_each(streams_count_here, &count);
		if (atomic_load(&count) == 0)
			return true;
		if (waited >= timeout_ms)
			return false;
		usleep(CLOSE_POLL_MS * 1000);
	}
}

void
streams_close_all(const char *condition, unsigned timeout_ms)
{
	workers_each(streams_close_here, (void *)(uintptr_t)condition);
	if (streams_wait_for_none(timeout_ms))
		return;
	workers_each(streams_cut_here, NULL);
	(void)streams_wait_for_none(CUT_TIMEOUT_MS);
}

size_t
stream_stanza_limit(const struct iris_stream *stream)
{
	bool known = !jid_is_none(&stream->jid) || stream->state == IRIS_STREAM_BOUND;

	if (!known)
		return (size_t)stream_option(STREAM_OPT_STANZA_SIZE_BEFORE);
	return (size_t)stream_option(stream->role->between_servers ?
					     STREAM_OPT_SERVER_STANZA_SIZE :
					     STREAM_OPT_STANZA_SIZE);
}

int64_t
stream_idle_limit_ms(const struct iris_stream *stream)
{
	return stream_option(STREAM_OPT_IDLE);
}
