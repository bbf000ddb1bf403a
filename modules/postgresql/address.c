/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the servers are: the connection string with its names looked up.  libpq would ask the DNS
 * in the middle of a worker's turn, so addresses are handed to it, and the background's thread
 * looks them up again when an attempt fails.  Any thread; see the header for what blocks.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "iris/gate.h"
#include "modules/postgresql/postgresql_private.h"

#define ADDRESSES_MAX 16
#define LIST_SIZE 2048
#define KEYWORDS_MAX 64

struct address {
	char host[256], numeric[INET6_ADDRSTRLEN], port[8];
};

struct address_list {
	struct address entries[ADDRESSES_MAX];
	unsigned count;
};

static PQconninfoOption *address_options; /* what the operator wrote; immutable while open */
static pthread_mutex_t address_lock = PTHREAD_MUTEX_INITIALIZER;
static struct address_list addresses; /* under the lock */

/* What libpq is told unless the operator said otherwise. */
static const struct {
	const char *keyword, *value;
} address_defaults[] = {
	{ "target_session_attrs", "read-write" },
	{ "client_encoding", "UTF8" },
	{ "keepalives_idle", "30" },
	{ "keepalives_interval", "10" },
	{ "keepalives_count", "3" },
	{ "tcp_user_timeout", "30000" },
};

static const char *
option_in(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *option = options; option->keyword; option++)
		if (strcmp(option->keyword, keyword) == 0)
			return option->val && option->val[0] ? option->val : NULL;
	return NULL;
}

static const char *
option_of(const char *keyword)
{
	return option_in(address_options, keyword);
}

/* The n-th element of a list separated by commas; a list of one stands for all. */
static void
list_element(const char *list, unsigned n, char *out, size_t size)
{
	const char *at = list ? list : "";

	while (n > 0 && strchr(at, ',')) {
		at = strchr(at, ',') + 1;
		n--;
	}
	(void)snprintf(out, size, "%.*s", (int)strcspn(at, ","), at);
}

static unsigned
list_length(const char *list)
{
	unsigned count = list ? 1 : 0;

	for (const char *at = list; at && (at = strchr(at, ',')); at++)
		count++;
	return count;
}

static void
list_add(struct address_list *list, const char *host, const char *numeric, const char *port)
{
	if (list->count == ADDRESSES_MAX)
		return;
	struct address *entry = &list->entries[list->count++];
	(void)snprintf(entry->host, sizeof(entry->host), "%s", host);
	(void)snprintf(entry->numeric, sizeof(entry->numeric), "%s", numeric);
	(void)snprintf(entry->port, sizeof(entry->port), "%s", port);
}

/* All addresses of a name, each as a server of its own. A name that is unknown now may be known
 * later. */
static void
list_add_name(struct address_list *list, const char *host, const char *port)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char numeric[INET6_ADDRSTRLEN];

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return;
	for (const struct addrinfo *info = found; info; info = info->ai_next)
		if (getnameinfo(info->ai_addr, info->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
				NI_NUMERICHOST) == 0)
			list_add(list, host, numeric, port);
	freeaddrinfo(found);
}

static bool
host_is_name(const char *host)
{
	struct in6_addr ignored;

	return host[0] && host[0] != '/' && host[0] != '@' &&
	       inet_pton(AF_INET, host, &ignored) != 1 && inet_pton(AF_INET6, host, &ignored) != 1;
}

static void
list_make(struct address_list *list)
{
	const char *hosts = option_of("host"), *numerics = option_of("hostaddr"),
		   *ports = option_of("port");
	unsigned count = list_length(hosts) > list_length(numerics) ? list_length(hosts) :
								      list_length(numerics);
	char host[256], numeric[INET6_ADDRSTRLEN], port[8];

	list->count = 0;
	for (unsigned i = 0; i < count; i++) {
		list_element(hosts, i, host, sizeof(host));
		list_element(numerics, i, numeric, sizeof(numeric));
		list_element(ports, i, port, sizeof(port));
		if (!numeric[0] && host_is_name(host))
			list_add_name(list, host, port);
		else
			list_add(list, host, numeric, port);
	}
}

void
pg_address_refresh(void)
{
	struct address_list *list = iris_malloc(sizeof(*list)); /* too large for a frame */

	list_make(list);
	if (list->count > 0) { /* else the DNS is silent: the old ones are better than none */
		pthread_mutex_lock(&address_lock);
		addresses = *list;
		pthread_mutex_unlock(&address_lock);
	}
	free(list);
}

/* Every server is a number or a folder of sockets, and written here: nobody looks anything up. */
static bool
options_name_nobody(const PQconninfoOption *options)
{
	const char *hosts = option_in(options, "host"), *numerics = option_in(options, "hostaddr");
	char host[256], numeric[INET6_ADDRSTRLEN];

	if ((!hosts && !numerics) || option_in(options, "service"))
		return false;
	for (unsigned i = 0; i < list_length(hosts) || i < list_length(numerics); i++) {
		list_element(hosts, i, host, sizeof(host));
		list_element(numerics, i, numeric, sizeof(numeric));
		if (!numeric[0] && (!host[0] || host_is_name(host)))
			return false;
	}
	return true;
}

/* SECURITY: an isolated region asks no DNS (P2.1): who answers there could lead its data away. */
static bool
options_are_allowed(const PQconninfoOption *options, struct iris_error *error)
{
	if (!region_is_isolated() || options_name_nobody(options))
		return true;
	error_set(error, "The database: an isolated region reaches it by address only");
	return error_hint(error, "postgresql.connect: hostaddr=192.0.2.7, or "
				 "host=/run/postgresql; no name, no service");
}

bool
pg_address_check(const char *connect, struct iris_error *error)
{
	PQconninfoOption *options = PQconninfoParse(connect, NULL);
	bool allowed = !options || options_are_allowed(options, error);

	PQconninfoFree(options);
	return allowed;
}

bool
pg_address_open(const char *connect, struct iris_error *error)
{
	char *problem = NULL;

	address_options = PQconninfoParse(connect, &problem);
	if (!address_options) {
		error_set(error, "The database: the connection string is not understood");
		error_detail(error, "%s", problem ? problem : "");
		PQfreemem(problem);
		return error_hint(error,
				  "It is one of libpq's: host=db1,db2 dbname=iris user=iris");
	}
	if (!options_are_allowed(address_options, error)) {
		pg_address_close();
		return false;
	}
	addresses.count = 0;
	pg_address_refresh();
	return true;
}

void
pg_address_close(void)
{
	PQconninfoFree(address_options);
	address_options = NULL;
}

unsigned
pg_address_count(void)
{
	pthread_mutex_lock(&address_lock);
	unsigned count = addresses.count;
	pthread_mutex_unlock(&address_lock);
	return count > 0 ? count : 1;
}

/* --- connecting --- */

struct parameters {
	const char *keywords[KEYWORDS_MAX + 1], *values[KEYWORDS_MAX + 1];
	unsigned count;
	char hosts[LIST_SIZE], numerics[LIST_SIZE], ports[LIST_SIZE / 4];
};

static void
parameters_add(struct parameters *parameters, const char *keyword, const char *value)
{
	IRIS_ASSERT(parameters->count < KEYWORDS_MAX);
	parameters->keywords[parameters->count] = keyword;
	parameters->values[parameters->count++] = value;
}

static void
join(char *list, size_t size, const char *element, bool first)
{
	size_t len = strlen(list);
	(void)snprintf(list + len, size - len, "%s%s", first ? "" : ",", element);
}

/*
 * libpq goes through the list itself, but waits for each server as long as TCP does: an attempt
 * whose time is over is followed by one that begins with the next.
 */
static void
parameters_add_addresses(struct parameters *parameters, unsigned attempt)
{
	pthread_mutex_lock(&address_lock);
	unsigned count = addresses.count;
	for (unsigned i = 0; i < count; i++) {
		const struct address *entry = &addresses.entries[(i + attempt) % count];
		join(parameters->hosts, sizeof(parameters->hosts), entry->host, i == 0);
		join(parameters->numerics, sizeof(parameters->numerics), entry->numeric, i == 0);
		join(parameters->ports, sizeof(parameters->ports), entry->port, i == 0);
	}
	pthread_mutex_unlock(&address_lock);
	if (count == 0) {
		if (option_of("port"))
			parameters_add(parameters, "port", option_of("port"));
		return;
	}
	parameters_add(parameters, "host", parameters->hosts);
	parameters_add(parameters, "hostaddr", parameters->numerics);
	parameters_add(parameters, "port", parameters->ports);
}

static bool
keyword_is_ours(const char *keyword)
{
	return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 ||
	       strcmp(keyword, "port") == 0 || strcmp(keyword, "application_name") == 0;
}

PGconn *
pg_address_connect(unsigned attempt, const char *application)
{
	struct parameters *parameters = iris_calloc(1, sizeof(*parameters));

	for (const PQconninfoOption *option = address_options; option->keyword; option++)
		if (option->val && option->val[0] && !keyword_is_ours(option->keyword))
			parameters_add(parameters, option->keyword, option->val);
	for (size_t i = 0; i < IRIS_COUNT(address_defaults); i++)
		if (!option_of(address_defaults[i].keyword))
			parameters_add(parameters, address_defaults[i].keyword,
				       address_defaults[i].value);
	parameters_add(parameters, "application_name", application);
	parameters_add_addresses(parameters, attempt);
	PGconn *pg = PQconnectStartParams(parameters->keywords, parameters->values, 0);
	free(parameters);
	return pg;
}
