/* SPDX-License-Identifier: Apache-2.0 */
/* server/connection.c without TLS: what waits for more before it is written, and pauses. */
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "worker_common.h"

#define LONG_MS 60000 /* nothing in a test takes so long */

static struct {
	struct iris_carrier *carrier;
	int peer;
	char input[64];
	const char *ended;
} test;

static void
on_input(void *owner, const char *bytes, size_t len)
{
	size_t have = strlen(test.input);

	assert_true(have + len < sizeof(test.input));
	memcpy(test.input + have, bytes, len);
	test.input[have + len] = '\0';
}

static void
on_ended(void *owner, const char *reason)
{
	test.ended = reason;
}

static const struct iris_carrier_handler handler = { .input = on_input, .ended = on_ended };

static int
setup(void **state)
{
	return setup_workers(0);
}

static void
open_with(unsigned gather_ms)
{
	const struct sockaddr_in address = { .sin_family = AF_INET };
	int fds[2];

	connection_set_options(&(struct connection_options){ .output_limit = 1 << 20,
							     .dead_peer_ms = 60000,
							     .keepalive_s = 60,
							     .gather_ms = gather_ms });
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	test.peer = fds[1];
	test.input[0] = '\0';
	test.ended = NULL;
	test.carrier = connection_open(&(struct connection_setup){
		.fd = fds[0], .peer = (const struct sockaddr *)&address, .handler = &handler });
	assert_non_null(test.carrier);
}

static void
close_both(void)
{
	carrier_free(&test.carrier);
	(void)close(test.peer);
}

static void
turn(void)
{
	worker_main_quit();
	worker_run_main();
}

static void
peer_is_readable(evutil_socket_t fd, short what, void *arg)
{
	worker_main_quit();
}

static void
run_until_peer_reads(void)
{
	struct event *event =
		event_new(worker_base(), test.peer, EV_READ, peer_is_readable, NULL);

	assert_int_equal(event_add(event, NULL), 0);
	worker_run_main();
	event_free(event);
}

static void
send_patiently(const char *text)
{
	carrier_send(test.carrier, IRIS_UNIT_PATIENT, str_from(text));
}

/* All that the peer has by now. */
static void
expect(const char *text)
{
	char seen[64];
	ssize_t len = recv(test.peer, seen, sizeof(seen) - 1, 0);

	seen[len > 0 ? len : 0] = '\0';
	assert_string_equal(seen, text);
}

static void
expect_nothing(void)
{
	char byte;

	assert_int_equal(recv(test.peer, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void
test_first_leaves_at_once(void **state)
{
	open_with(LONG_MS);
	send_patiently("1");
	turn();
	expect("1");
	close_both();
}

static void
test_burst_leaves_together(void **state)
{
	open_with(20);
	send_patiently("1");
	turn();
	expect("1");
	send_patiently("2");
	send_patiently("3");
	run_until_peer_reads();
	expect("23");
	close_both();
}

static void
test_impatient_takes_it_along(void **state)
{
	open_with(LONG_MS);
	send_patiently("1");
	turn();
	expect("1");
	send_patiently("2");
	turn();
	expect_nothing();
	carrier_send(test.carrier, IRIS_UNIT_ELEMENT, IRIS_STR("3"));
	turn();
	expect("23");
	close_both();
}

static void
test_much_does_not_wait(void **state)
{
	static char much[10000];

	open_with(LONG_MS);
	send_patiently("1");
	turn();
	expect("1");
	carrier_send(test.carrier, IRIS_UNIT_PATIENT, (struct iris_str){ much, sizeof(much) });
	turn();
	assert_int_equal(recv(test.peer, much, sizeof(much), 0), sizeof(much));
	close_both();
}

static void
test_end_takes_it_along(void **state)
{
	open_with(LONG_MS);
	send_patiently("1");
	turn();
	send_patiently("2");
	turn();
	carrier_finish(test.carrier);
	turn();
	expect("12");
	close_both();
}

static void
test_two_wait_and_one_goes(void **state)
{
	struct iris_carrier *first;
	int first_peer;

	open_with(20);
	send_patiently("1");
	turn();
	send_patiently("2");
	turn();
	first = test.carrier;
	first_peer = test.peer;
	open_with(20);
	send_patiently("3");
	turn();
	expect("3");
	send_patiently("4");
	turn();
	carrier_free(&first);
	(void)close(first_peer);
	run_until_peer_reads();
	expect("4");
	close_both();
}

static void
test_nothing_waits_where_it_is_off(void **state)
{
	open_with(0);
	send_patiently("1");
	turn();
	send_patiently("2");
	turn();
	expect("12");
	close_both();
}

static void
test_pause_keeps_input_back(void **state)
{
	open_with(0);
	carrier_pause(test.carrier, true);
	assert_int_equal(send(test.peer, "a", 1, 0), 1);
	turn();
	turn();
	assert_string_equal(test.input, "");
	carrier_pause(test.carrier, false);
	while (!test.input[0])
		turn();
	assert_string_equal(test.input, "a");
	carrier_pause(test.carrier, true); /* and nothing comes meanwhile */
	turn();
	carrier_pause(test.carrier, false);
	assert_int_equal(send(test.peer, "b", 1, 0), 1);
	while (!test.input[1])
		turn();
	assert_string_equal(test.input, "ab");
	close_both();
}

static void
test_end_during_a_pause(void **state)
{
	open_with(0);
	carrier_pause(test.carrier, true);
	(void)shutdown(test.peer, SHUT_RDWR);
	turn();
	turn();
	assert_null(test.ended);
	carrier_pause(test.carrier, false);
	while (!test.ended)
		turn();
	assert_string_equal(test.ended, "closed by the peer");
	close_both();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_leaves_at_once),
		cmocka_unit_test(test_burst_leaves_together),
		cmocka_unit_test(test_impatient_takes_it_along),
		cmocka_unit_test(test_much_does_not_wait),
		cmocka_unit_test(test_end_takes_it_along),
		cmocka_unit_test(test_two_wait_and_one_goes),
		cmocka_unit_test(test_nothing_waits_where_it_is_off),
		cmocka_unit_test(test_pause_keeps_input_back),
		cmocka_unit_test(test_end_during_a_pause),
	};

	return cmocka_run_group_tests(tests, setup, teardown_workers);
}
