/* SPDX-License-Identifier: Apache-2.0 */
/* server/resolver.c against a dnsmasq of its own, server/dns_record.c by itself. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "dns_record.h"
#include "module_private.h"
#include "worker_common.h"
#include "scratch.h"

extern const struct iris_module iris_module_resolver;

static struct {
	pid_t pid;
	uint16_t port;
	int silent; /* a socket that takes questions and never answers */
	uint16_t silent_port;
} dns;

static uint16_t
bind_somewhere(int type, int *fd_r)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);

	*fd_r = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	assert_true(*fd_r >= 0);
	assert_int_equal(bind(*fd_r, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(*fd_r, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

/* --- the server --- */

static void
dns_run(const char *port)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* also when the test crashes */
	execlp("dnsmasq", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
	       "--no-hosts", "--pid-file=", "--user=", "--listen-address=127.0.0.1",
	       "--bind-interfaces", port, "--local=/example/",
	       "--srv-host=_xmpp-server._tcp.two.example,b.example,5270,20,0",
	       "--srv-host=_xmpp-server._tcp.two.example,a.example,5269,10,5",
	       "--srv-host=_xmpps-server._tcp.two.example,c.example,443,5,0",
	       "--srv-host=_xmpp-server._tcp.never.example",
	       "--host-record=a.example,192.0.2.1,2001:db8::1", "--host-record=b.example,192.0.2.2",
	       "--txt-record=text.example,nothing else",
	       "--dns-rr=_5269._tcp.a.example,52,030101aabbcc", (char *)NULL);
	_exit(127);
}

static bool
dns_answers(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(dns.port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool connected = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;

	close(fd);
	return connected;
}

static void
dns_start(void)
{
	char port[32];
	int fd;

	dns.port = bind_somewhere(SOCK_STREAM, &fd);
	close(fd);
	snprintf(port, sizeof(port), "--port=%u", dns.port);
	dns.pid = fork();
	if (dns.pid == 0)
		dns_run(port);
	for (int tries = 0; tries < 1000 && !dns_answers(); tries++)
		usleep(10000);
	assert_true(dns_answers());
	dns.silent_port = bind_somewhere(SOCK_DGRAM, &dns.silent);
}

static void
configure(uint16_t port)
{
	static const struct iris_module *const linked[] = { &iris_module_resolver, NULL };
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config;
	struct iris_error error;
	FILE *file = fopen(scratch_path("iris.yaml"), "w");

	fprintf(file, "resolver:\n  servers: [\"127.0.0.1:%u\"]\n  timeout: 700 ms\n", port);
	fclose(file);
	config = config_load(scratch_path("iris.yaml"), &report);
	if (!config || !modules_select(linked, &config, &report))
		report_write(&report, stderr);
	assert_int_equal(report.error_count, 0);
	config_free(&config);
	assert_true(modules_start(&error));
}

static int
setup(void **state)
{
	return scratch_setup(state);
}

static int
teardown(void **state)
{
	if (dns.pid > 0) {
		kill(dns.pid, SIGTERM);
		waitpid(dns.pid, NULL, 0);
	}
	close(dns.silent);
	return scratch_teardown(state);
}

static int
start(void **state)
{
	if (dns.pid == 0)
		dns_start();
	if (setup_workers(2) != 0)
		return -1;
	configure(dns.port);
	return 0;
}

static int
start_silent(void **state)
{
	if (setup_workers(1) != 0)
		return -1;
	configure(dns.silent_port);
	return 0;
}

static int
stop(void **state)
{
	workers_stop();
	modules_stop();
	pool_stop();
	worker_main_free();
	return 0;
}

/* Runs on worker 0: who asks is elsewhere than the library. */
static void
elsewhere(void *arg)
{
	void (*fn)(struct iris_arena *arena) = *(void (**)(struct iris_arena *))arg;
	struct iris_arena *arena = arena_new();

	fn(arena);
	arena_unref(&arena);
}

static void
go_elsewhere(void *arg)
{
	worker_call(worker_at(0), "test", elsewhere, arg);
	worker_main_quit();
}

static void
run(void (*fn)(struct iris_arena *arena))
{
	on_fiber(go_elsewhere, &fn);
}

/* --- against the server --- */

static void
ask_services(struct iris_arena *arena)
{
	const struct iris_str names[] = { IRIS_STR("_xmpps-server._tcp.two.example"),
					  IRIS_STR("_xmpp-server._tcp.two.example") };
	struct iris_dns_services found;

	IRIS_ASSERT(resolver_find_services(arena, names, 2, &found) == IRIS_DNS_FOUND);
	IRIS_ASSERT(found.count == 3 && found.refused == 0 && !found.secure);
	IRIS_ASSERT(str_is(found.items[0].target, "c.example") && found.items[0].question == 0);
	IRIS_ASSERT(str_is(found.items[1].target, "a.example") && found.items[1].port == 5269);
	IRIS_ASSERT(str_is(found.items[2].target, "b.example") && found.items[2].question == 1);
}

static void
test_services_come_in_order(void **state)
{
	run(ask_services);
}

static void
ask_refused(struct iris_arena *arena)
{
	const struct iris_str names[] = { IRIS_STR("_xmpps-server._tcp.never.example"),
					  IRIS_STR("_xmpp-server._tcp.never.example") };
	struct iris_dns_services found;

	IRIS_ASSERT(resolver_find_services(arena, names, 2, &found) == IRIS_DNS_NOTHING);
	IRIS_ASSERT(found.refused == 2);
}

static void
test_a_service_that_is_refused(void **state)
{
	run(ask_refused);
}

static void
ask_nobody(struct iris_arena *arena)
{
	const struct iris_str name = IRIS_STR("_xmpp-server._tcp.nobody.example");
	struct iris_dns_addresses addresses;
	struct iris_dns_services services;

	IRIS_ASSERT(resolver_find_services(arena, &name, 1, &services) == IRIS_DNS_NOTHING);
	IRIS_ASSERT(services.refused == 0);
	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("nobody.example"), &addresses) ==
		    IRIS_DNS_NOTHING);
	/* The name is there, no address is. */
	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("text.example"), &addresses) ==
		    IRIS_DNS_NOTHING);
}

static void
test_what_is_not_there(void **state)
{
	run(ask_nobody);
}

static void
ask_addresses(struct iris_arena *arena)
{
	struct iris_dns_addresses found;
	char text[INET6_ADDRSTRLEN];

	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("a.example"), &found) ==
		    IRIS_DNS_FOUND);
	IRIS_ASSERT(found.count == 2 && found.items[0].is_ipv6 && !found.items[1].is_ipv6);
	inet_ntop(AF_INET6, found.items[0].bytes, text, sizeof(text));
	IRIS_ASSERT(strcmp(text, "2001:db8::1") == 0);
	inet_ntop(AF_INET, found.items[1].bytes, text, sizeof(text));
	IRIS_ASSERT(strcmp(text, "192.0.2.1") == 0);
	/* A missing AAAA is no failure. */
	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("b.example"), &found) ==
		    IRIS_DNS_FOUND);
	IRIS_ASSERT(found.count == 1 && !found.items[0].is_ipv6);
}

static void
test_addresses_of_both_kinds(void **state)
{
	run(ask_addresses);
}

static void
ask_tlsa(struct iris_arena *arena)
{
	struct iris_dns_tlsas found;

	IRIS_ASSERT(resolver_find_tlsa(arena, IRIS_STR("a.example"), 5269, &found) ==
		    IRIS_DNS_FOUND);
	IRIS_ASSERT(found.count == 1 && found.items[0].usage == 3 && found.items[0].matching == 1);
	IRIS_ASSERT(found.items[0].data.len == 3 && !found.secure);
	IRIS_ASSERT(resolver_find_tlsa(arena, IRIS_STR("a.example"), 5270, &found) ==
		    IRIS_DNS_NOTHING);
}

static void
test_tlsa_records(void **state)
{
	run(ask_tlsa);
}

static void
ask_silence(struct iris_arena *arena)
{
	struct iris_dns_addresses found;
	int64_t before = worker_now_ms(), took;

	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("a.example"), &found) ==
		    IRIS_DNS_FAILED);
	took = worker_now_ms() - before;
	IRIS_ASSERT(took >= 600 && took < 3000);
}

static void
test_a_resolver_that_is_silent(void **state)
{
	run(ask_silence);
}

static void
leave_while_asking(struct iris_arena *arena)
{
	struct iris_dns_addresses found;

	worker_main_quit();
	IRIS_ASSERT(resolver_find_addresses(arena, IRIS_STR("a.example"), &found) ==
		    IRIS_DNS_FAILED);
}

static void
go_and_leave(void *arg)
{
	void (*fn)(struct iris_arena *arena) = leave_while_asking;

	worker_call(worker_at(0), "test", elsewhere, &fn);
}

static void
test_stopping_does_not_wait(void **state)
{
	on_fiber(go_and_leave, NULL);
}

/* --- records --- */

static unsigned thrown;

static unsigned
loaded_dice(unsigned sum)
{
	return thrown < sum ? thrown : sum;
}

static void
test_weights_decide_among_equals(void **state)
{
	struct iris_dns_service services[] = {
		{ .priority = 20, .port = 1 },
		{ .priority = 10, .weight = 60, .port = 2 },
		{ .priority = 10, .weight = 0, .port = 3 },
		{ .priority = 10, .weight = 40, .port = 4 },
	};

	thrown = 0; /* the light one has its small chance */
	dns_order_services(services, 4, loaded_dice);
	assert_int_equal(services[0].port, 3);
	assert_int_equal(services[3].port, 1);
	thrown = 41; /* 0 | 1–40 | 41–100 */
	dns_order_services(services, 4, loaded_dice);
	assert_int_equal(services[0].port, 2);
	assert_int_equal(services[3].port, 1);
}

static void
test_malformed_records(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool good;
	} records[] = {
		{ "\0\1\0\2\x14\x95\1a\7example\0", 17, true },
		{ "\0\1\0\2\x14\x95\0", 7, true },
		{ "\0\0\0\0\0\0\0", 7, true },
		{ "\0\1\0\2\0\0\1a\0", 9, false },          /* port 0 */
		{ "\0\1\0\2\x14\x95\1a", 8, false },        /* no end */
		{ "\0\1\0\2\x14\x95\5a", 8, false },        /* a label longer than the record */
		{ "\0\1\0\2\x14\x95\xc0\x0c", 8, false },   /* a pointer */
		{ "\0\1\0\2\x14\x95\3a.b\0", 11, false },   /* a dot inside of a label */
		{ "\0\1\0\2\x14\x95\3a\0b\0", 11, false },  /* a NUL */
		{ "\0\1\0\2\x14\x95\1a\0more", 13, false }, /* something behind the end */
		{ "\0\1\0\2\x14", 5, false },
		{ "", 0, false },
	};
	struct iris_arena *arena = arena_new();
	struct iris_dns_service service;

	for (size_t i = 0; i < IRIS_COUNT(records); i++)
		assert_int_equal(dns_parse_service(arena,
						   (struct iris_str){ records[i].bytes,
								      records[i].len },
						   &service),
				 records[i].good);
	arena_unref(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights_decide_among_equals),
		cmocka_unit_test(test_malformed_records),
		cmocka_unit_test_setup_teardown(test_services_come_in_order, start, stop),
		cmocka_unit_test_setup_teardown(test_a_service_that_is_refused, start, stop),
		cmocka_unit_test_setup_teardown(test_what_is_not_there, start, stop),
		cmocka_unit_test_setup_teardown(test_addresses_of_both_kinds, start, stop),
		cmocka_unit_test_setup_teardown(test_tlsa_records, start, stop),
		cmocka_unit_test_setup_teardown(test_a_resolver_that_is_silent, start_silent, stop),
		cmocka_unit_test_setup_teardown(test_stopping_does_not_wait, start_silent, stop),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
