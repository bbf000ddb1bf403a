/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of streams for tests: the engine with hosts, TLS and listeners, and a role of its own
 * that needs no accounts but those made up here. Elements of urn:test drive it: <go user='romeo'
 * [restart='1']/>  signs in, answered at home by <gone home='INDEX'/> <where/> is answered by <here
 * worker='INDEX'/> <nap/>                            the fiber sleeps for a moment <fail/> a stream
 * error of the server's Stanzas come back to the client with the worker that saw them.
 */
#ifndef TESTS_STREAM_COMMON_H
#define TESTS_STREAM_COMMON_H

#include <stdatomic.h>

#include "iris/auth.h"
#include "module_private.h"
#include "stream_private.h"
#include "tls_common.h"
#include "worker_common.h"

#define TEST_HOST "test.example"
#define TEST_NS "urn:test"

static struct {
	atomic_uint opened, stanzas, orderly, lost, closed, wrong_home;
	SSL_CTX *client; /* of clients: TLS 1.2 and up, proves nothing */
	SSL_CTX *client_alpn;
} test;

static inline void
test_send(struct iris_stream *stream, const char *name, const char *attribute,
	  struct iris_str value)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *element = element_new(arena, name, TEST_NS);

	if (attribute)
		element_set(element, attribute, value);
	stream_send(stream, element);
	arena_unref(&arena);
}

static void
test_opened(struct iris_stream *stream, const struct iris_element *header)
{
	atomic_fetch_add(&test.opened, 1);
	if (stream_state(stream) == IRIS_STREAM_AUTHENTICATED)
		stream_set_bound(stream);
	stream_send_features(stream);
}

static void
test_stanza(struct iris_stream *stream, struct iris_stanza **stanza_p, struct iris_ticket *ticket)
{
	struct iris_delivery delivery = { .stanza = *stanza_p };
	char worker[16];

	atomic_fetch_add(&test.stanzas, 1);
	if (home_of(jid_bare(stream_jid(stream))) != worker_self())
		atomic_fetch_add(&test.wrong_home, 1);
	snprintf(worker, sizeof(worker), "%d", worker_index());
	element_add_text((*stanza_p)->root, "seen", TEST_NS, str_from(worker));
	stanza_freeze(*stanza_p);
	stream_send_delivery(stream, &delivery);
	stanza_unref(stanza_p);
}

static void
test_ended(struct iris_stream *stream, bool orderly)
{
	atomic_fetch_add(orderly ? &test.orderly : &test.lost, 1);
}

static const struct iris_stream_role test_role = {
	.name = "test",
	.ns = NS_CLIENT,
	.alpn = "xmpp-client",
	.plain_on_loopback = true,
	.opened = test_opened,
	.stanza = test_stanza,
	.ended = test_ended,
};
static const struct iris_stream_role *const test_roles[] = { &test_role, NULL };

struct test_go {
	bool restart;
};

static void
test_gone(struct iris_stream *stream, void *arg)
{
	struct test_go *go = arg;
	char home[16];

	snprintf(home, sizeof(home), "%d", worker_index());
	test_send(stream, "gone", "home", str_from(home));
	if (!go->restart && stream_state(stream) == IRIS_STREAM_AUTHENTICATED)
		stream_set_bound(stream);
	free(go);
}

static void
test_handle_go(struct iris_stream *stream, struct iris_element *element)
{
	struct test_go *go = calloc(1, sizeof(*go));
	struct iris_jid jid;

	go->restart = !str_is_none(element_get(element, "restart"));
	assert_true(jid_make(element->arena, element_get(element, "user"),
			     stream_host(stream)->name, IRIS_STR_NONE, &jid));
	stream_authenticated(stream, &jid, go->restart, test_gone, go);
}

static void
test_handle_where(struct iris_stream *stream, struct iris_element *element)
{
	test_send(stream, "here", "worker", arena_printf(element->arena, "%d", worker_index()));
}

static void
test_handle_nap(struct iris_stream *stream, struct iris_element *element)
{
	if (fiber_sleep(20))
		test_send(stream, "rested", NULL, IRIS_STR_NONE);
}

static void
test_handle_fail(struct iris_stream *stream, struct iris_element *element)
{
	stream_error(stream, "internal-server-error", "asked <to>");
}

#define TEST_ANY ((1u << IRIS_STREAM_UNAUTHENTICATED) | (1u << IRIS_STREAM_BOUND))

static const struct iris_stream_handler test_elements[] = {
	{ "go", TEST_NS, 1u << IRIS_STREAM_UNAUTHENTICATED, test_handle_go },
	{ "where", TEST_NS, TEST_ANY, test_handle_where },
	{ "nap", TEST_NS, TEST_ANY, test_handle_nap },
	{ "fail", TEST_NS, TEST_ANY, test_handle_fail },
	{ .name = NULL },
};

/* Anybody has an account, but for those whose names say otherwise. */
static bool
test_find_account(const struct iris_jid *jid, struct iris_account *account_r)
{
	*account_r =
		(struct iris_account){ .id = str_is(jid_node(jid), "nobody") ? 0 : 1, .owner = 1 };
	account_r->locked = str_is(jid_node(jid), "locked");
	return !str_is(jid_node(jid), "broken");
}

static const struct iris_accounts test_accounts = { .find = test_find_account };

static enum iris_verdict
test_stream_close(struct iris_stream *stream)
{
	atomic_fetch_add(&test.closed, 1);
	return IRIS_PASS;
}

static const struct iris_hook_handler test_hooks[] = {
	HOOK(stream_close, IRIS_NEUTRAL, test_stream_close),
	HOOKS_END,
};

static struct iris_module_self test_self;
static const struct iris_module test_module = {
	IRIS_MODULE_HEAD,
	.name = "test",
	.summary = "The role of the tests",
	.self = &test_self,
	.elements = test_elements,
	.hooks = test_hooks,
	.accounts = &test_accounts,
	.roles = test_roles,
};

extern const struct iris_module iris_module_tls, iris_module_hosts, iris_module_stream,
	iris_module_listen, iris_module_user;

/* The file: what every test needs, and `more`. Listener 0: STARTTLS, 1: direct TLS, 2: in the
 * clear. */
static inline void
test_write_configuration(const char *second_host, const char *more)
{
	char path[256];
	FILE *file = fopen(tls_path(path, "test.yaml"), "w");

	assert_non_null(file);
	fprintf(file,
		"hosts:\n  domains:\n"
		"    - {name: " TEST_HOST ", certificate: one.crt, key: one.key}\n"
		"    - {name: %s, certificate: two.crt, key: two.key}\n%s",
		second_host, more);
	fclose(file);
}

static inline void
test_configure(const char *more)
{
	static const struct iris_module *const linked[] = {
		&iris_module_tls,
		&iris_module_hosts,
		&iris_module_stream,
		&iris_module_listen,
		&iris_module_user,
		&test_module,
		NULL,
	};
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config;
	struct iris_error error;
	char path[256];

	test_write_configuration("other.example", more);
	config = config_load(tls_path(path, "test.yaml"), &report);
	if (!config || !modules_select(linked, &config, &report))
		report_write(&report, stderr);
	assert_int_equal(report.error_count, 0);
	if (!modules_start(&error))
		fail_msg("%s (%s)", error.message, error.detail);
}

static inline int
test_set_alpn(SSL_CTX *context, const char *protocol)
{
	unsigned char list[32] = { (unsigned char)strlen(protocol) };

	memcpy(list + 1, protocol, strlen(protocol));
	return SSL_CTX_set_alpn_protos(context, list, (unsigned)strlen(protocol) + 1);
}

static inline int
test_start_server(unsigned workers, const char *more)
{
	struct iris_error error;

	tls_make_dir();
	tls_make_identity("one", 86400 * 90);
	tls_make_identity("two", 86400 * 90);
	tls_make_identity("client", 86400 * 90);
	test.client = SSL_CTX_new(TLS_client_method());
	test.client_alpn = SSL_CTX_new(TLS_client_method());
	test_set_alpn(test.client_alpn, "xmpp-client");
	worker_main_init();
	log_set_level(IRIS_LOG_ERROR);
	test_configure(more);
	assert_true(pool_start(1, &error));
	assert_true(workers_start(workers, &error));
	if (!listen_open(&error))
		fail_msg("%s (%s)", error.message, error.detail);
	listen_start();
	return 0;
}

static inline int
test_stop_server(void)
{
	listen_close();
	streams_close_all("system-shutdown", 2000);
	workers_stop();
	pool_stop();
	modules_stop();
	worker_main_free();
	SSL_CTX_free(test.client);
	SSL_CTX_free(test.client_alpn);
	tls_remove_dir();
	return 0;
}

#define TEST_LISTENERS                                                     \
	"listen:\n  listeners:\n"                                          \
	"    - {address: 127.0.0.1, port: 0, role: test, tls: starttls}\n" \
	"    - {address: 127.0.0.1, port: 0, role: test, tls: direct}\n"   \
	"    - {address: 127.0.0.1, port: 0, role: test, tls: none}\n"

enum { TEST_STARTTLS, TEST_DIRECT, TEST_PLAIN };

#define TEST_HEADER                                                                          \
	"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM \
	"' to='" TEST_HOST "' version='1.0'>"

static inline struct client *
test_connect(unsigned listener)
{
	struct client *client = client_connect("127.0.0.1", listen_at(listener)->port);

	if (listener == TEST_DIRECT)
		assert_int_equal(client_try_tls(client, test.client_alpn, TEST_HOST), 1);
	return client;
}

/* A stream that waits for authentication. */
static inline struct client *
test_open(unsigned listener)
{
	struct client *client = test_connect(listener);

	client_send(client, TEST_HEADER);
	client_expect(client, "</stream:features>");
	return client;
}

/* A stream that takes stanzas. */
static inline struct client *
test_sign_in(unsigned listener, const char *user)
{
	struct client *client = test_open(listener);
	char go[128];

	snprintf(go, sizeof(go), "<go xmlns='" TEST_NS "' user='%s'/>", user);
	client_send(client, go);
	client_expect(client, "<gone");
	return client;
}

/* Waits for what happens on a worker, which tells nobody. */
#define TEST_EVENTUALLY(condition)                                \
	do {                                                      \
		for (int i_ = 0; i_ < 1000 && !(condition); i_++) \
			usleep(5000);                             \
		assert_true(condition);                           \
	} while (0)

static void
test_count_streams(void *arg)
{
	atomic_fetch_add((atomic_size_t *)arg, stream_count());
}

static inline size_t
test_streams(void)
{
	atomic_size_t count = 0;

	workers_each(test_count_streams, &count);
	return count;
}

/* What clients of earlier tests left behind is gone. */
static inline void
test_await_no_streams(void)
{
	TEST_EVENTUALLY(test_streams() == 0);
}

#endif
