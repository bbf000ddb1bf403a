/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that a publication can cost on this machine: one thread that reads a TLS record from a
 * publisher, commits some pages (written and fdatasync()ed), writes a record of the length of a
 * notification to each contact, and an answer.  No XML, no database, no other thread, nothing
 * looked up.  Started by publish --floor, which talks to it as to irisd; see README.md.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 1024
#define FRAME 4120          /* a page in SQLite's log, with its head */
#define FRAMES_MAX 16
#define LOG_FRAMES 4096     /* then it begins anew */
#define NOTIFICATION 458    /* bytes, as irisd writes them */
#define GATHERED_MAX (32 * NOTIFICATION)

struct client {
	int fd;
	SSL *ssl;
	char kind;          /* 'p' publishes, 'c' is a contact */
	char group;         /* whose contact */
	size_t gathered;    /* bytes that are still to be written */
	long long written_ms;
};

static struct client clients[CLIENTS_MAX];
static int client_count, loop, log_fd;
static long frames, gather_ms, log_at;
static long long flush_ms;  /* when what is gathered leaves; 0: nothing is */
static char log_bytes[FRAMES_MAX * FRAME];
static char notifications[GATHERED_MAX];

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "floor_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void
commit(void)
{
	size_t size = (size_t)frames * FRAME;

	if (frames == 0)
		return;
	must(pwrite(log_fd, log_bytes, size, log_at) == (ssize_t)size, "log");
	must(fdatasync(log_fd) == 0, "log");
	log_at = (log_at + (long)size) % ((LOG_FRAMES - FRAMES_MAX) * (long)FRAME);
}

static void
flush(struct client *client)
{
	if (client->gathered > 0)
		must(SSL_write(client->ssl, notifications, (int)client->gathered) > 0, "write");
	client->gathered = 0;
	client->written_ms = now_ms();
}

static void
notify(struct client *contact)
{
	contact->gathered += NOTIFICATION;
	if (now_ms() - contact->written_ms >= gather_ms ||
	    contact->gathered + NOTIFICATION > GATHERED_MAX)
		flush(contact);
	else if (flush_ms == 0)
		flush_ms = now_ms() + gather_ms;
}

static void
flush_when_due(void)
{
	if (flush_ms == 0 || now_ms() < flush_ms)
		return;
	flush_ms = 0;
	for (int i = 0; i < client_count; i++)
		if (clients[i].gathered > 0)
			flush(&clients[i]);
}

static void
publish(struct client *publisher, const char *request)
{
	const char *id = strstr(request, "id='p");
	char answer[256];
	int len = snprintf(answer, sizeof(answer), "<iq id='p%ld' type='result'>%100s</iq>",
			   id ? strtol(id + 5, NULL, 10) : 0, "");

	commit();
	for (int i = 0; i < client_count; i++)
		if (clients[i].kind == 'c' && clients[i].group == publisher->group)
			notify(&clients[i]);
	must(SSL_write(publisher->ssl, answer, len) > 0, "write");
}

static void
take(struct client *client)
{
	static char bytes[16385];
	int len = SSL_read(client->ssl, bytes, sizeof(bytes) - 1);

	if (len <= 0) {
		if (SSL_get_error(client->ssl, len) == SSL_ERROR_WANT_READ)
			return;
		(void)close(client->fd);
		client->kind = '\0';
		return;
	}
	bytes[len] = '\0';
	if (client->kind == 'p')
		publish(client, bytes);
}

/* The first bytes tell who it is. */
static void
let_in(int listener, SSL_CTX *context)
{
	struct client *client = &clients[client_count];
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
	char who[2];
	int on = 1;

	must(client_count++ < CLIENTS_MAX, "too many clients");
	client->fd = accept(listener, NULL, NULL);
	client->ssl = SSL_new(context);
	must(client->fd >= 0 && client->ssl && SSL_set_fd(client->ssl, client->fd) == 1 &&
		     SSL_accept(client->ssl) == 1 && SSL_read(client->ssl, who, 2) == 2,
	     "handshake");
	client->kind = who[0];
	client->group = who[1];
	must(setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
		     fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0 &&
		     epoll_ctl(loop, EPOLL_CTL_ADD, client->fd, &event) == 0,
	     "client");
}

static int
listen_on(const char *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)strtol(port, NULL, 10)),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	must(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
		     bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		     listen(fd, CLIENTS_MAX) == 0 &&
		     epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0,
	     "listen");
	return fd;
}

static void
open_log(const char *path)
{
	log_fd = open(path, O_CREAT | O_RDWR, 0600);
	must(log_fd >= 0, "log");
	for (int i = 0; i < LOG_FRAMES; i++)
		must(pwrite(log_fd, log_bytes, FRAME, (off_t)i * FRAME) == FRAME, "log");
	must(fsync(log_fd) == 0, "log");
}

/* NOTIFICATION bytes each, which end as notifications do. */
static void
fill_notifications(void)
{
	static const char end[] = "</event></message>";

	memset(notifications, 'x', sizeof(notifications));
	for (size_t at = NOTIFICATION; at <= sizeof(notifications); at += NOTIFICATION)
		memcpy(notifications + at - (sizeof(end) - 1), end, sizeof(end) - 1);
}

int
main(int argc, char **argv)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	int listener;

	must(argc == 7, "usage: floor_bench PORT CERT KEY LOG PAGES GATHER_MS");
	frames = strtol(argv[5], NULL, 10);
	gather_ms = strtol(argv[6], NULL, 10);
	must(frames <= FRAMES_MAX, "PAGES");
	must(SSL_CTX_use_certificate_chain_file(context, argv[2]) == 1 &&
		     SSL_CTX_use_PrivateKey_file(context, argv[3], SSL_FILETYPE_PEM) == 1,
	     "certificate");
	loop = epoll_create1(0);
	open_log(argv[4]);
	fill_notifications();
	listener = listen_on(argv[1]);
	(void)puts("ready");
	(void)fflush(stdout);
	for (;;) {
		struct epoll_event events[64];
		long long left_ms = flush_ms - now_ms();
		int wait_ms = flush_ms == 0 ? -1 : left_ms > 0 ? (int)left_ms : 0;
		int n = epoll_wait(loop, events, 64, wait_ms);

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				take(events[i].data.ptr);
			else
				let_in(listener, context);
		flush_when_due();
	}
}
