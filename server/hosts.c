/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The domains this server serves, and their certificates.  Any worker reads; the main thread makes
 * a new table at reload and swaps it.  A host's struct is never freed while the process serves
 * (streams point to it): a domain that comes back after a reload gets its old one, a domain that
 * went is only no longer found.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "iris/module.h"
#include "module_private.h"
#include "tls.h"
#include "worker_private.h"

enum { OPT_DOMAINS };
enum { DOMAIN_NAME,
       DOMAIN_CERTIFICATE,
       DOMAIN_KEY,
       DOMAIN_SERVER_CERTIFICATE,
       DOMAIN_SERVER_KEY };

/* For whom a certificate is. */
enum { FOR_CLIENTS, FOR_SERVERS, AUDIENCES };

struct host {
	struct iris_host public;
	_Atomic(SSL_CTX *) tls[AUDIENCES]; /* FOR_SERVERS: NULL where it is the same */
	struct host *next_known; /* of all there ever were; main thread only */
};

struct hosts_entry {
	struct iris_hash_node node;
	struct host *host;
};

/* Immutable once published. */
struct hosts_table {
	struct iris_hash names;
	struct hosts_table *older; /* kept until stop: readers have no lock */
	uint64_t number;           /* no other table has had it */
	size_t count;
	struct hosts_entry entries[];
};

static struct iris_module_self hosts_self;
static _Atomic(struct hosts_table *) hosts_current;
static struct host *hosts_known;

static struct host *
hosts_know(struct iris_str name)
{
	struct host *host;

	for (host = hosts_known; host; host = host->next_known)
		if (str_equal(host->public.name, name))
			return host;
	host = iris_calloc(1, sizeof(*host));
	host->public.name = str_from(str_dup(name));
	host->next_known = hosts_known;
	hosts_known = host;
	return host;
}

static bool
hosts_prepare_name(struct iris_arena *arena, const struct iris_settings *record,
		   struct iris_str *name_r, struct iris_error *error)
{
	struct iris_str written = settings_str(record, DOMAIN_NAME),
			where = settings_where(record, DOMAIN_NAME);
	struct iris_jid jid;

	if (!jid_parse(arena, written, &jid) || jid.node_len > 0 || !jid_is_bare(&jid)) {
		error_set(error, "\"%.*s\" is not a domain", IRIS_STR_FMT(written));
		return error_detail(error, "%.*s", IRIS_STR_FMT(where));
	}
	*name_r = jid_domain(&jid);
	return true;
}

/* Puts a domain into the table under construction. */
static bool
hosts_table_add(struct hosts_table *table, const struct iris_settings *record,
		struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	struct hosts_entry *entry = &table->entries[table->count];
	struct iris_str name, where = settings_where(record, DOMAIN_NAME);
	bool ok = hosts_prepare_name(arena, record, &name, error);

	if (ok && hash_find(&table->names, name)) {
		error_set(error, "the domain %.*s is there twice", IRIS_STR_FMT(name));
		ok = error_detail(error, "%.*s", IRIS_STR_FMT(where));
	}
	if (ok) {
		entry->host = hosts_know(name);
		hash_insert(&table->names, &entry->node, entry->host->public.name);
		table->count++;
	}
	arena_unref(&arena);
	return ok;
}

static void
hosts_table_free(struct hosts_table **table_p)
{
	struct hosts_table *table = *table_p;

	if (!table)
		return;
	*table_p = NULL;
	for (size_t i = 0; i < table->count; i++)
		hash_remove(&table->names, &table->entries[i].node);
	hash_free(&table->names);
	free(table);
}

static struct hosts_table *
hosts_table_make(const struct iris_settings *settings, struct iris_error *error)
{
	size_t count = settings_count(settings, OPT_DOMAINS);
	struct hosts_table *table =
		iris_calloc(1, sizeof(*table) + count * sizeof(table->entries[0]));

	for (size_t i = 0; i < count; i++)
		if (!hosts_table_add(table, settings_record(settings, OPT_DOMAINS, i), error)) {
			hosts_table_free(&table);
			return NULL;
		}
	return table;
}

static bool
hosts_load_context(const struct iris_settings *record, int certificate_field, SSL_CTX **context_r,
		   struct iris_error *error)
{
	bool for_servers = certificate_field == DOMAIN_SERVER_CERTIFICATE;
	struct iris_str certificate = settings_str(record, certificate_field),
			key = settings_str(record, for_servers ? DOMAIN_SERVER_KEY : DOMAIN_KEY);
	struct iris_str where = settings_where(record, DOMAIN_NAME);

	*context_r = NULL;
	if (str_is_empty(certificate) && str_is_empty(key))
		return true;
	if (str_is_empty(certificate) || str_is_empty(key)) {
		error_set(error, "%s belong together",
			  for_servers ? "server-certificate and server-key" :
					"certificate and key");
		return error_detail(error, "%.*s", IRIS_STR_FMT(where));
	}
	*context_r = tls_context_new(certificate, key, error);
	return *context_r != NULL;
}

/* A domain without a certificate can only be served to roles that need no TLS. */
static bool
hosts_load_tls(const struct iris_settings *record, SSL_CTX *contexts_r[AUDIENCES],
	       struct iris_error *error)
{
	struct iris_str where = settings_where(record, DOMAIN_NAME);

	contexts_r[FOR_SERVERS] = NULL;
	if (!hosts_load_context(record, DOMAIN_CERTIFICATE, &contexts_r[FOR_CLIENTS], error))
		return false;
	if (hosts_load_context(record, DOMAIN_SERVER_CERTIFICATE, &contexts_r[FOR_SERVERS],
			       error)) {
		if (contexts_r[FOR_CLIENTS] || !contexts_r[FOR_SERVERS])
			return true;
		error_set(error, "server-certificate is there without certificate");
		error_detail(error, "%.*s", IRIS_STR_FMT(where));
		error_hint(error, "where only servers are met, certificate is enough");
		SSL_CTX_free(contexts_r[FOR_SERVERS]);
	}
	SSL_CTX_free(contexts_r[FOR_CLIENTS]);
	return false;
}

static void
hosts_nothing(void *arg)
{
}

/* Publishes contexts; those before are freed when no worker can be between finding and counting
 * them. */
static void
hosts_swap_tls(struct host *host, SSL_CTX *const contexts[AUDIENCES], bool running)
{
	SSL_CTX *old[AUDIENCES];

	for (int i = 0; i < AUDIENCES; i++)
		old[i] = atomic_exchange(&host->tls[i], contexts[i]);
	if ((old[FOR_CLIENTS] || old[FOR_SERVERS]) && running)
		workers_each(hosts_nothing, NULL);
	for (int i = 0; i < AUDIENCES; i++)
		SSL_CTX_free(old[i]);
}

static void
hosts_publish(struct hosts_table *table)
{
	static uint64_t number;

	table->number = ++number;
	table->older = atomic_load(&hosts_current);
	atomic_store_explicit(&hosts_current, table, memory_order_release);
}

static void
hosts_stop(void)
{
	struct hosts_table *table = atomic_exchange(&hosts_current, NULL);
	struct host *host;

	while (table) {
		struct hosts_table *older = table->older;

		hosts_table_free(&table);
		table = older;
	}
	while ((host = hosts_known) != NULL) {
		hosts_known = host->next_known;
		for (int i = 0; i < AUDIENCES; i++)
			SSL_CTX_free(atomic_load(&host->tls[i]));
		free((char *)(uintptr_t)host->public.name.base);
		free(host);
	}
}

static bool
hosts_check(const struct iris_settings *settings, struct iris_error *error)
{
	if (settings_count(settings, OPT_DOMAINS) > 0)
		return true;
	error_set(error, "no domain is configured");
	return error_hint(error,
			  "hosts: {domains: [{name: example.org, certificate: FILE, key: FILE}]}");
}

static bool
hosts_start(struct iris_error *error)
{
	const struct iris_settings *settings = atomic_load(&hosts_self.settings);
	struct hosts_table *table = hosts_table_make(settings, error);

	if (!table)
		return false;
	hosts_publish(table);
	for (size_t i = 0; i < table->count; i++) {
		SSL_CTX *contexts[AUDIENCES];

		if (!hosts_load_tls(settings_record(settings, OPT_DOMAINS, i), contexts, error)) {
			hosts_stop();
			return false;
		}
		hosts_swap_tls(table->entries[i].host, contexts, false);
	}
	return true;
}

/* What cannot be loaded stays as it was, and is told. */
static void
hosts_reload(void)
{
	const struct iris_settings *settings = atomic_load(&hosts_self.settings);
	struct iris_error error = { .message = "" };
	struct hosts_table *table = hosts_table_make(settings, &error);

	if (!table) {
		log_error(IRIS_LOG_ERROR, "hosts", "reload", &error);
		return;
	}
	for (size_t i = 0; i < table->count; i++) {
		SSL_CTX *contexts[AUDIENCES];

		error = (struct iris_error){ .message = "" };
		if (hosts_load_tls(settings_record(settings, OPT_DOMAINS, i), contexts, &error))
			hosts_swap_tls(table->entries[i].host, contexts, true);
		else
			log_error(IRIS_LOG_ERROR, "hosts", "reload", &error);
	}
	hosts_publish(table);
}

struct iris_host *
host_find(struct iris_str domain)
{
	/* Mostly it is the same again: a delivery asks several times, and so does the next. */
	static _Thread_local struct {
		uint64_t table;
		struct iris_hash_node *node;
	} last;
	const struct hosts_table *table =
		atomic_load_explicit(&hosts_current, memory_order_acquire);
	struct iris_hash_node *node;

	if (!table)
		return NULL;
	node = last.node;
	if (last.table != table->number || !str_equal(node->key, domain))
		node = hash_find(&table->names, domain);
	if (!node)
		return NULL;
	last.table = table->number;
	last.node = node;
	return &IRIS_CONTAINER(node, struct hosts_entry, node)->host->public;
}

void
host_each(void (*fn)(struct iris_host *host, void *arg), void *arg)
{
	const struct hosts_table *table =
		atomic_load_explicit(&hosts_current, memory_order_acquire);

	for (size_t i = 0; table && i < table->count; i++)
		fn(&table->entries[i].host->public, arg);
}

struct iris_host *
host_default(void)
{
	const struct hosts_table *table =
		atomic_load_explicit(&hosts_current, memory_order_acquire);

	return table && table->count > 0 ? &table->entries[0].host->public : NULL;
}

SSL_CTX *
host_tls(const struct iris_host *host, bool to_server)
{
	const struct host *own = IRIS_CONTAINER(host, struct host, public);
	SSL_CTX *for_servers = to_server ? atomic_load(&own->tls[FOR_SERVERS]) : NULL;

	return for_servers ? for_servers : atomic_load(&own->tls[FOR_CLIENTS]);
}

static const struct iris_option domain_fields[] = {
	[DOMAIN_NAME] = { "name", IRIS_OPT_STRING, NULL, .min = 1, .max = JID_PART_MAX,
			  .help = "The domain." },
	[DOMAIN_CERTIFICATE] = { "certificate", IRIS_OPT_PATH, .optional = true,
				 .help = "PEM file: the domain's certificate, then its chain; "
					 "FILE.ocsp next to it is stapled." },
	[DOMAIN_KEY] = { "key", IRIS_OPT_PATH, .optional = true,
			 .help = "PEM file: the private key." },
	[DOMAIN_SERVER_CERTIFICATE] = { "server-certificate", IRIS_OPT_PATH, .optional = true,
					.help = "As `certificate`, shown to other servers in its "
						"place: where they know an authority that clients "
						"do not." },
	[DOMAIN_SERVER_KEY] = { "server-key", IRIS_OPT_PATH, .optional = true,
				.help = "PEM file: the private key of `server-certificate`." },
	IRIS_OPTIONS_END,
};

static const struct iris_option hosts_options[] = {
	[OPT_DOMAINS] = { "domains", IRIS_OPT_RECORDS, .optional = true, .reloadable = true,
			  .fields = domain_fields,
			  .help = "The domains that are served; the first one answers for those "
				  "who name none." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_hosts = {
	IRIS_MODULE_HEAD,	    .name = "hosts",	  .summary = "The domains that are served",
	.needs = IRIS_NAMES("tls"), .self = &hosts_self,  .options = hosts_options,
	.not_unloadable = true,
	.at_edge = true,	    .check = hosts_check, .start = hosts_start,
	.reload = hosts_reload,	    .stop = hosts_stop,
};
