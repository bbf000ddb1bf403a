/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault's descriptor: options, metrics, start and stop.  Main thread.
 */
#include <stdlib.h>

#include "iris/gate.h"
#include "module_private.h"
#include "vault_private.h"

enum {
	OPT_ENGINE,
	OPT_MASTER_KEY,
	OPT_REGION,
	OPT_QUEUE_MAX,
	OPT_QUEUE_SIZE,
	OPT_READY_DELAY,
};

static struct iris_module_self self;

/* Strings for as long as the options are used; both are freed by the caller. */
struct named_options {
	struct vault_options options;
	char *key_path, *region;
};

static bool
options_load(struct named_options *named, struct iris_error *error)
{
	struct iris_str engine;

	*named = (struct named_options){ .key_path = NULL };
	if (region_is_edge())
		return error_set(error, "the region is an edge: it keeps nothing");
	engine = option_str(&self, OPT_ENGINE);
	named->options.engine = module_engine(engine);
	if (!named->options.engine) {
		error_set(error, "There is no engine '%.*s' to keep the vault with",
			  IRIS_STR_FMT(engine));
		error_detail(error, "%.*s",
			     IRIS_STR_FMT(settings_where(atomic_load(&self.settings), OPT_ENGINE)));
		return error_hint(error,
				  "vault: engine: names a module that is loaded, such as sqlite");
	}
	named->key_path = str_dup(option_str(&self, OPT_MASTER_KEY));
	named->region = str_dup(option_str(&self, OPT_REGION));
	named->options.key_path = named->key_path;
	named->options.region = named->region;
	named->options.limits = (struct vault_limits){
		.rows = (size_t)option_int(&self, OPT_QUEUE_MAX),
		.bytes = (size_t)option_int(&self, OPT_QUEUE_SIZE),
	};
	named->options.ready_delay_ms = option_int(&self, OPT_READY_DELAY);
	return true;
}

static void
options_free(struct named_options *named)
{
	free(named->key_path);
	free(named->region);
}

bool
vault_open(struct iris_error *error)
{
	struct named_options named;
	bool ok = options_load(&named, error) && vault_open_with(&named.options, error);

	options_free(&named);
	return ok;
}

bool
vault_upgrade(unsigned *applied_r, struct iris_error *error)
{
	struct named_options named;
	bool ok = options_load(&named, error) &&
		  vault_upgrade_with(&named.options, applied_r, error);

	options_free(&named);
	return ok;
}

bool
vault_init(const char *company, struct iris_error *error)
{
	struct named_options named;
	bool ok = options_load(&named, error) && vault_init_with(&named.options, company, error);

	options_free(&named);
	return ok;
}

bool
vault_copy(const char *to, const struct vault_copy_watch *watch, struct iris_error *error)
{
	const struct iris_vault_engine *target = module_engine(str_from(to));
	struct named_options named;
	bool ok = options_load(&named, error);

	if (ok && !target) {
		ok = error_set(error, "There is no engine '%s' to copy to", to);
		error_hint(error, "It is a module that is loaded, such as sqlite or postgresql");
	}
	ok = ok && vault_copy_with(named.options.engine, target, watch, error);
	options_free(&named);
	return ok;
}

static const struct iris_option vault_options_table[] = {
	[OPT_ENGINE] = { .name = "engine",
			 .type = IRIS_OPT_STRING,
			 .fallback = "sqlite",
			 .min = 1,
			 .max = 64,
			 .help = "The module that keeps the data." },
	[OPT_MASTER_KEY] = { .name = "master-key",
			     .type = IRIS_OPT_PATH,
			     .fallback = "master.key",
			     .help = "The file with the region's master key, mode 0400. Without it "
				     "nothing can be "
				     "read: keep a copy in another place than the backups of the "
				     "data. As a credential of systemd "
				     "(LoadCredential=master-key:FILE in the unit) it is "
				     "${CREDENTIALS_DIRECTORY}/master-key." },
	[OPT_REGION] = { .name = "region",
			 .type = IRIS_OPT_STRING,
			 .fallback = "emea",
			 .min = 1,
			 .max = 64,
			 .help = "The name of the region whose data this is." },
	[OPT_QUEUE_MAX] = { .name = "queue-max",
			    .type = IRIS_OPT_INT,
			    .fallback = "200000",
			    .min = 100,
			    .max = 10000000,
			    .help = "Rows that may wait for their commit; beyond it writes are "
				    "turned away for a while." },
	[OPT_QUEUE_SIZE] = { .name = "queue-size",
			     .type = IRIS_OPT_SIZE,
			     .fallback = "256 MiB",
			     .min = 1 << 20,
			     .max = INT64_C(1) << 36,
			     .help = "The same limit by the memory of those rows." },
	[OPT_READY_DELAY] = { .name = "ready-delay",
			      .type = IRIS_OPT_DURATION,
			      .fallback = "10 s",
			      .min = 100,
			      .max = 3600000,
			      .help = "How long the oldest of those rows may wait, or the store "
				      "be out of order, before the server says that it is not "
				      "ready." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_vault = {
	IRIS_MODULE_HEAD,
	.name = "vault",
	.summary = "Everything that is kept: sealed, owned, committed in groups",
	.self = &self,
	.options = vault_options_table,
	.metrics = vault_metrics,
	.commands = vault_key_commands,
	.not_unloadable = true,
	.start = vault_open,
	.stop = vault_close,
};
