/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that need certificates, or a client that speaks TLS. */
#ifndef TESTS_TLS_COMMON_H
#define TESTS_TLS_COMMON_H

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static char tls_dir[200]; /* of this run, in the folder that is built in */

static inline const char *
tls_path(char buf[static 256], const char *name)
{
	snprintf(buf, 256, "%s/%.50s", tls_dir, name);
	return buf;
}

static inline void
tls_write_pem(const char *name, EVP_PKEY *key, X509 *certificate)
{
	char path[256];
	FILE *file = fopen(tls_path(path, name), "w");

	assert_non_null(file);
	assert_int_equal(key ? PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) :
			       PEM_write_X509(file, certificate),
			 1);
	fclose(file);
}

/* NAME.crt and NAME.key: P-256, with a serial number of its own, issued by itself, valid for so
 * many seconds. */
static inline void
tls_make_identity(const char *name, long seconds)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_NAME *subject = X509_get_subject_name(certificate);
	static long serial;
	char file[64];

	ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(certificate, subject);
	X509_set_pubkey(certificate, key);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	snprintf(file, sizeof(file), "%s.crt", name);
	tls_write_pem(file, NULL, certificate);
	snprintf(file, sizeof(file), "%s.key", name);
	tls_write_pem(file, key, NULL);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static inline void
tls_make_dir(void)
{
	const char *base = getenv("IRIS_BUILDDIR");

	snprintf(tls_dir, sizeof(tls_dir), "%s/test-tls-XXXXXX", base ? base : ".");
	assert_non_null(mkdtemp(tls_dir));
}

static inline void
tls_remove_dir(void)
{
	DIR *dir = opendir(tls_dir);
	struct dirent *entry;
	char path[256];

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			assert_int_equal(unlink(tls_path(path, entry->d_name)), 0);
	closedir(dir);
	assert_int_equal(rmdir(tls_dir), 0);
}

/* --- a client that blocks, for at most ten seconds --- */

struct client {
	int fd;
	SSL *ssl;
	char in[65536]; /* what came since the last client_forget() */
	size_t len;
	bool ended; /* the server has closed */
};

static inline struct client *
client_connect(const char *address, uint16_t port)
{
	struct client *client = calloc(1, sizeof(*client));
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval timeout = { .tv_sec = 10 };
	static const int on = 1;

	assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
	client->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(client->fd >= 0);
	setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return client;
}

/* The handshake; name: SNI, or NULL. The result of SSL_connect. */
static inline int
client_try_tls(struct client *client, SSL_CTX *context, const char *name)
{
	client->ssl = SSL_new(context);
	if (name)
		SSL_set_tlsext_host_name(client->ssl, name);
	SSL_set_fd(client->ssl, client->fd);
	return SSL_connect(client->ssl);
}

static inline void
client_send_bytes(struct client *client, const void *bytes, size_t len)
{
	if (client->ssl)
		assert_int_equal(SSL_write(client->ssl, bytes, (int)len), len);
	else
		assert_int_equal(send(client->fd, bytes, len, MSG_NOSIGNAL), len);
}

static inline void
client_send(struct client *client, const char *text)
{
	client_send_bytes(client, text, strlen(text));
}

static inline void
client_forget(struct client *client)
{
	client->len = 0;
	client->in[0] = '\0';
}

/* False: the server has closed. */
static inline bool
client_read(struct client *client)
{
	char *to = client->in + client->len;
	size_t room = sizeof(client->in) - 1 - client->len;
	ssize_t got;

	assert_true(room > 0);
	got = client->ssl ? SSL_read(client->ssl, to, (int)room) : recv(client->fd, to, room, 0);
	if (got <= 0) {
		client->ended = true;
		return false;
	}
	client->len += (size_t)got;
	client->in[client->len] = '\0';
	return true;
}

/* Reads until the text has come, and forgets all up to its end. */
static inline void
client_expect(struct client *client, const char *text)
{
	char *found;

	while (!(found = strstr(client->in, text)))
		if (!client_read(client))
			fail_msg("expected %s, got %s", text, client->in);
	found += strlen(text);
	client->len -= (size_t)(found - client->in);
	memmove(client->in, found, client->len + 1);
}

static inline void
client_expect_end(struct client *client)
{
	while (client_read(client))
		;
}

static inline void
client_close(struct client *client)
{
	SSL_free(client->ssl);
	close(client->fd);
	free(client);
}

#endif
