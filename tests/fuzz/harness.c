/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See harness.h.  The fuzzer's thread plays the clients; the server's main thread is one of our
 * own, started with the stages of irisd.
 */
#include "harness.h"

#include <errno.h>
#include <expat.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "boot.h"
#include "door.h"
#include "im_private.h"
#include "iris/auth.h"
#include "listener.h"
#include "log_private.h"
#include "module_private.h"
#include "stream_private.h"
#include "vault_private.h"
#include "worker_private.h"

#define ANSWER_SECONDS 20 /* sanitizers, on a busy machine */
#define OUTPUT_MAX (1 << 18)

struct harness_client {
	int fd;
	bool ended;
	unsigned depth;
	XML_Parser parser;
	size_t len, looked; /* bytes of output; where harness_await() goes on */
	char output[OUTPUT_MAX + 1];
};

/* Work on a fiber of a worker, for the fuzzer's thread to wait for. */
struct harness_work {
	struct iris_mail mail;
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

static struct {
	char folder[64];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool serving;
} harness = { .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER };

void (*harness_on_element)(const char *name, const char **attributes);

static const char config_text[] =
	"worker: {count: 2}\n"
	"process: {core-dumps: true}\n"
	"log: {target: stderr, level: error}\n"
	"hosts:\n"
	"  domains:\n"
	"    - {name: " HARNESS_HOST ", certificate: host.crt, key: host.key}\n"
	"accounts: {password-min-length: 8, password-classes: 1, scram-iterations: 4096}\n"
	"vault: {engine: sqlite, master-key: master.key}\n"
	"sqlite: {path: iris.db}\n"
	"xep0198: {resume-timeout: 200 ms}\n"
	"web: {behind-tls: true}\n"
	"bosh: {inactivity: 1 s, wait: 1 s, polling: 0 ms, max-unauthenticated-per-address: "
	"1000}\n"
	"files: {directory: files, scan: off, size-max: 4 KiB, profile-size-max: 1 KiB, "
	"account-quota: 16 KiB, account-files: 8}\n"
	"federation: {allow: [peer.example, other.example], authorities: host.crt, expiry: 1 s, "
	"targets: [{domain: peer.example, host: 127.0.0.1, port: 1}, "
	"{domain: other.example, host: 127.0.0.1, port: 1}]}\n"
	"xep0220: {only: [peer.example]}\n"
	"modules: {load: [federation, files, xep0065, xep0077, xep0092, xep0220, xep0363, xep0379, "
	"xep0401, xep0445]}\n";

static void
die(const char *what, const char *detail)
{
	fprintf(stderr, "harness: %s: %s\n", what, detail);
	abort();
}

/* --- files --- */

static FILE *
harness_create(const char *name)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", harness.folder, name);
	file = fopen(path, "w");
	if (!file)
		die("cannot create", path);
	return file;
}

static void
harness_make_identity(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);
	FILE *file = harness_create("host.key");

	(void)PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
	fclose(file);
	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 864000);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
				   (const unsigned char *)HARNESS_HOST, -1, -1, 0);
	X509_set_issuer_name(certificate, subject);
	X509_set_pubkey(certificate, key);
	if (X509_sign(certificate, key, EVP_sha256()) <= 0)
		die("no certificate", "X509_sign");
	file = harness_create("host.crt");
	(void)PEM_write_X509(file, certificate);
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static void
harness_make_folder(void)
{
	const char *base = getenv("TMPDIR");
	FILE *file;

	umask(077);
	snprintf(harness.folder, sizeof(harness.folder), "%.40s/iris-fuzz-XXXXXX",
		 base ? base : "/tmp");
	if (!mkdtemp(harness.folder))
		die("cannot make", harness.folder);
	harness_make_identity();
	file = harness_create("iris.yaml");
	fputs(config_text, file);
	fclose(file);
}

static int
harness_remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	return remove(path);
}

static void
harness_remove_folder(void)
{
	(void)nftw(harness.folder, harness_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the server --- */

static void
harness_boot(void)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_error error = { .message = "" };
	char path[128];

	snprintf(path, sizeof(path), "%s/iris.yaml", harness.folder);
	IRIS_ASSERT(modules_linked[0]); /* and so the linker takes the table */
	worker_main_init();
	if (!boot_configure(path, &report)) {
		report_write(&report, stderr);
		die("wrong configuration", path);
	}
	report_clear(&report);
	if (!modules_publish(&error) || !vault_init("default", &error) || !boot_start(&error))
		die(error.message, error.detail);
}

static void *
harness_serve(void *arg)
{
	harness_boot();
	pthread_mutex_lock(&harness.lock);
	harness.serving = true;
	pthread_cond_broadcast(&harness.news);
	pthread_mutex_unlock(&harness.lock);
	boot_run();
	boot_stop();
	modules_stop();
	log_close();
	worker_main_free();
	return NULL;
}

static void
harness_stop(void)
{
	boot_quit();
	pthread_join(harness.thread, NULL);
	harness_remove_folder();
}

static void
harness_work_fiber(void *arg)
{
	struct harness_work *work = arg;

	work->fn(work->arg);
	pthread_mutex_lock(&harness.lock);
	work->done = true;
	pthread_cond_broadcast(&harness.news);
	pthread_mutex_unlock(&harness.lock);
}

static void
harness_work_start(struct iris_mail *mail)
{
	if (!fiber_start("harness", harness_work_fiber,
			 IRIS_CONTAINER(mail, struct harness_work, mail)))
		die("no fiber", "harness_work");
}

void
harness_do(void (*fn)(void *arg), void *arg)
{
	struct harness_work work = { .mail.fn = harness_work_start, .fn = fn, .arg = arg };

	worker_post(worker_at(0), &work.mail);
	pthread_mutex_lock(&harness.lock);
	while (!work.done)
		pthread_cond_wait(&harness.news, &harness.lock);
	pthread_mutex_unlock(&harness.lock);
}

static void
harness_create_account(void *arg)
{
	struct iris_arena *arena = arena_new();
	struct iris_jid jid;
	const char *text = NULL;

	if (jid_make(arena, str_from(arg), IRIS_STR(HARNESS_HOST), IRIS_STR_NONE, &jid))
		(void)accounts()->create(&jid, IRIS_STR("a long password"), &text);
	arena_unref(&arena);
}

void
harness_start(void)
{
	harness_make_folder();
	if (pthread_create(&harness.thread, NULL, harness_serve, NULL) != 0)
		die("no thread", "pthread_create");
	pthread_mutex_lock(&harness.lock);
	while (!harness.serving)
		pthread_cond_wait(&harness.news, &harness.lock);
	pthread_mutex_unlock(&harness.lock);
	harness_do(harness_create_account, "romeo");
	harness_do(harness_create_account, "juliet");
	atexit(harness_stop);
}

/* --- streams: those of clients, but for signing in --- */

static void
harness_arrived(struct iris_stream *stream, void *arg)
{
	stream_send_features(stream);
}

static void
harness_opened(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_jid jid = stream_claimed_jid(stream);

	if (jid_is_none(&jid))
		stream_error(stream, "not-authorized", NULL);
	else
		stream_authenticated(stream, &jid, false, harness_arrived, NULL);
}

/* Another server's is proven by its first header, as if that had been SASL. */
static void
harness_restarts(struct iris_stream *stream, void *arg)
{
}

static void
harness_server_opened(struct iris_stream *stream, const struct iris_element *header)
{
	struct iris_jid jid = stream_claimed_jid(stream);

	if (stream_state(stream) == IRIS_STREAM_UNAUTHENTICATED)
		stream_authenticated(stream, &jid, true, harness_restarts, NULL);
	else
		stream_role_find(IRIS_STR("s2s"))->opened(stream, header);
}

struct harness_arrival {
	int fd;
	struct iris_stream_role role;
};

static void
harness_accept(void *arg)
{
	static struct iris_stream_role roles[3]; /* they stay: streams point to them */
	static struct listener listeners[3];
	const struct harness_arrival *arrival = arg;
	struct sockaddr_in peer = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned i = 0;

	while (roles[i].name && roles[i].opened != arrival->role.opened)
		i++;
	roles[i] = arrival->role;
	listeners[i] = (struct listener){ .name = "harness", .role = &roles[i],
					  .tls = LISTENER_NONE };
	if (!stream_accept(&listeners[i], arrival->fd, (const struct sockaddr *)&peer))
		die("not let in", "stream_accept");
}

static void
harness_accept_web(void *arg)
{
	static struct listener listener = { .name = "harness", .tls = LISTENER_NONE };
	struct sockaddr_in peer = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int *fd = arg;

	listener.voices[0].protocol = protocol_find(IRIS_STR("web"));
	listener.voice_count = 1;
	if (!door_accept(&listener, *fd, (const struct sockaddr *)&peer))
		die("not let in", "door_accept");
}

/* --- clients --- */

static void
harness_on_start(void *data, const char *name, const char **attributes)
{
	struct harness_client *client = data;

	if (client->depth++ == 1 && harness_on_element)
		harness_on_element(name, attributes);
}

static void
harness_on_end(void *data, const char *name)
{
	struct harness_client *client = data;

	client->depth--;
}

/* One read; what came is parsed. */
static void
harness_read(struct harness_client *client)
{
	ssize_t got = recv(client->fd, client->output + client->len, OUTPUT_MAX - client->len, 0);

	if (got < 0 && errno == EINTR) /* the fuzzer's own alarm */
		return;
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		die("no answer, the last was", client->output + client->looked);
	if (got <= 0) {
		client->ended = true;
		return;
	}
	if (XML_Parse(client->parser, client->output + client->len, (int)got, false) !=
	    XML_STATUS_OK) {
		client->output[client->len + (size_t)got] = '\0';
		die(XML_ErrorString(XML_GetErrorCode(client->parser)), client->output);
	}
	client->len += (size_t)got;
	client->output[client->len] = '\0';
	if (client->len == OUTPUT_MAX) /* much may come, but nobody looks at all of it */
		client->len = client->looked = 0;
}

bool
harness_await(struct harness_client *client, const char *one, const char *other)
{
	client->looked = client->len;
	while (!client->ended) {
		harness_read(client);
		if (client->looked > client->len)
			client->looked = 0;
		if (strstr(client->output + client->looked, one) ||
		    (other && strstr(client->output + client->looked, other)))
			return true;
	}
	return false;
}

const char *
harness_output(const struct harness_client *client)
{
	return client->output + client->looked;
}

void
harness_send(struct harness_client *client, struct iris_str text)
{
	while (text.len > 0 && !client->ended) {
		ssize_t sent = send(client->fd, text.base, text.len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return; /* closed: found when reading */
		text.base += sent;
		text.len -= (size_t)sent;
	}
}

void
harness_printf(struct harness_client *client, const char *format, ...)
{
	char text[16384];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (len > 0 && (size_t)len < sizeof(text))
		harness_send(client, (struct iris_str){ text, (size_t)len });
}

/* Both ends: ours, and the server's. */
static void
harness_make_pair(int pair[2])
{
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
	    fcntl(pair[1], F_SETFL, O_NONBLOCK) != 0)
		die("no socket", strerror(errno));
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

int
harness_dial_web(void)
{
	int pair[2];

	harness_make_pair(pair);
	harness_do(harness_accept_web, &pair[1]);
	return pair[0];
}

size_t
harness_hang_up(int fd, char *buffer, size_t size)
{
	size_t len = 0;
	ssize_t got;

	(void)shutdown(fd, SHUT_WR);
	while ((got = recv(fd, buffer + len, size - len, 0)) > 0 ||
	       (got < 0 && errno == EINTR)) {
		len += got > 0 ? (size_t)got : 0;
		if (len == size)
			len = 0; /* nobody looks at so much */
	}
	if (got < 0 && errno != ECONNRESET)
		die("it does not end", strerror(errno));
	close(fd);
	return len;
}

static void
harness_expect_document(struct harness_client *client)
{
	if (client->parser)
		XML_ParserFree(client->parser);
	client->parser = XML_ParserCreateNS("UTF-8", ' ');
	client->depth = 0;
	XML_SetUserData(client->parser, client);
	XML_SetElementHandler(client->parser, harness_on_start, harness_on_end);
}

static struct harness_client *
harness_dial(const struct iris_stream_role *role)
{
	struct harness_client *client = iris_calloc(1, sizeof(*client));
	struct harness_arrival arrival = { .role = *role };
	int pair[2];

	harness_make_pair(pair);
	client->fd = pair[0];
	harness_expect_document(client);
	arrival.fd = pair[1];
	harness_do(harness_accept, &arrival);
	return client;
}

static struct harness_client *
harness_try_open(const char *user)
{
	struct iris_stream_role role = stream_role_c2s;
	struct harness_client *client;

	role.opened = harness_opened;
	client = harness_dial(&role);
	harness_printf(client,
		       "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' "
		       "from='%s@" HARNESS_HOST "' to='" HARNESS_HOST "' version='1.0'>",
		       user);
	if (!harness_await(client, "</stream:features>", NULL))
		harness_close(&client, false);
	return client;
}

struct harness_client *
harness_open(const char *user)
{
	struct harness_client *client = harness_try_open(user);

	if (!client) { /* the account was removed by what was sent before */
		harness_do(harness_create_account, (void *)(uintptr_t)user);
		client = harness_try_open(user);
	}
	return client;
}

struct harness_client *
harness_open_bound(const char *user)
{
	struct harness_client *client = harness_open(user);

	if (!client)
		return NULL;
	harness_printf(client, "<iq type='set' id='bind'><bind xmlns='" NS_BIND
			       "'><resource>r0</resource></bind></iq>");
	if (!harness_await(client, "</iq>", NULL))
		harness_close(&client, false);
	return client;
}

static void
harness_send_server_header(struct harness_client *client, const char *domain)
{
	harness_expect_document(client);
	harness_printf(client,
		       "<stream:stream xmlns='" NS_SERVER "' xmlns:stream='" NS_STREAM "' "
		       "from='%s' to='" HARNESS_HOST "' version='1.0'>",
		       domain);
}

struct harness_client *
harness_open_server(const char *domain, bool proven)
{
	struct iris_stream_role role = *stream_role_find(IRIS_STR("s2s"));
	struct harness_client *client;

	if (proven)
		role.opened = harness_server_opened;
	client = harness_dial(&role);
	harness_send_server_header(client, domain);
	if (proven && harness_await(client, "xml:lang='en'>", NULL))
		harness_send_server_header(client, domain);
	if (!harness_await(client, "</stream:features>", NULL))
		harness_close(&client, false);
	return client;
}

void
harness_close(struct harness_client **client_p, bool orderly)
{
	struct harness_client *client = *client_p;

	*client_p = NULL;
	if (!client)
		return;
	if (orderly) {
		harness_send(client, IRIS_STR("</stream:stream>"));
		shutdown(client->fd, SHUT_WR);
		while (!client->ended)
			harness_read(client);
	}
	close(client->fd);
	XML_ParserFree(client->parser);
	free(client);
}
