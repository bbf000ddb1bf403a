/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS between servers: whose certificates are believed, and which domains one proves (RFC 6120
 * §13.7, RFC 6125), or what signed records of the DNS say of it (DANE: RFC 7671, RFC 7673), and
 * which region (P2).  DANE is for connections that we begin; who dials looks the records up.
 * Handshakes never fail because of a certificate: who is asked afterwards (stream_proves) decides.
 * Any worker reads, the main thread sets.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "iris/arena.h"
#include "iris/dial.h"
#include "tls.h"
#include "worker_private.h"

#define OID_XMPP_ADDR "1.3.6.1.5.5.7.8.5" /* id-on-xmppAddr, RFC 6120 §13.7.1.4 */
#define OID_DNS_SRV "1.3.6.1.5.5.7.8.7"   /* id-on-dnsSRV, RFC 4985 */
#define SRV_PREFIX "_xmpp-server."
#define USAGE_DANE_EE 3
#define REGION_PREFIX "urn:iris:region:"

/* Immutable once published. */
struct trust {
	X509_STORE *store;
	SSL_CTX *client; /* of connections that we begin */
	bool purpose_of_servers;
};

static _Atomic(struct trust *) trust_current;

/* --- chains --- */

/* One file of revocation lists cannot have those of all public authorities. */
static int
trust_on_error(int ok, X509_STORE_CTX *context)
{
	if (ok || X509_STORE_CTX_get_error(context) != X509_V_ERR_UNABLE_TO_GET_CRL)
		return ok;
	X509_STORE_CTX_set_error(context, X509_V_OK);
	return 1;
}

/* The verdict on a chain, for one purpose ("ssl_client", "ssl_server"); also on pinned ones. */
static int
trust_verify_for(const struct trust *trust, X509_STORE_CTX *given, const char *purpose)
{
	X509_STORE_CTX *context = X509_STORE_CTX_new();
	SSL *ssl = X509_STORE_CTX_get_ex_data(given, SSL_get_ex_data_X509_STORE_CTX_idx());
	int error = X509_V_ERR_UNSPECIFIED;

	IRIS_ASSERT(context);
	if (X509_STORE_CTX_init(context, trust->store, X509_STORE_CTX_get0_cert(given),
				X509_STORE_CTX_get0_untrusted(given)) == 1 &&
	    X509_STORE_CTX_set_default(context, purpose) == 1) {
		X509_STORE_CTX_set_verify_cb(context, trust_on_error);
		X509_STORE_CTX_set0_dane(context, SSL_get0_dane(ssl));
		if (X509_verify_cert(context) == 1) {
			error = X509_V_OK;
			/* for SSL_get0_verified_chain() */
			X509_STORE_CTX_set0_verified_chain(given,
							   X509_STORE_CTX_get1_chain(context));
		} else if (X509_STORE_CTX_get_error(context) != X509_V_OK) {
			error = X509_STORE_CTX_get_error(context);
		}
	}
	X509_STORE_CTX_free(context);
	ERR_clear_error();
	return error;
}

void
tls_verify_server(X509_STORE_CTX *given, bool is_client)
{
	const struct trust *trust = atomic_load(&trust_current);
	int error = X509_V_ERR_UNSPECIFIED;

	if (trust)
		error = trust_verify_for(trust, given, is_client ? "ssl_client" : "ssl_server");
	if (trust && error == X509_V_ERR_INVALID_PURPOSE && is_client && trust->purpose_of_servers)
		error = trust_verify_for(trust, given, "ssl_server");
	X509_STORE_CTX_set_error(given, error);
}

/* --- names --- */

static bool
name_is(const ASN1_STRING *text, const char *prefix, struct iris_str domain)
{
	struct iris_str name = { (const char *)ASN1_STRING_get0_data(text),
				 (size_t)ASN1_STRING_length(text) };
	size_t skip = strlen(prefix);

	/* SECURITY: a NUL inside would end the name for others, not for the issuer; here it makes
	 * it longer than the domain. */
	return name.len == skip + domain.len && strncasecmp(name.base, prefix, skip) == 0 &&
	       strncasecmp(name.base + skip, domain.base, domain.len) == 0;
}

static bool
other_name_proves(const OTHERNAME *name, struct iris_str domain)
{
	char oid[64];

	if (OBJ_obj2txt(oid, sizeof(oid), name->type_id, 1) <= 0)
		return false;
	if (strcmp(oid, OID_XMPP_ADDR) == 0 && name->value->type == V_ASN1_UTF8STRING)
		return name_is(name->value->value.utf8string, "", domain);
	if (strcmp(oid, OID_DNS_SRV) == 0 && name->value->type == V_ASN1_IA5STRING)
		return name_is(name->value->value.ia5string, SRV_PREFIX, domain);
	return false;
}

static bool
other_names_prove(X509 *certificate, struct iris_str domain)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && !found; i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		found = name->type == GEN_OTHERNAME &&
			other_name_proves(name->d.otherName, domain);
	}
	GENERAL_NAMES_free(names);
	return found;
}

/* The common name proves nothing (RFC 6125 §6.4.4 allows it as a last resort only). */
static bool
names_prove(X509 *certificate, struct iris_str domain)
{
	static const unsigned flags =
		X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;

	/* SECURITY: with a dot in front every subdomain's certificate would do. */
	if (domain.len == 0 || domain.base[0] == '.')
		return false;
	return X509_check_host(certificate, domain.base, domain.len, flags, NULL) == 1 ||
	       other_names_prove(certificate, domain);
}

/* --- DANE --- */

/* 0: the domain that was dialled, 1: the machine that it has named; NULL: it is not pinned. */
static const char *
pinned_name(SSL *ssl, int index)
{
	return X509_VERIFY_PARAM_get0_host(SSL_get0_param(ssl), index);
}

bool
tls_is_pinned(SSL *ssl)
{
	return pinned_name(ssl, 0) != NULL;
}

/*
 * RFC 7673 §4: names count but for DANE-EE, where the record is the name.
 *
 * SECURITY: a certificate that no authority has signed says of itself what it likes; only the zone
 * of the domain that was dialled has vouched for it, and for that domain alone.
 */
static bool
pin_proves(SSL *ssl, X509 *certificate, struct iris_str domain)
{
	uint8_t usage;

	if (!str_is(domain, pinned_name(ssl, 0)) ||
	    SSL_get0_dane_tlsa(ssl, &usage, NULL, NULL, NULL, NULL) < 0)
		return false;
	return usage == USAGE_DANE_EE || names_prove(certificate, domain) ||
	       names_prove(certificate, str_from(pinned_name(ssl, 1)));
}

bool
tls_proves_domain(SSL *ssl, struct iris_str domain)
{
	X509 *certificate = tls_peer_certificate(ssl);

	if (!certificate)
		return false;
	return tls_is_pinned(ssl) ? pin_proves(ssl, certificate, domain) :
				    names_prove(certificate, domain);
}

/*
 * What OpenSSL cannot use counts for nothing; where that is all there is, the authorities decide as
 * everywhere (RFC 7671 §10.2). Its own check of names knows too few kinds of them: ours follows.
 */
static bool
pin(SSL *ssl, const struct iris_dns_tlsas *tlsas, const char *domain, const char *target)
{
	bool usable = false, ok = tlsas->count == 0 || SSL_dane_enable(ssl, NULL) > 0;

	(void)SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	for (size_t i = 0; i < tlsas->count && ok; i++) {
		const struct iris_dns_tlsa *tlsa = &tlsas->items[i];
		int added = SSL_dane_tlsa_add(ssl, tlsa->usage, tlsa->selector, tlsa->matching,
					      (const unsigned char *)tlsa->data.base,
					      tlsa->data.len);

		usable = usable || added > 0;
		ok = added >= 0;
	}
	ERR_clear_error();
	if (ok && usable)
		ok = SSL_set1_host(ssl, domain) == 1 && SSL_add1_host(ssl, target) == 1;
	return ok;
}

/* --- regions --- */

static bool
uri_names_region(const GENERAL_NAME *name, struct iris_str *id_r)
{
	static const size_t prefix = sizeof(REGION_PREFIX) - 1;
	const ASN1_STRING *text = name->d.uniformResourceIdentifier;
	struct iris_str uri;

	if (name->type != GEN_URI)
		return false;
	uri = (struct iris_str){ (const char *)ASN1_STRING_get0_data(text),
				 (size_t)ASN1_STRING_length(text) };
	/* RFC 8141 §3.1: the scheme and the name of the namespace are of either case. */
	if (uri.len < prefix || strncasecmp(uri.base, REGION_PREFIX, prefix) != 0)
		return false;
	*id_r = (struct iris_str){ uri.base + prefix, uri.len - prefix };
	return true;
}

static bool
region_is_legal(struct iris_str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!((id.base[i] >= 'a' && id.base[i] <= 'z') || id.base[i] == '-' ||
		      (id.base[i] >= '0' && id.base[i] <= '9')))
			return false;
	return id.len > 0;
}

bool
tls_region(SSL *ssl, struct iris_arena *arena, struct iris_str *id_r)
{
	X509 *certificate = tls_peer_certificate(ssl);
	GENERAL_NAMES *names =
		certificate ?
			X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL) :
			NULL;
	struct iris_str id = IRIS_STR_NONE;
	unsigned count = 0;

	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++)
		count += uri_names_region(sk_GENERAL_NAME_value(names, i), &id);
	/* SECURITY: of two nobody can say which one it is; so it is none, and nothing else. */
	*id_r = count == 1 && region_is_legal(id) ? arena_copy_str(arena, id) : IRIS_STR_NONE;
	GENERAL_NAMES_free(names);
	return count == 0 || !str_is_none(*id_r);
}

static bool
fingerprint_is(X509 *certificate, const char *fingerprint)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char hex[2 * EVP_MAX_MD_SIZE + 1] = "";
	unsigned len = 0;

	if (X509_digest(certificate, EVP_sha256(), digest, &len) != 1)
		return false;
	for (unsigned i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return strcmp(hex, fingerprint) == 0;
}

bool
tls_is_under(SSL *ssl, const char *fingerprint)
{
	STACK_OF(X509) *chain = tls_peer_certificate(ssl) ? SSL_get0_verified_chain(ssl) : NULL;

	/* Not the first: who has a certificate is not its own authority. */
	for (int i = 1; chain && i < sk_X509_num(chain); i++)
		if (fingerprint_is(sk_X509_value(chain, i), fingerprint))
			return true;
	return false;
}

/* --- connections --- */

/* Ours, if we began it. */
static int
tls_on_server_certificate(X509_STORE_CTX *store, void *arg)
{
	tls_verify_server(store, false);
	return 1;
}

/* The host's certificate and chain, out of its own context. */
static bool
tls_show_identity(SSL *ssl, SSL_CTX *identity)
{
	STACK_OF(X509) *chain = NULL;

	return SSL_use_certificate(ssl, SSL_CTX_get0_certificate(identity)) == 1 &&
	       SSL_use_PrivateKey(ssl, SSL_CTX_get0_privatekey(identity)) == 1 &&
	       SSL_CTX_get0_chain_certs(identity, &chain) == 1 &&
	       (!chain || SSL_set1_chain(ssl, chain) == 1);
}

static bool
tls_set_up(SSL *ssl, SSL_CTX *identity, const struct iris_dial *dial)
{
	static const unsigned char alpn[] = "\x0bxmpp-server";
	char *domain = str_dup(dial->to), *target = str_dup(dial->target);
	bool ok = tls_show_identity(ssl, identity) && SSL_set_tlsext_host_name(ssl, domain) == 1 &&
		  (!dial->direct_tls || SSL_set_alpn_protos(ssl, alpn, sizeof(alpn) - 1) == 0) &&
		  pin(ssl, &dial->tlsas, domain, target);

	free(domain);
	free(target);
	return ok;
}

SSL *
tls_connect_new(SSL_CTX *identity, const struct iris_dial *dial)
{
	const struct trust *trust = atomic_load(&trust_current);
	SSL *ssl = trust ? SSL_new(trust->client) : NULL;

	if (!ssl)
		return NULL;
	if (!tls_set_up(ssl, identity, dial)) {
		ERR_clear_error();
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_connect_state(ssl);
	return ssl;
}

/* --- setting --- */

static void
trust_free(struct trust *trust)
{
	if (!trust)
		return;
	X509_STORE_free(trust->store);
	SSL_CTX_free(trust->client);
	free(trust);
}

static bool
trust_failed(const char *what, const char *file, struct iris_error *error)
{
	error_set(error, "cannot read %s: %s", what, tls_reason());
	return error_detail(error, "%s", file ? file : "those of the system");
}

static bool
trust_load_authorities(struct trust *trust, struct iris_str path, struct iris_error *error)
{
	char *file = str_is_empty(path) ? NULL : str_dup(path);
	bool ok = file ? X509_STORE_load_file(trust->store, file) == 1 :
			 X509_STORE_set_default_paths(trust->store) == 1;

	if (!ok)
		trust_failed("the authorities of servers", file, error);
	free(file);
	return ok;
}

static bool
trust_load_revoked(struct trust *trust, struct iris_str path, struct iris_error *error)
{
	X509_LOOKUP *lookup;
	char *file;
	bool ok;

	if (str_is_empty(path))
		return true;
	file = str_dup(path);
	lookup = X509_STORE_add_lookup(trust->store, X509_LOOKUP_file());
	ok = lookup && X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) > 0 &&
	     X509_STORE_set_flags(trust->store,
				  X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
	if (!ok)
		trust_failed("the revocation lists", file, error);
	free(file);
	return ok;
}

static struct trust *
trust_make(const struct iris_server_trust *from, struct iris_error *error)
{
	struct trust *trust = iris_calloc(1, sizeof(*trust));

	trust->store = X509_STORE_new();
	trust->client = SSL_CTX_new(TLS_client_method());
	IRIS_ASSERT(trust->store && trust->client);
	trust->purpose_of_servers = from->purpose_of_servers;
	if (!trust_load_authorities(trust, from->authorities, error) ||
	    !trust_load_revoked(trust, from->revoked, error) ||
	    !tls_context_set_client(trust->client, error) ||
	    SSL_CTX_dane_enable(trust->client) != 1) {
		trust_free(trust);
		return NULL;
	}
	SSL_CTX_set_verify(trust->client, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(trust->client, tls_on_server_certificate, NULL);
	return trust;
}

static void
trust_nothing(void *arg)
{
}

/* What was before is freed when no worker can be between finding and using it. */
static void
trust_publish(struct trust *trust)
{
	struct trust *old = atomic_exchange(&trust_current, trust);

	if (old && worker_count() > 0)
		workers_each(trust_nothing, NULL);
	trust_free(old);
}

bool
server_trust_set(const struct iris_server_trust *trust, struct iris_error *error)
{
	struct trust *made = trust_make(trust, error);

	if (made)
		trust_publish(made);
	return made != NULL;
}

void
server_trust_clear(void)
{
	trust_publish(NULL);
}
