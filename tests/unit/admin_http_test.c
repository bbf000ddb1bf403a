/* SPDX-License-Identifier: Apache-2.0 */
/* server/admin_http.c: what a client sees on the wire. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin_http.h"
#include "worker_common.h"

static int
setup(void **state)
{
	struct iris_error error;

	return setup_workers(0) == 0 && admin_http_start("127.0.0.1", 0, &error) ? 0 : -1;
}

static int
teardown(void **state)
{
	admin_http_stop();
	admin_http_set_ready_check(NULL);
	return teardown_workers(state);
}

/* --- a client on a thread of its own --- */

struct exchange {
	unsigned port;
	const char *request;
	char reply[8192];
	pthread_t thread;
};

static void *
client(void *arg)
{
	struct exchange *exchange = arg;
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)exchange->port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0;
	ssize_t n;

	IRIS_ASSERT(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	IRIS_ASSERT(write(fd, exchange->request, strlen(exchange->request)) > 0);
	while ((n = read(fd, exchange->reply + len, sizeof(exchange->reply) - 1 - len)) > 0)
		len += (size_t)n;
	exchange->reply[len] = '\0';
	(void)close(fd);
	worker_main_quit();
	return NULL;
}

static char *
ask(struct exchange *exchange, const char *request)
{
	exchange->port = admin_http_port();
	exchange->request = request;
	assert_int_equal(pthread_create(&exchange->thread, NULL, client, exchange), 0);
	worker_run_main();
	assert_int_equal(pthread_join(exchange->thread, NULL), 0);
	return exchange->reply;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

static void
begins(const char *reply, const char *status)
{
	if (strncmp(reply, status, strlen(status)) != 0)
		print_error("%s\n", reply);
	assert_int_equal(strncmp(reply, status, strlen(status)), 0);
}

static void
ends(const char *reply, const char *tail)
{
	assert_true(strlen(reply) >= strlen(tail));
	assert_string_equal(reply + strlen(reply) - strlen(tail), tail);
}

static struct iris_metric metric = { "iris_test_total", NULL, IRIS_COUNTER, "A test.", 0 };

static void
test_metrics(void **state)
{
	static struct exchange exchange;
	const char *reply;

	metrics_register(&metric, 1);
	metric_add(&metric, 3);
	reply = ask(&exchange, GET("/metrics"));
	begins(reply, "HTTP/1.1 200 ");
	assert_non_null(strstr(reply, "Content-Type: text/plain; version=0.0.4"));
	assert_non_null(strstr(reply, "\niris_test_total 3\n"));
	assert_null(strstr(reply, "Server:"));
	metrics_unregister(&metric, 1);
}

static void
test_health(void **state)
{
	static struct exchange exchange;
	const char *reply = ask(&exchange, GET("/healthz"));

	begins(reply, "HTTP/1.1 200 ");
	ends(reply, "\r\n\r\nok\n");
}

static bool is_ready;

static bool
check_ready(char *why, size_t size)
{
	if (!is_ready)
		assert_true(str_copy_to(why, size, IRIS_STR("the vault is closed")));
	return is_ready;
}

static void
test_ready(void **state)
{
	static struct exchange exchange;

	begins(ask(&exchange, GET("/readyz")), "HTTP/1.1 503 ");
	ends(exchange.reply, "starting\n");
	admin_http_set_ready_check(check_ready);
	is_ready = false;
	begins(ask(&exchange, GET("/readyz")), "HTTP/1.1 503 ");
	ends(exchange.reply, "the vault is closed\n");
	is_ready = true;
	begins(ask(&exchange, GET("/readyz?verbose")), "HTTP/1.1 200 ");
	workers_stop();
	begins(ask(&exchange, GET("/readyz")), "HTTP/1.1 503 ");
	ends(exchange.reply, "stopping\n");
}

static void
test_other_pages_and_methods(void **state)
{
	static struct exchange exchange;

	begins(ask(&exchange, GET("/")), "HTTP/1.1 404 ");
	begins(ask(&exchange, GET("/metrics/")), "HTTP/1.1 404 ");
	begins(ask(&exchange, GET("/../metrics")), "HTTP/1.1 404 ");
	begins(ask(&exchange, "DELETE /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
	       "HTTP/1.1 405 ");
	assert_non_null(strstr(exchange.reply, "Allow: GET\r\n"));
	begins(ask(&exchange, "HEAD /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
	       "HTTP/1.1 405 ");
}

static void
test_bodies_and_bad_heads_are_refused(void **state)
{
	static struct exchange exchange;

	begins(ask(&exchange, "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
	       "HTTP/1.1 400 ");
	begins(ask(&exchange, "GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
			      "Content-Length: 5\r\n\r\n"),
	       "HTTP/1.1 400 ");
	begins(ask(&exchange, "GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
			      "\r\n0\r\n\r\n"),
	       "HTTP/1.1 400 ");
	begins(ask(&exchange, "GET /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ");
}

static void
test_only_loopback(void **state)
{
	static const char *const bad[] = { "0.0.0.0",	  "192.0.2.1", "::",
					   "2001:db8::1", "localhost", "" };
	struct iris_error error;

	assert_int_not_equal(admin_http_port(), 0);
	admin_http_stop();
	assert_int_equal(admin_http_port(), 0);
	for (size_t i = 0; i < IRIS_COUNT(bad); i++) {
		assert_false(admin_http_start(bad[i], 0, &error));
		assert_non_null(strstr(error.message, "loopback"));
	}
}

static void
test_a_taken_port_is_an_error(void **state)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	struct iris_error error;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	admin_http_stop();
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	assert_false(admin_http_start("127.0.0.1", ntohs(address.sin_port), &error));
	assert_true(error.hint[0] != '\0');
	(void)close(fd);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_metrics),
		TEST(test_health),
		TEST(test_ready),
		TEST(test_other_pages_and_methods),
		TEST(test_bodies_and_bad_heads_are_refused),
		TEST(test_only_loopback),
		TEST(test_a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
