/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts: what signs in, kept in the vault (P3.1, P3.2, P3.8).  The descriptor of the module; the
 * work is in the files beside it (README.md).
 */
#include "accounts_private.h"

#define ITERATIONS_DEFAULT 10000

struct iris_module_self accounts_self;

static const struct iris_option accounts_options[] = {
	[OPTION_LENGTH_MIN] = { .name = "password-min-length", .type = IRIS_OPT_INT,
		.fallback = "12", .min = 8, .max = PASSWORD_LENGTH_MAX, .reloadable = true,
		.help = "Characters that a new password has at least." },
	[OPTION_CLASSES] = { .name = "password-classes", .type = IRIS_OPT_INT, .fallback = "4",
		.min = 1, .max = 4, .reloadable = true,
		.help = "How many kinds of characters (lower case, upper case, digits, others) "
			"it has at least." },
	[OPTION_ITERATIONS] = { .name = "scram-iterations", .type = IRIS_OPT_INT,
		.fallback = "10000", .min = SCRAM_ITERATIONS_MIN, .max = SCRAM_ITERATIONS_MAX,
		.reloadable = true,
		.help = "Iterations of PBKDF2 for new verifiers; others are renewed when their "
			"owner signs in with PLAIN." },
	[OPTION_ADMINISTRATORS] = { .name = "administrators", .type = IRIS_OPT_STRINGS,
		.optional = true, .reloadable = true,
		.help = "Addresses of accounts that administer everything." },
	[OPTION_ACCOUNT_TRIES] = { .name = "account-tries", .type = IRIS_OPT_INT, .fallback = "10",
		.min = 0, .max = 1000, .reloadable = true,
		.help = "Wrong passwords for an account before it is locked for a while; 0: "
			"any number, without delay." },
	[OPTION_ADDRESS_TRIES] = { .name = "address-tries", .type = IRIS_OPT_INT, .fallback = "60",
		.min = 0, .max = 100000, .reloadable = true,
		.help = "Wrong passwords from one network address before it is refused for a "
			"while; 0: any number." },
	[OPTION_DELAY] = { .name = "throttle-delay", .type = IRIS_OPT_DURATION,
		.fallback = "500 ms", .min = 0, .max = THROTTLE_DELAY_MAX_MS, .reloadable = true,
		.help = "The delay after the third wrong password, doubled by each that "
			"follows." },
	[OPTION_LOCK] = { .name = "lock-time", .type = IRIS_OPT_DURATION, .fallback = "5 minutes",
		.min = 1000, .max = 86400000, .reloadable = true,
		.help = "How long an account or address is refused after too many wrong "
			"passwords." },
	[OPTION_MEMORY] = { .name = "throttle-memory", .type = IRIS_OPT_DURATION,
		.fallback = "15 minutes", .min = 1000, .max = 86400000, .reloadable = true,
		.help = "Wrong passwords are forgotten when there was none for this time." },
	IRIS_OPTIONS_END,
};

static const struct iris_accounts accounts_table = {
	.find = accounts_find,
	.credentials = accounts_credentials,
	.check_password = accounts_check_password,
	.attempt = accounts_attempt,
	.attempt_result = accounts_attempt_result,
	.certificate_jid = accounts_certificate_jid,
	.logged_out = accounts_logged_out,
	.last_status = accounts_last_status,
	.create = accounts_create,
	.set_password = accounts_set_password,
	.set_locked = accounts_set_locked,
	.remove = accounts_remove,
};

/* irisctl init makes an account while no module is started. */
unsigned
accounts_iterations(void)
{
	const struct iris_settings *settings = atomic_load(&accounts_self.settings);

	return settings ? (unsigned)settings_int(settings, OPTION_ITERATIONS) : ITERATIONS_DEFAULT;
}

/* They are compared byte by byte on every lookup, so they must be written as they are stored. */
static bool
accounts_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_arena *arena = arena_new();
	bool ok = true;

	for (size_t i = 0; ok && i < settings_count(settings, OPTION_ADMINISTRATORS); i++) {
		struct iris_str text = settings_item(settings, OPTION_ADMINISTRATORS, i);
		struct iris_jid jid;
		bool is_jid = jid_parse(arena, text, &jid) && jid_is_bare(&jid) && jid.node_len > 0;

		if (is_jid && str_equal(jid_full(&jid), text))
			continue;
		ok = error_set(error, "administrators: \"%.*s\" is not the address of an account",
			       IRIS_STR_FMT(text));
		error_detail(error, "%.*s",
			     IRIS_STR_FMT(settings_where(settings, OPTION_ADMINISTRATORS)));
		if (is_jid)
			error_hint(error, "write it as it is stored: %.*s",
				   IRIS_STR_FMT(jid_bare(&jid)));
		else
			error_hint(error, "write it as name@domain");
	}
	arena_unref(&arena);
	return ok;
}

static bool
accounts_start(struct iris_error *error)
{
	return accounts_erasures_resume(error) && email_start(error);
}

static void
accounts_stop(void)
{
	email_stop();
	accounts_throttle_free();
}

const struct iris_module iris_module_accounts = {
	IRIS_MODULE_HEAD,
	.name = "accounts",
	.summary = "Accounts and their password verifiers, kept in the vault",
	.needs = IRIS_NAMES("unique"),
	.self = &accounts_self,
	.options = accounts_options,
	.queries = accounts_queries,
	.commands = accounts_commands,
	.accounts = &accounts_table,
	.not_unloadable = true,
	.check = accounts_check,
	.start = accounts_start,
	.stop = accounts_stop,
};
