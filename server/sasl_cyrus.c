/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsasl2, tamed.  It verifies; what it verifies against was fetched before, on the fiber, and is
 * handed to it from memory by a credential plug-in of our own, so that it never waits.  No plug-in
 * is loaded but SCRAM and PLAIN, no configuration file is read.
 *
 * Four rules hold here, each found the hard way: SASL_SUCCESS_DATA always (without it a second step
 * after a failed channel binding says OK); the connection is disposed after anything but OK and
 * CONTINUE; records are checked by us, it has no range checks; its result codes are only ever
 * compared with OK and CONTINUE.  Any worker, one exchange on one thread at a time.
 */
#include <pthread.h>
#include <stdlib.h>

#include <sasl/sasl.h>
#include <sasl/saslplug.h>

#include "iris/log.h"
#include "sasl_private.h"

#define AUTH_PASSWORD "*authPassword"

/*
 * The name that libsasl2 knows everybody by: whose exchange it is, we know, and its buffer is too
 * small for a JID.
 */
static const char account_name[] = "account";

static void *
mutex_new(void)
{
	pthread_mutex_t *mutex = iris_malloc(sizeof(*mutex));

	IRIS_ASSERT(pthread_mutex_init(mutex, NULL) == 0);
	return mutex;
}

static int
mutex_lock(void *mutex)
{
	return pthread_mutex_lock(mutex) == 0 ? SASL_OK : SASL_FAIL;
}

static int
mutex_unlock(void *mutex)
{
	return pthread_mutex_unlock(mutex) == 0 ? SASL_OK : SASL_FAIL;
}

static void
mutex_free(void *mutex)
{
	(void)pthread_mutex_destroy(mutex);
	free(mutex);
}

/* SECURITY: only what is meant to be there is loaded, not what was dropped into a folder. */
static int
verify_file(void *context, const char *file, sasl_verify_type_t type)
{
	const char *base = strrchr(file, '/');

	base = base ? base + 1 : file;
	if (type != SASL_VRFY_PLUGIN)
		return SASL_CONTINUE;
	if (strncmp(base, "libscram.", 9) == 0 || strncmp(base, "libplain.", 9) == 0)
		return SASL_OK;
	return SASL_CONTINUE;
}

static int
get_option(void *context, const char *plugin, const char *option, const char **result,
	   unsigned *len)
{
	static const char *const options[][2] = {
		{ "auxprop_plugin", "iris" },
		{ "pwcheck_method", "auxprop" },
		{ "mech_list", "SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN EXTERNAL" },
	};

	for (size_t i = 0; i < IRIS_COUNT(options); i++) {
		if (strcmp(option, options[i][0]) != 0)
			continue;
		*result = options[i][1];
		if (len)
			*len = (unsigned)strlen(*result);
		return SASL_OK;
	}
	return SASL_FAIL;
}

static int
log_message(void *context, int level, const char *message)
{
	if (level == SASL_LOG_ERR)
		LOG(IRIS_LOG_DEBUG, "sasl", "library", LOG_CSTR("message", message));
	return SASL_OK;
}

/* lint: parameters, libsasl2 has it so. */
static int
canonicalise(sasl_conn_t *conn, void *context, const char *in, unsigned in_len, unsigned flags,
	     const char *realm, char *out, unsigned out_max, unsigned *out_len)
{
	if (out_max < sizeof(account_name))
		return SASL_BUFOVER;
	memcpy(out, account_name, sizeof(account_name));
	*out_len = sizeof(account_name) - 1;
	return SASL_OK;
}

static int
check_password(sasl_conn_t *conn, void *context, const char *user, const char *password,
	       unsigned len, struct propctx *properties)
{
	const struct sasl_exchange *exchange = context;

	if (exchange->builtin->family == SASL_PLAIN && exchange->password_is_right)
		return SASL_OK;
	return SASL_BADAUTH;
}

/* "SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>", one value for each hash. */
static void
give_verifier(const sasl_utils_t *utils, struct propctx *properties, const struct iris_scram *scram)
{
	struct iris_arena *arena = arena_new();
	struct iris_str value;

	IRIS_ASSERT(scram->iterations >= SCRAM_ITERATIONS_MIN &&
		    scram->iterations <= SCRAM_ITERATIONS_MAX);
	value = arena_printf(arena, "%.*s$%u:%s$%s:%s", IRIS_STR_FMT(scram->mechanism),
			     scram->iterations, base64_encode(arena, scram->salt).base,
			     base64_encode(arena, scram->stored_key).base,
			     base64_encode(arena, scram->server_key).base);
	(void)utils->prop_set(properties, AUTH_PASSWORD, value.base, (int)value.len);
	arena_unref(&arena);
}

static struct sasl_exchange *
exchange_of(const sasl_utils_t *utils)
{
	sasl_callback_ft fn;
	void *context = NULL;

	if (utils->getcallback(utils->conn, SASL_CB_SERVER_USERDB_CHECKPASS, &fn, &context) !=
	    SASL_OK)
		return NULL;
	return context;
}

/*
 * Called twice; for the authorization identity (which we have checked) the answer is always the
 * same.
 */
static int
look_up(void *glob_context, sasl_server_params_t *params, unsigned flags, const char *user,
	unsigned len)
{
	struct sasl_exchange *exchange = exchange_of(params->utils);
	const struct propval *wanted;

	if (flags & SASL_AUXPROP_AUTHZID)
		return SASL_OK;
	wanted = params->utils->prop_get(params->propctx);
	if (!exchange || !wanted)
		return SASL_FAIL;
	for (; wanted->name; wanted++) {
		if (strcmp(wanted->name, AUTH_PASSWORD) != 0)
			continue;
		for (size_t i = 0; i < exchange->credentials.scram_count; i++)
			give_verifier(params->utils, params->propctx,
				      &exchange->credentials.scram[i]);
	}
	return SASL_OK;
}

static int
init_credentials(const sasl_utils_t *utils, int max_version, int *out_version,
		 sasl_auxprop_plug_t **plug, const char *name)
{
	static char plugin_name[] = "iris";
	static sasl_auxprop_plug_t plugin = { .name = plugin_name, .auxprop_lookup = look_up };

	if (max_version < SASL_AUXPROP_PLUG_VERSION)
		return SASL_BADVERS;
	*out_version = SASL_AUXPROP_PLUG_VERSION;
	*plug = &plugin;
	return SASL_OK;
}

/* The generic function pointer that libsasl2's tables hold. */
#define CALLBACK(fn) ((int (*)(void))(void (*)(void))(fn))

static void
fill_callbacks(struct sasl_exchange *exchange)
{
	exchange->callbacks[0] = (sasl_callback_t){ SASL_CB_SERVER_USERDB_CHECKPASS,
						    CALLBACK(check_password), exchange };
	exchange->callbacks[1] = (sasl_callback_t){ SASL_CB_CANON_USER, CALLBACK(canonicalise),
						    exchange };
	exchange->callbacks[2] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
}

static bool
connect_exchange(struct sasl_exchange *exchange)
{
	sasl_security_properties_t properties = { .max_ssf = 0 }; /* TLS is the security layer */
	sasl_ssf_t ssf = exchange->peer.is_secure ? 256 : 0;
	const char *domain = arena_copy_str(exchange->arena, exchange->peer.domain).base;

	fill_callbacks(exchange);
	if (sasl_server_new("xmpp", domain, NULL, NULL, NULL, exchange->callbacks,
			    SASL_SUCCESS_DATA, &exchange->conn) != SASL_OK)
		return false;
	if (sasl_setprop(exchange->conn, SASL_SEC_PROPS, &properties) != SASL_OK ||
	    sasl_setprop(exchange->conn, SASL_SSF_EXTERNAL, &ssf) != SASL_OK)
		return false;
	if (exchange->builtin->family == SASL_EXTERNAL &&
	    sasl_setprop(exchange->conn, SASL_AUTH_EXTERNAL, account_name) != SASL_OK)
		return false;
	return !exchange->channel_binding.name ||
	       sasl_setprop(exchange->conn, SASL_CHANNEL_BINDING, &exchange->channel_binding) ==
		       SASL_OK;
}

int
cyrus_step(struct sasl_exchange *exchange, struct iris_str message, struct iris_arena *arena,
	   struct iris_str *data_r)
{
	const char *out = NULL;
	unsigned out_len = 0;
	int result;

	*data_r = IRIS_STR_NONE;
	if (!exchange->conn) {
		if (!connect_exchange(exchange))
			return SASL_FAIL;
		result = sasl_server_start(exchange->conn, exchange->builtin->name, message.base,
					   (unsigned)message.len, &out, &out_len);
	} else {
		result = sasl_server_step(exchange->conn, message.base, (unsigned)message.len, &out,
					  &out_len);
	}
	if ((result == SASL_OK || result == SASL_CONTINUE) && out)
		*data_r = arena_copy_str(arena, (struct iris_str){ out, out_len });
	return result;
}

void
cyrus_dispose(struct sasl_exchange *exchange)
{
	if (exchange->conn)
		sasl_dispose(&exchange->conn);
}

static bool
has_mechanisms(struct iris_error *error)
{
	const char **names = sasl_global_listmech();
	bool scram = false, plain = false;

	for (; names && *names; names++) {
		scram = scram || strcmp(*names, "SCRAM-SHA-256") == 0;
		plain = plain || strcmp(*names, "PLAIN") == 0;
	}
	if (scram && plain)
		return true;
	error_set(error, "libsasl2 has no %s mechanism", scram ? "PLAIN" : "SCRAM-SHA-256");
	return error_hint(error, "install its modules (Debian: libsasl2-modules)");
}

bool
cyrus_open(struct iris_error *error)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_VERIFYFILE, CALLBACK(verify_file), NULL },
		{ SASL_CB_GETOPT, CALLBACK(get_option), NULL },
		{ SASL_CB_LOG, CALLBACK(log_message), NULL },
		{ SASL_CB_LIST_END, NULL, NULL },
	};
	int result;

	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	result = sasl_server_init(callbacks, "iris");
	if (result == SASL_OK)
		result = sasl_auxprop_add_plugin("iris", init_credentials);
	if (result != SASL_OK)
		return error_set(error, "libsasl2 does not start: %s",
				 sasl_errstring(result, NULL, NULL));
	return has_mechanisms(error);
}

void
cyrus_close(void)
{
	sasl_server_done();
}
