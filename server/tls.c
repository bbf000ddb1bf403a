/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS contexts: 1.2 and 1.3, forward-secret AEAD suites, session tickets under keys that rotate,
 * stapling (P1.1).  Any thread; everything shared is immutable or behind the lock of the ticket
 * keys. Clients are asked for certificates only when the option client-ca names who is trusted to
 * issue them; the handshake never fails because of one, it is just not shown to anybody then. Those
 * of other servers are judged in tls_peer.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "iris/module.h"
#include "iris/service.h"
#include "tls.h"

#define TLS_SUITES_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define TLS_SUITES_12 "ECDHE+AESGCM:ECDHE+CHACHA20"
#define TLS_GROUPS "X25519:P-256"
#define OCSP_MAX 16384

enum { OPT_CLIENT_CA, OPT_TICKETS, OPT_TICKET_ROTATION, OPT_EXPIRY_WARNING };

static struct iris_module_self tls_self;

/* --- session tickets: two generations of keys, the older one still opens --- */

struct ticket_key {
	uint8_t name[16], cipher[32], hmac[32];
};

static struct {
	pthread_mutex_t lock;
	struct ticket_key keys[2]; /* current, previous */
	time_t made;
} tickets = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* SECURITY: who steals a ticket key reads the TLS 1.2 sessions resumed under it; so none lives
 * long. */
static bool
ticket_keys_rotate(void)
{
	time_t now = time(NULL);
	struct ticket_key fresh;

	if (tickets.made && now - tickets.made < option_int(&tls_self, OPT_TICKET_ROTATION) / 1000)
		return true;
	if (RAND_bytes(fresh.name, sizeof(fresh.name)) != 1 ||
	    RAND_priv_bytes(fresh.cipher, sizeof(fresh.cipher)) != 1 ||
	    RAND_priv_bytes(fresh.hmac, sizeof(fresh.hmac)) != 1)
		return false;
	tickets.keys[1] = tickets.made ? tickets.keys[0] : fresh;
	tickets.keys[0] = fresh;
	tickets.made = now;
	OPENSSL_cleanse(&fresh, sizeof(fresh));
	return true;
}

/* The key to seal with (name NULL) or the one of that name. Its generation, or -1. */
static int
ticket_key_get(const uint8_t *name, struct ticket_key *key_r)
{
	int found = -1;

	pthread_mutex_lock(&tickets.lock);
	if (ticket_keys_rotate()) {
		for (int i = 0; i < 2 && found < 0; i++)
			if (!name || memcmp(name, tickets.keys[i].name, 16) == 0)
				found = i;
		if (found >= 0)
			*key_r = tickets.keys[found];
	}
	pthread_mutex_unlock(&tickets.lock);
	return found;
}

static int
tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
	      EVP_MAC_CTX *mac, int sealing)
{
	struct ticket_key key;
	int generation = ticket_key_get(sealing ? NULL : name, &key), ok;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.hmac, sizeof(key.hmac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
						 (char *)(uintptr_t) "sha256", 0),
		OSSL_PARAM_construct_end(),
	};

	if (generation < 0)
		return 0; /* a full handshake instead */
	if (sealing) {
		memcpy(name, key.name, sizeof(key.name));
		ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
		     EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv);
	} else {
		ok = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv);
	}
	ok = ok && EVP_MAC_CTX_set_params(mac, params);
	OPENSSL_cleanse(&key, sizeof(key));
	if (!ok)
		return -1;
	return generation == 0 ? 1 : 2; /* 2: good, but give a new one */
}

/* --- callbacks of a context --- */

static int server_index; /* of a connection's data: set where another server is expected */

/*
 * Tickets are not for servers: a session that is resumed would bring the verdict on a certificate
 * along, from another day, or from where other authorities were asked.
 */
static void
tls_expect_server(SSL *ssl)
{
	SSL_set_ex_data(ssl, server_index, &server_index);
	SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	SSL_set_client_CA_list(ssl, sk_X509_NAME_new_null());
	SSL_set_options(ssl, SSL_OP_NO_TICKET);
	SSL_set_num_tickets(ssl, 0);
}

/* A verdict on the client's chain without ending the handshake; tls_peer_certificate() looks at it.
 */
static int
tls_on_verify(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());

	if (SSL_get_ex_data(ssl, server_index))
		tls_verify_server(store, true);
	else if (X509_verify_cert(store) != 1 && X509_STORE_CTX_get_error(store) == X509_V_OK)
		X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
	return 1;
}

/* Where this one is among what the client offers, or NULL. */
static const unsigned char *
tls_alpn_find(const unsigned char *in, unsigned in_len, const char *wanted)
{
	size_t len = strlen(wanted);

	for (unsigned at = 0; at < in_len && in[at] <= in_len - at - 1; at += 1u + in[at])
		if (in[at] == len && memcmp(in + at + 1, wanted, len) == 0)
			return in + at;
	return NULL;
}

/* What will be spoken: of ours the first one that is offered; or NULL. */
static const unsigned char *
tls_alpn_choose(const SSL *ssl, const unsigned char *in, unsigned in_len)
{
	const char *const *wanted = SSL_get_app_data(ssl);
	const unsigned char *found = NULL;

	for (; wanted && *wanted && !found; wanted++)
		found = tls_alpn_find(in, in_len, *wanted);
	return found;
}

/*
 * Where another server is met at a door for all: which certificate is shown depends on it, and TLS
 * 1.2 has chosen that before it asks tls_on_alpn().  So it is looked for ahead of everything.
 */
static int
tls_on_client_hello(SSL *ssl, int *alert, void *arg)
{
	static const unsigned char server[] = "\x0bxmpp-server";
	const unsigned char *in, *chosen = NULL;
	size_t in_len;

	/* RFC 7301 §3.1: the length of the list, the list; OpenSSL refuses a wrong one later */
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &in,
				      &in_len) == 1 &&
	    in_len > 2)
		chosen = tls_alpn_choose(ssl, in + 2, (unsigned)in_len - 2);
	if (chosen && chosen[0] == server[0] &&
	    memcmp(chosen, server, sizeof(server) - 1) == 0) {
		SSL_CTX *context = host_default() ? host_tls(host_default(), true) : NULL;

		tls_expect_server(ssl);
		if (context)
			SSL_set_SSL_CTX(ssl, context);
	}
	return SSL_CLIENT_HELLO_SUCCESS;
}

static int
tls_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
	    unsigned in_len, void *arg)
{
	const unsigned char *chosen = tls_alpn_choose(ssl, in, in_len);

	if (!SSL_get_app_data(ssl))
		return SSL_TLSEXT_ERR_NOACK;
	if (chosen) {
		*out = chosen + 1;
		*out_len = chosen[0];
		return SSL_TLSEXT_ERR_OK;
	}
	/* SECURITY: speaking XMPP to who asked for HTTP is how cross-protocol attacks begin (RFC
	 * 7301 §3.2). */
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A service is shown under its host's certificate. */
static struct iris_host *
tls_host_of(struct iris_str domain)
{
	struct iris_host *host = host_find(domain);
	struct iris_service *service = host ? NULL : service_find(domain);

	return service ? service->host : host;
}

/* The host that the client asks for; of an unknown one the stream header will say so. */
static int
tls_on_server_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct iris_arena *arena;
	struct iris_jid jid;
	struct iris_host *host = NULL;
	SSL_CTX *context;

	if (!name)
		return SSL_TLSEXT_ERR_NOACK;
	arena = arena_new();
	if (jid_parse(arena, str_from(name), &jid) && jid.node_len == 0 && jid_is_bare(&jid))
		host = tls_host_of(jid_domain(&jid));
	arena_unref(&arena);
	context = host ? host_tls(host, SSL_get_ex_data(ssl, server_index) != NULL) : NULL;
	if (!context)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_SSL_CTX(ssl, context);
	return SSL_TLSEXT_ERR_OK;
}

/* An OCSP response as it stands in the file, and until when it is worth something. */
struct tls_staple {
	time_t until;
	size_t len;
	unsigned char bytes[];
};

static pthread_once_t indices_once = PTHREAD_ONCE_INIT;
static int staple_index; /* of the context's data, freed with it */

static void
tls_on_context_free(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	OPENSSL_free(ptr);
}

static void
tls_make_indices(void)
{
	staple_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, tls_on_context_free);
	server_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	IRIS_ASSERT(staple_index >= 0 && server_index >= 0);
}

static int
tls_on_status(SSL *ssl, void *arg)
{
	const struct tls_staple *staple = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), staple_index);
	unsigned char *copy;

	if (!staple || staple->until < time(NULL))
		return SSL_TLSEXT_ERR_NOACK;
	copy = OPENSSL_memdup(staple->bytes, staple->len);
	if (!copy)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)staple->len);
	return SSL_TLSEXT_ERR_OK;
}

/* --- errors and warnings for the operator --- */

const char *
tls_reason(void)
{
	unsigned long code =
		ERR_peek_error(); /* the first one is the cause, the others what it led to */
	const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) :
						      ERR_reason_error_string(code);

	ERR_clear_error();
	return reason ? reason : "unknown";
}

static time_t
tls_time_of(const ASN1_TIME *time_)
{
	struct tm tm;

	return ASN1_TIME_to_tm(time_, &tm) == 1 ? timegm(&tm) : 0;
}

static void
tls_warn_of_expiry(SSL_CTX *context, const char *path)
{
	int64_t left = (int64_t)tls_time_of(X509_get0_notAfter(SSL_CTX_get0_certificate(context))) -
		       time(NULL);
	struct iris_error error;

	if (left > option_int(&tls_self, OPT_EXPIRY_WARNING) / 1000)
		return;
	if (left <= 0)
		error_set(&error, "the certificate has expired");
	else
		error_set(&error, "the certificate expires in %lld days",
			  (long long)(left / 86400));
	error_detail(&error, "%s", path);
	error_hint(&error, "install a renewed certificate, then reload");
	log_error(left <= 0 ? IRIS_LOG_ERROR : IRIS_LOG_WARNING, "tls", "certificate-expiry",
		  &error);
}

/* --- making a context --- */

static void
tls_context_set_policy(SSL_CTX *context)
{
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* The chain is that of the file: the authorities of clients are none of its. */
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static void
tls_context_set_server(SSL_CTX *context)
{
	SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_cert_verify_callback(context, tls_on_verify, NULL);
	SSL_CTX_set_session_id_context(context, (const unsigned char *)"iris", 4);
	SSL_CTX_set_client_hello_cb(context, tls_on_client_hello, NULL);
	SSL_CTX_set_alpn_select_cb(context, tls_on_alpn, NULL);
	SSL_CTX_set_tlsext_servername_callback(context, tls_on_server_name);
	SSL_CTX_set_tlsext_status_cb(context, tls_on_status);
}

static void
tls_context_set_tickets(SSL_CTX *context)
{
	if (!option_bool(&tls_self, OPT_TICKETS)) {
		SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(context, 0);
		return;
	}
	SSL_CTX_set_num_tickets(context, 1);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(context, tls_on_ticket);
	SSL_CTX_set_timeout(context, (long)(option_int(&tls_self, OPT_TICKET_ROTATION) / 1000));
}

static bool
tls_context_set_suites(SSL_CTX *context, struct iris_error *error)
{
	if (SSL_CTX_set_ciphersuites(context, TLS_SUITES_13) != 1 ||
	    SSL_CTX_set_cipher_list(context, TLS_SUITES_12) != 1 ||
	    SSL_CTX_set1_groups_list(context, TLS_GROUPS) != 1)
		return error_set(error, "OpenSSL does not know the cipher suites: %s",
				 tls_reason());
	return true;
}

bool
tls_context_set_client(SSL_CTX *context, struct iris_error *error)
{
	tls_context_set_policy(context);
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
	return tls_context_set_suites(context, error);
}

static bool
tls_context_load_identity(SSL_CTX *context, const char *certificate, const char *key,
			  struct iris_error *error)
{
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1) {
		error_set(error, "cannot read the certificate: %s", tls_reason());
		error_detail(error, "%s", certificate);
		return error_hint(error,
				  "a PEM file, the host's certificate first, then its chain");
	}
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
		error_set(error, "cannot use the private key: %s", tls_reason());
		error_detail(error, "%s", key);
		return error_hint(
			error,
			"a PEM file without passphrase that fits the certificate %s and that the "
			"server may read",
			certificate);
	}
	if (SSL_CTX_check_private_key(context) != 1) {
		error_set(error, "the private key does not fit the certificate");
		error_detail(error, "%s, %s", key, certificate);
		return error_hint(error, "both must come from the same request");
	}
	return true;
}

static bool
tls_context_trust_clients(SSL_CTX *context, struct iris_error *error)
{
	struct iris_str path = option_str(&tls_self, OPT_CLIENT_CA);
	char *file;
	bool ok;

	if (str_is_empty(path))
		return true;
	file = str_dup(path);
	ok = SSL_CTX_load_verify_file(context, file) == 1;
	if (ok) {
		SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(file));
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	} else {
		error_set(error, "cannot read the authorities of client certificates: %s",
			  tls_reason());
		error_detail(error, "%s", file);
		error_hint(error, "tls: client-ca names a PEM file of CA certificates");
	}
	free(file);
	return ok;
}

/* When the response stops being good; 0: it is none. */
static time_t
tls_staple_until(const unsigned char *bytes, long len)
{
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &bytes, len);
	OCSP_BASICRESP *basic = response ? OCSP_response_get1_basic(response) : NULL;
	OCSP_SINGLERESP *single = basic ? OCSP_resp_get0(basic, 0) : NULL;
	ASN1_GENERALIZEDTIME *next = NULL;
	time_t until = 0;

	if (single && OCSP_single_get0_status(single, NULL, NULL, NULL, &next) >= 0)
		until = next ? tls_time_of(next) : time(NULL) + 86400;
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	ERR_clear_error();
	return until;
}

/* The file's bytes, at most OCSP_MAX of them; NULL: there is none. */
static struct tls_staple *
tls_staple_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct tls_staple *staple;
	ssize_t len;

	if (fd < 0)
		return NULL;
	staple = OPENSSL_zalloc(sizeof(*staple) + OCSP_MAX);
	IRIS_ASSERT(staple);
	len = read(fd, staple->bytes, OCSP_MAX);
	close(fd);
	staple->len = len > 0 ? (size_t)len : 0;
	return staple;
}

static void
tls_context_load_staple(SSL_CTX *context, const char *certificate)
{
	struct iris_arena *arena = arena_new();
	struct iris_str path = arena_printf(arena, "%s.ocsp", certificate);
	struct tls_staple *staple = tls_staple_read(path.base);
	struct iris_error error;

	if (staple &&
	    (staple->until = tls_staple_until(staple->bytes, (long)staple->len)) > time(NULL)) {
		SSL_CTX_set_ex_data(context, staple_index, staple);
	} else if (staple) {
		OPENSSL_free(staple);
		error_set(&error, "the OCSP response is not stapled: it is malformed or too old");
		error_detail(&error, "%s", path.base);
		error_hint(&error, "fetch a new one, then reload");
		log_error(IRIS_LOG_WARNING, "tls", "ocsp-response", &error);
	}
	arena_unref(&arena);
}

static bool
tls_context_fill(SSL_CTX *context, const char *certificate, const char *key,
		 struct iris_error *error)
{
	tls_context_set_policy(context);
	tls_context_set_server(context);
	tls_context_set_tickets(context);
	if (!tls_context_set_suites(context, error) || !tls_context_trust_clients(context, error) ||
	    !tls_context_load_identity(context, certificate, key, error))
		return false;
	tls_warn_of_expiry(context, certificate);
	tls_context_load_staple(context, certificate);
	return true;
}

SSL_CTX *
tls_context_new(struct iris_str certificate, struct iris_str key, struct iris_error *error)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	char *certificate_path = str_dup(certificate), *key_path = str_dup(key);

	IRIS_ASSERT(context);
	pthread_once(&indices_once, tls_make_indices);
	if (!tls_context_fill(context, certificate_path, key_path, error)) {
		SSL_CTX_free(context);
		context = NULL;
	}
	free(certificate_path);
	free(key_path);
	return context;
}

SSL *
tls_accept_new(SSL_CTX *context, int fd, const char *const *alpn, bool from_server)
{
	SSL *ssl = SSL_new(context);

	IRIS_ASSERT(ssl);
	if (SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	SSL_set_app_data(ssl, (void *)(uintptr_t)alpn);
	if (from_server)
		tls_expect_server(ssl);
	SSL_set_accept_state(ssl);
	return ssl;
}

X509 *
tls_peer_certificate(SSL *ssl)
{
	if (!(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) ||
	    SSL_get_verify_result(ssl) != X509_V_OK)
		return NULL;
	return SSL_get0_peer_certificate(ssl);
}

/* --- channel bindings --- */

static bool
tls_binding_exporter(SSL *ssl, struct iris_arena *arena, struct iris_str *data_r)
{
	static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 §2 */
	unsigned char *data = arena_alloc(arena, 32);

	if (SSL_version(ssl) < TLS1_3_VERSION ||
	    SSL_export_keying_material(ssl, data, 32, label, sizeof(label) - 1, NULL, 0, 1) != 1)
		return false;
	*data_r = (struct iris_str){ (const char *)data, 32 };
	return true;
}

/* RFC 5929 §4.1: MD5 and SHA-1 are replaced by SHA-256; no single digest, no binding. */
static bool
tls_binding_end_point(SSL *ssl, struct iris_arena *arena, struct iris_str *data_r)
{
	X509 *certificate = SSL_get_certificate(ssl);
	unsigned char *data = arena_alloc(arena, EVP_MAX_MD_SIZE);
	unsigned len = EVP_MAX_MD_SIZE;
	const EVP_MD *digest;
	int digest_nid;

	if (!certificate ||
	    !OBJ_find_sigid_algs(X509_get_signature_nid(certificate), &digest_nid, NULL))
		return false;
	if (digest_nid == NID_md5 || digest_nid == NID_sha1)
		digest_nid = NID_sha256;
	digest = EVP_get_digestbynid(digest_nid);
	if (!digest || X509_digest(certificate, digest, data, &len) != 1)
		return false;
	*data_r = (struct iris_str){ (const char *)data, len };
	return true;
}

/*
 * RFC 5929 §3: the first Finished message, of the client in a full handshake.
 * COMPAT(slixmpp): also on TLS 1.3, where it is undefined but the same on both sides.
 */
static bool
tls_binding_unique(SSL *ssl, struct iris_arena *arena, struct iris_str *data_r)
{
	unsigned char *data = arena_alloc(arena, EVP_MAX_MD_SIZE);
	size_t len = SSL_session_reused(ssl) ? SSL_get_finished(ssl, data, EVP_MAX_MD_SIZE) :
					       SSL_get_peer_finished(ssl, data, EVP_MAX_MD_SIZE);

	*data_r = (struct iris_str){ (const char *)data, len };
	return len > 0 && len <= EVP_MAX_MD_SIZE;
}

bool
tls_channel_binding(SSL *ssl, const char *type, struct iris_arena *arena, struct iris_str *data_r)
{
	static const struct {
		const char *type;
		bool (*get)(SSL *ssl, struct iris_arena *arena, struct iris_str *data_r);
	} bindings[] = {
		{ "tls-exporter", tls_binding_exporter },
		{ "tls-server-end-point", tls_binding_end_point },
		{ "tls-unique", tls_binding_unique },
	};

	for (size_t i = 0; i < IRIS_COUNT(bindings); i++)
		if (strcmp(bindings[i].type, type) == 0)
			return bindings[i].get(ssl, arena, data_r);
	return false;
}

const char *const *
tls_channel_bindings(SSL *ssl)
{
	static const char *const all[] = { "tls-exporter", "tls-server-end-point", "tls-unique",
					   NULL };
	static const char *const no_end_point[] = { "tls-exporter", "tls-unique", NULL };
	struct iris_arena *arena = arena_new();
	struct iris_str data;
	const char *const *list = tls_binding_end_point(ssl, arena, &data) ? all : no_end_point;

	arena_unref(&arena);
	return SSL_version(ssl) < TLS1_3_VERSION ? list + 1 : list;
}

/* --- the module --- */

static const struct iris_option tls_options[] = {
	[OPT_CLIENT_CA] = { "client-ca", IRIS_OPT_PATH, .optional = true, .reloadable = true,
			    .help = "Certificates of the authorities whose client certificates may "
				    "sign in (SASL EXTERNAL)." },
	[OPT_TICKETS] = { "tickets", IRIS_OPT_BOOL, "true", .reloadable = true,
			  .help = "Whether clients may resume TLS sessions by tickets." },
	[OPT_TICKET_ROTATION] = { "ticket-rotation", IRIS_OPT_DURATION, "6 hours", .min = 60000,
				  .max = 604800000, .reloadable = true,
				  .help = "How long a ticket key seals new tickets; it opens old "
					  "ones for as long again." },
	[OPT_EXPIRY_WARNING] = { "expiry-warning", IRIS_OPT_DURATION, "14 days", .max = 31536000000,
				 .reloadable = true,
				 .help = "How long before its end a certificate is warned about, "
					 "at start and reload." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_tls = {
	IRIS_MODULE_HEAD,  .name = "tls",	   .summary = "TLS of all hosts",
	.self = &tls_self, .options = tls_options, .at_edge = true, .not_unloadable = true,
};
