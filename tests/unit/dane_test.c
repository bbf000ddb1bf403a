/* SPDX-License-Identifier: Apache-2.0 */
/* DANE in server/tls_peer.c: which records prove which domain, over a connection in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "iris/dial.h"
#include "scratch.h"
#include "tls.h"

#define DOMAIN "peer.example"
#define TARGET "host.peer.example"

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
};

static struct {
	struct identity authority; /* that is believed */
	struct identity stranger;  /* that is not */
	struct identity proper;    /* signed by the authority, for the domain */
	struct identity tolerated; /* signed by the stranger, for the domain */
	struct identity machine;   /* signed by the stranger, for the target */
	struct identity greedy;    /* signed by itself, for another domain */
	SSL_CTX *client;
} test;

/* --- certificates --- */

static void
add_extension(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* issuer NULL: itself; name NULL: an authority. */
static struct identity
make_identity(const char *subject, const char *name, const struct identity *issuer)
{
	struct identity made = { EVP_EC_gen("P-256"), X509_new() };
	X509_NAME *subject_name = X509_get_subject_name(made.certificate);
	static long serial;
	char names[128];

	X509_set_version(made.certificate, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(made.certificate), 3600);
	X509_NAME_add_entry_by_txt(subject_name, "CN", MBSTRING_ASC,
				   (const unsigned char *)subject, -1, -1, 0);
	X509_set_issuer_name(made.certificate,
			     issuer ? X509_get_subject_name(issuer->certificate) : subject_name);
	X509_set_pubkey(made.certificate, made.key);
	if (name) {
		snprintf(names, sizeof(names), "DNS:%s", name);
		add_extension(made.certificate, NID_subject_alt_name, names);
	} else {
		add_extension(made.certificate, NID_basic_constraints, "critical,CA:TRUE");
	}
	assert_true(X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256()) > 0);
	return made;
}

static void
free_identity(struct identity *identity)
{
	EVP_PKEY_free(identity->key);
	X509_free(identity->certificate);
}

/* SHA-256 of what the selector says (RFC 6698 §2.1.2). */
static struct iris_dns_tlsa
make_record(uint8_t usage, uint8_t selector, const struct identity *of, unsigned char digest[32])
{
	unsigned char *der = NULL;
	int len = selector == 0 ? i2d_X509(of->certificate, &der) :
				  i2d_X509_PUBKEY(X509_get_X509_PUBKEY(of->certificate), &der);

	assert_true(len > 0);
	assert_int_equal(EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
	return (struct iris_dns_tlsa){ usage, selector, 1, { (const char *)digest, 32 } };
}

/* --- connections --- */

static void
handshake(SSL *client, SSL *server)
{
	BIO *here = NULL, *there = NULL;

	assert_int_equal(BIO_new_bio_pair(&here, 0, &there, 0), 1);
	SSL_set_bio(client, here, here);
	SSL_set_bio(server, there, there);
	SSL_set_accept_state(server);
	for (int i = 0; i < 10 && (SSL_in_init(client) || SSL_in_init(server)); i++) {
		(void)SSL_do_handshake(client);
		(void)SSL_do_handshake(server);
	}
	assert_false(SSL_in_init(client));
}

/* To a peer that shows itself, and the stranger behind it. */
static SSL *
connect_to(const struct identity *peer, struct iris_dns_tlsa *records, size_t count)
{
	struct iris_dial dial = { .to = IRIS_STR(DOMAIN), .target = IRIS_STR(TARGET),
				  .tlsas = { .items = records, .count = count, .secure = true } };
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	SSL *client, *server;

	assert_int_equal(SSL_CTX_use_certificate(context, peer->certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, peer->key), 1);
	assert_int_equal(SSL_CTX_add1_chain_cert(context, test.stranger.certificate), 1);
	client = tls_connect_new(test.client, &dial);
	server = SSL_new(context);
	assert_non_null(client);
	handshake(client, server);
	SSL_free(server);
	SSL_CTX_free(context);
	return client;
}

static void
expect(const struct identity *peer, uint8_t usage, uint8_t selector, const struct identity *of,
       bool proven)
{
	unsigned char digest[32];
	struct iris_dns_tlsa record = make_record(usage, selector, of, digest);
	SSL *ssl = connect_to(peer, &record, 1);

	assert_true(tls_is_pinned(ssl));
	assert_int_equal(tls_proves_domain(ssl, IRIS_STR(DOMAIN)), proven);
	assert_false(tls_proves_domain(ssl, IRIS_STR("other.example")));
	assert_false(tls_proves_domain(ssl, IRIS_STR(TARGET)));
	SSL_free(ssl);
}

/* --- tests --- */

static void
without_records_authorities_decide(void **state)
{
	SSL *ssl = connect_to(&test.proper, NULL, 0);

	assert_false(tls_is_pinned(ssl));
	assert_true(tls_proves_domain(ssl, IRIS_STR(DOMAIN)));
	SSL_free(ssl);
	ssl = connect_to(&test.tolerated, NULL, 0);
	assert_false(tls_proves_domain(ssl, IRIS_STR(DOMAIN)));
	SSL_free(ssl);
}

/* Usage 3: by certificate and by key; names do not count, and give nothing. */
static void
a_key_proves_what_was_dialled(void **state)
{
	expect(&test.greedy, 3, 0, &test.greedy, true);
	expect(&test.greedy, 3, 1, &test.greedy, true);
	expect(&test.proper, 3, 1, &test.greedy, false);
	expect(&test.proper, 3, 1, &test.proper, true);
}

/* Usage 2: with one of the names that led here. */
static void
an_authority_proves_names(void **state)
{
	expect(&test.tolerated, 2, 0, &test.stranger, true);
	expect(&test.machine, 2, 1, &test.stranger, true);
	expect(&test.greedy, 2, 0, &test.stranger, false);
	expect(&test.proper, 2, 0, &test.stranger, false);
}

/* Usages 1 and 0: and an authority of ours, too. */
static void
records_that_only_narrow(void **state)
{
	expect(&test.proper, 1, 1, &test.proper, true);
	expect(&test.tolerated, 1, 1, &test.tolerated, false);
	expect(&test.proper, 0, 0, &test.authority, true);
	expect(&test.proper, 0, 0, &test.stranger, false);
	expect(&test.tolerated, 0, 0, &test.stranger, false);
}

static void
one_of_several_is_enough(void **state)
{
	unsigned char one[32], other[32];
	struct iris_dns_tlsa records[] = { make_record(3, 1, &test.proper, one),
					   make_record(3, 1, &test.greedy, other),
					   { 3, 1, 9, IRIS_STR("unknown") } };
	SSL *ssl = connect_to(&test.greedy, records, IRIS_COUNT(records));

	assert_true(tls_proves_domain(ssl, IRIS_STR(DOMAIN)));
	SSL_free(ssl);
}

/* RFC 7671 §10.2: as if there were none. */
static void
what_cannot_be_used_does_not_count(void **state)
{
	struct iris_dns_tlsa records[] = {
		{ 3, 1, 9, IRIS_STR("a digest of tomorrow") },
		{ 3, 7, 1, IRIS_STR("01234567890123456789012345678901") },
		{ 9, 1, 1, IRIS_STR("01234567890123456789012345678901") },
		{ 3, 1, 1, IRIS_STR("too short") },
	};
	SSL *ssl = connect_to(&test.proper, records, IRIS_COUNT(records));

	assert_false(tls_is_pinned(ssl));
	assert_true(tls_proves_domain(ssl, IRIS_STR(DOMAIN)));
	SSL_free(ssl);
}

/* --- start and stop --- */

static int
start(void **state)
{
	struct iris_error error;
	FILE *file;

	if (scratch_setup(state) != 0)
		return -1;
	test.authority = make_identity("authority", NULL, NULL);
	test.stranger = make_identity("stranger", NULL, NULL);
	test.proper = make_identity("proper", DOMAIN, &test.authority);
	test.tolerated = make_identity("tolerated", DOMAIN, &test.stranger);
	test.machine = make_identity("machine", TARGET, &test.stranger);
	test.greedy = make_identity("greedy", "other.example", NULL);
	file = fopen(scratch_path("authorities.pem"), "w");
	assert_int_equal(PEM_write_X509(file, test.authority.certificate), 1);
	fclose(file);
	test.client = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(test.client, test.proper.certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(test.client, test.proper.key), 1);
	assert_true(server_trust_set(
		&(struct iris_server_trust){
			.authorities = str_from(scratch_path("authorities.pem")) },
		&error));
	return 0;
}

static int
stop(void **state)
{
	server_trust_clear();
	SSL_CTX_free(test.client);
	free_identity(&test.authority);
	free_identity(&test.stranger);
	free_identity(&test.proper);
	free_identity(&test.tolerated);
	free_identity(&test.machine);
	free_identity(&test.greedy);
	return scratch_teardown(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_records_authorities_decide),
		cmocka_unit_test(a_key_proves_what_was_dialled),
		cmocka_unit_test(an_authority_proves_names),
		cmocka_unit_test(records_that_only_narrow),
		cmocka_unit_test(one_of_several_is_enough),
		cmocka_unit_test(what_cannot_be_used_does_not_count),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
