/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What works while the server is down: checking the configuration, making and upgrading the
 * database, the operator's credential.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "irisctl.h"
#include "iris/gate.h"
#include "modules/accounts/accounts.h"
#include "log_private.h"
#include "module_private.h"
#include "process.h"
#include "server_private.h"
#include "vault_private.h"
#include "worker_private.h"

#define CREDENTIAL_MAX 4096
#define CERTIFICATE_MAX 262144

enum exit_code
local_tell_error(const struct iris_error *error)
{
	fprintf(stderr, "irisctl: %s%s%s%s%s\n", error->message, error->detail[0] ? ": " : "",
		error->detail, error->hint[0] ? "\n  " : "", error->hint);
	return EXIT_REFUSED;
}

/* Loads and checks everything; false: said on stderr. */
static bool
configure(const struct options *options, struct iris_config **config_r)
{
	struct iris_report report = { .error_count = 0 };
	struct iris_config *config = config_load(options->config, &report);
	bool right;

	*config_r = config;
	right = config && modules_select(modules_linked, &config, &report);
	if (!right)
		report_write(&report, stderr);
	report_clear(&report);
	config_free(&config);
	return right;
}

enum exit_code
local_config_check(const struct options *options)
{
	struct iris_config *config;

	worker_main_init();
	if (!configure(options, &config))
		return EXIT_CONFIG;
	printf("%s: the configuration is right\n", options->config);
	modules_stop();
	worker_main_free();
	return EXIT_DONE;
}

/* --- the configuration, by the names of its options: the tables belong to others --- */

extern const struct iris_module iris_module_hosts;

static unsigned
option_index(const struct iris_option *options, const char *name)
{
	unsigned i = 0;

	while (strcmp(options[i].name, name) != 0)
		i++;
	return i;
}

/* A text option of the first host; NUL-terminated. */
static const char *
first_host(const char *name)
{
	const struct iris_settings *settings = atomic_load(&iris_module_hosts.self->settings);
	unsigned domains = option_index(iris_module_hosts.options, "domains");
	const struct iris_settings *record = settings_record(settings, domains, 0);

	return settings_str(record, option_index(iris_module_hosts.options[domains].fields, name))
		.base;
}

/* Like the server: what is made belongs to the user that serves. */
bool
local_prepare(const struct options *options, struct iris_error *error)
{
	struct iris_config *config;

	worker_main_init();
	log_set_level(IRIS_LOG_WARNING);
	if (!configure(options, &config)) {
		worker_main_free();
		exit(EXIT_CONFIG);
	}
	umask(077);
	return modules_publish(error) && process_drop_privileges(error);
}

void
local_finish(void)
{
	modules_stop();
	worker_main_free();
}

enum exit_code
local_db_upgrade(const struct options *options)
{
	struct iris_error error = { .message = "" };
	enum exit_code code = EXIT_DONE;
	unsigned applied = 0;

	if (!local_prepare(options, &error) || !vault_upgrade(&applied, &error))
		code = local_tell_error(&error);
	else
		printf("%u migrations were applied; the database is up to date\n", applied);
	local_finish();
	return code;
}

/* --- init --- */

struct init {
	struct iris_error error;
	const char *host;
	char password[64];
	bool done;
};

static void
init_operator(void *arg)
{
	struct init *init = arg;

	init->done = accounts_init_operator(init->host, init->password, sizeof(init->password),
					    &init->error);
	worker_main_quit();
}

/* SECURITY: for its owner only, and complete or not there at all. */
static bool
write_credential(const struct init *init, struct iris_error *error)
{
	struct iris_str path = server_credential_path();
	char text[256], temporary[1024];
	int length = snprintf(text, sizeof(text), "irisctl@%s %s\n", init->host, init->password),
	    fd;
	bool written;

	if (snprintf(temporary, sizeof(temporary), "%.*s.new", IRIS_STR_FMT(path)) >=
	    (int)sizeof(temporary))
		return error_set(error, "the path of the credential is too long");
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, "cannot write %s: %s", temporary, strerror(errno));
	written = write(fd, text, (size_t)length) == length && fsync(fd) == 0;
	written = close(fd) == 0 && written && rename(temporary, path.base) == 0;
	OPENSSL_cleanse(text, sizeof(text));
	return written ||
	       error_set(error, "cannot write %.*s: %s", IRIS_STR_FMT(path), strerror(errno));
}

/* Modules are started as by the server, without listening; the account is made on a fiber. */
static bool
init_account(struct init *init)
{
	if (!workers_start(1, &init->error))
		return false;
	if (modules_start(&init->error)) {
		if (fiber_start("irisctl: init", init_operator, init))
			worker_run_main();
		if (init->done)
			init->done = write_credential(init, &init->error);
	}
	workers_stop();
	return init->done;
}

enum exit_code
local_init(const struct options *options)
{
	struct init init = { .done = false };
	enum exit_code code = EXIT_DONE;

	if (!local_prepare(options, &init.error) || !vault_init("default", &init.error))
		code = local_tell_error(&init.error);
	else {
		init.host = first_host("name");
		if (!init_account(&init))
			code = local_tell_error(&init.error);
		else
			printf("The region is ready. The operator's credential is in %s.\n",
			       server_credential_path().base);
	}
	OPENSSL_cleanse(init.password, sizeof(init.password));
	local_finish();
	return code;
}

/* --- how to reach the server --- */

static char *
read_file(const char *path, size_t limit, struct iris_error *error)
{
	FILE *file = fopen(path, "re");
	char *text = iris_calloc(1, limit + 1);
	size_t length = file ? fread(text, 1, limit, file) : 0;

	if (!file || ferror(file) || length == 0) {
		error_set(error, "cannot read %s: %s", path,
			  file ? "empty or broken" : strerror(errno));
		free(text);
		text = NULL;
	}
	if (file)
		fclose(file);
	return text;
}

static struct iris_str
node_text(const struct config_node *mapping, const char *key)
{
	const struct config_node *node = mapping ? config_child(mapping, str_from(key)) : NULL;

	return node ? node->text : IRIS_STR_NONE;
}

/* The first listener for clients with STARTTLS; one on every address is reached on loopback. */
static bool
find_listener(const struct iris_config *config, struct target *target)
{
	const struct config_node *section = config_section(config, IRIS_STR("listen"));
	const struct config_node *list =
		section ? config_child(section, IRIS_STR("listeners")) : NULL;

	for (const struct config_node *node = list ? list->first : NULL; node; node = node->next) {
		struct iris_str address = node_text(node, "address"), tls = node_text(node, "tls");
		int64_t port;

		if (!str_is(node_text(node, "role"), "c2s") ||
		    (!str_is_none(tls) && !str_is(tls, "starttls")) ||
		    !str_to_int(node_text(node, "port"), 1, 65535, &port))
			continue;
		if (str_is_empty(address) || str_is(address, "0.0.0.0") || str_is(address, "::") ||
		    str_is(address, "*"))
			address = IRIS_STR("127.0.0.1");
		target->host = str_dup(address);
		target->port = (unsigned short)port;
		return true;
	}
	return false;
}

static bool
read_credential(struct target *target, struct iris_error *error)
{
	char *text = read_file(server_credential_path().base, CREDENTIAL_MAX, error), *space;

	if (!text)
		return error_hint(
			error,
			"run irisctl as the user that serves, or as root; irisctl init makes it");
	text[strcspn(text, "\r\n")] = '\0';
	space = strchr(text, ' ');
	if (space) {
		*space = '\0';
		target->jid = str_dup(str_from(text));
		target->password = str_dup(str_from(space + 1));
	} else
		error_set(error, "%s is not a credential", server_credential_path().base);
	OPENSSL_cleanse(text, CREDENTIAL_MAX);
	free(text);
	return target->jid != NULL;
}

static bool
refuse_edge(struct iris_error *error)
{
	error_set(error, "the region is an edge: it has no accounts, so nobody can sign in there");
	return error_hint(error, "SIGHUP reloads, SIGTERM stops; /metrics and /readyz are at "
				 "admin.port");
}

bool
target_load(const struct options *options, struct target *target, struct iris_error *error)
{
	struct iris_config *config;
	bool loaded;

	worker_main_init();
	log_set_level(IRIS_LOG_ERROR);
	if (!configure(options, &config))
		return error_set(error, "the configuration is wrong");
	loaded = region_is_edge() ? refuse_edge(error) :
				    find_listener(config, target) ||
					    error_set(error, "the configuration has no c2s "
							     "listener with STARTTLS");
	loaded = loaded && read_credential(target, error);
	if (loaded) {
		target->certificate = read_file(first_host("certificate"), CERTIFICATE_MAX, error);
		loaded = target->certificate != NULL;
	}
	modules_stop();
	worker_main_free();
	return loaded;
}

void
target_free(struct target *target)
{
	if (target->password)
		OPENSSL_cleanse(target->password, strlen(target->password));
	free(target->jid);
	free(target->password);
	free(target->host);
	free(target->certificate);
}
