/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared files (P7.4, P7.5): see README.md.  The module: options, start and stop, what happens when
 * an account goes.  XEP-0363 asks for slots through files.h.
 */
#include "modules/files/swift_private.h"

struct iris_module_self files_self;

struct iris_metric file_metrics[METRIC_FILES_COUNT + 1] = {
	[METRIC_SLOTS] = { .name = "iris_files_slots_total", .help = "Slots given out" },
	[METRIC_UPLOADS] = { .name = "iris_files_uploads_total", .help = "Files stored" },
	[METRIC_UPLOADED] = { .name = "iris_files_uploaded_bytes_total",
			      .help = "Bytes of files stored" },
	[METRIC_DOWNLOADS] = { .name = "iris_files_downloads_total",
			       .help = "Answers with a file's content" },
	[METRIC_DOWNLOADED] = { .name = "iris_files_downloaded_bytes_total",
				.help = "Bytes of files sent" },
	[METRIC_CLEAN] = { .name = "iris_files_verdicts_total", .labels = "verdict=\"clean\"",
			   .help = "Verdicts of the scanner" },
	[METRIC_INFECTED] = { .name = "iris_files_verdicts_total",
			      .labels = "verdict=\"infected\"",
			      .help = "Verdicts of the scanner" },
	[METRIC_UNSCANNABLE] = { .name = "iris_files_verdicts_total",
				 .labels = "verdict=\"unscannable\"",
				 .help = "Verdicts of the scanner" },
	[METRIC_PENDING] = { .name = "iris_files_pending", .kind = IRIS_GAUGE,
			     .help = "Files that wait for a verdict" },
	[METRIC_RESCANNED] = { .name = "iris_files_rescanned_total",
			       .help = "Files found clean by newer signatures, too" },
	[METRIC_SCANNER_STARTS] = { .name = "iris_files_scanner_starts_total",
				    .help = "Times that the scanner was started" },
	[METRIC_REMOVED] = { .name = "iris_files_removed_total", .help = "Files removed" },
	[METRIC_STORE_ERRORS] = { .name = "iris_files_store_errors_total",
				  .help = "Failures of the store" },
	{ .name = NULL },
};

/* --- a message is retracted (P6.7) --- */

#define LINKS_MAX 64 /* of one message */

static bool
is_of_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

/*
 * The sender's files that it names, wherever in it: body, XEP-0066, XEP-0447. What is encrypted
 * end to end tells us no link; those files are deleted by command, or with time.
 */
static enum iris_verdict
files_message_retracted(struct iris_retracted *retracted)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_str rest;
	const char *at;

	if (retracted->sender)
		element_write(&text, retracted->original->root, IRIS_STR_NONE);
	rest = strbuf_str(&text);
	for (unsigned i = 0; i < LINKS_MAX && rest.len > 0 &&
			     (at = memmem(rest.base, rest.len, FILES_PATH, strlen(FILES_PATH)));
	     i++) {
		const char *end = rest.base + rest.len;
		struct iris_str token = { at + strlen(FILES_PATH), 0 };

		while (token.base + token.len < end && is_of_token(token.base[token.len]))
			token.len++;
		if (token.len > 0)
			file_expire(file_id_of(token), retracted->sender, retracted->ticket);
		rest.base = token.base + token.len;
		rest.len = (size_t)(end - rest.base);
	}
	arena_unref(&arena);
	return IRIS_PASS;
}

/* --- an account goes --- */

/* Links die with this one statement; the sweep takes the bytes. */
static enum iris_verdict
files_account_removed(struct iris_account_removed *removed)
{
	if (!file_expire_account(removed->account.id))
		return IRIS_REFUSE;
	sweep_now();
	return IRIS_PASS;
}

static const struct iris_hook_handler file_hooks[] = {
	HOOK(message_retracted, IRIS_NEUTRAL, files_message_retracted),
	HOOK(account_removed, IRIS_NEUTRAL, files_account_removed),
	HOOKS_END,
};

/* --- the module --- */

static bool
files_start(struct iris_error *error)
{
	if (!store()->start(error))
		return false;
	if (!judge_start(error)) {
		store()->stop();
		return false;
	}
	sweep_start();
	return true;
}

static void
files_stop(void)
{
	sweep_stop();
	judge_stop();
	store()->stop();
}

static const char *const store_choices[] = { "directory", "swift", NULL };
static const char *const auth_choices[] = { "tempauth", "keystone", NULL };
static const char *const scan_choices[] = { "required", "off", NULL };
static const char *const unscannable_choices[] = { "refuse", "quarantine", NULL };

#define YEARS_100 (INT64_C(1000) * 86400 * 36500)
#define SIZE_LIMIT (INT64_C(1) << 40)

static const struct iris_option file_options[] = {
	[OPT_STORE] = { .name = "store", .type = IRIS_OPT_CHOICE, .fallback = "directory",
			.choices = store_choices,
			.help = "Where files lie, sealed either way: in a directory, or in "
				"OpenStack Swift." },
	[OPT_DIRECTORY] = { .name = "directory", .type = IRIS_OPT_PATH,
			    .fallback = IRIS_STATEDIR "/files",
			    .help = "The directory; it is made when it is not there." },
	[OPT_SWIFT_URL] = { .name = "swift-url", .type = IRIS_OPT_STRING, .optional = true,
			    .max = 1000,
			    .help = "Where Swift's tokens are given out, as in "
				    "https://swift.example/auth/v1.0 or "
				    "https://keystone.example/v3/auth/tokens." },
	[OPT_SWIFT_AUTH] = { .name = "swift-auth", .type = IRIS_OPT_CHOICE, .fallback = "keystone",
			     .choices = auth_choices, .help = "How to sign in there." },
	[OPT_SWIFT_USER] = { .name = "swift-user", .type = IRIS_OPT_STRING, .optional = true,
			     .max = 250, .help = "As whom." },
	[OPT_SWIFT_KEY] = { .name = "swift-key", .type = IRIS_OPT_STRING, .optional = true,
			    .max = 1000, .secret = true, .help = "The password of that user." },
	[OPT_SWIFT_PROJECT] = { .name = "swift-project", .type = IRIS_OPT_STRING,
				.optional = true, .max = 250,
				.help = "The project, with Keystone." },
	[OPT_SWIFT_DOMAIN] = { .name = "swift-domain", .type = IRIS_OPT_STRING,
			       .fallback = "Default", .min = 1, .max = 250,
			       .help = "The domain of user and project, with Keystone." },
	[OPT_SWIFT_REGION] = { .name = "swift-region", .type = IRIS_OPT_STRING, .optional = true,
			       .max = 250,
			       .help = "The region whose storage is used, with Keystone; the "
				       "first without." },
	[OPT_SWIFT_CONTAINER] = { .name = "swift-container", .type = IRIS_OPT_STRING,
				  .fallback = "iris", .min = 1, .max = 120,
				  .help = "The container; it is made when it is not there." },
	[OPT_SWIFT_SEGMENT] = { .name = "swift-segment", .type = IRIS_OPT_SIZE,
				.fallback = "1 GiB", .min = 65536, .max = INT64_C(5) << 30,
				.help = "The largest object; files are cut into as many as they "
					"need. Stored files keep theirs." },
	[OPT_SWIFT_CA] = { .name = "swift-ca", .type = IRIS_OPT_PATH, .optional = true,
			   .help = "The authorities that Swift's certificate is checked with; "
				   "the system's without." },
	[OPT_SIZE_MAX] = { .name = "size-max", .type = IRIS_OPT_SIZE, .fallback = "100 MiB",
			   .min = 1, .max = SIZE_LIMIT, .reloadable = true,
			   .help = "The largest file." },
	[OPT_PROFILE_SIZE_MAX] = { .name = "profile-size-max", .type = IRIS_OPT_SIZE,
				   .fallback = "2 MiB", .min = 1, .max = SIZE_LIMIT,
				   .reloadable = true,
				   .help = "The largest file of a profile (avatars), which is kept "
					   "for longer." },
	[OPT_PERMANENT] = { .name = "permanent", .type = IRIS_OPT_BOOL, .fallback = "false",
			    .reloadable = true,
			    .help = "Whether clients may ask for files that are kept for good." },
	[OPT_ACCOUNT_QUOTA] = { .name = "account-quota", .type = IRIS_OPT_SIZE,
				.fallback = "1 GiB", .min = 1, .max = INT64_C(1) << 50,
				.reloadable = true,
				.help = "What an account may have at a time." },
	[OPT_ACCOUNT_FILES] = { .name = "account-files", .type = IRIS_OPT_INT, .fallback = "10000",
				.min = 1, .max = 10000000, .reloadable = true,
				.help = "How many files an account may have at a time, slots that "
					"wait for their upload among them." },
	[OPT_COMPANY_QUOTA] = { .name = "company-quota", .type = IRIS_OPT_SIZE, .fallback = "0",
				.max = INT64_C(1) << 60, .reloadable = true,
				.help = "What all accounts of a company may have together; 0 "
					"leaves it to the quotas of accounts." },
	[OPT_SLOT_TIME] = { .name = "slot-time", .type = IRIS_OPT_DURATION,
			    .fallback = "5 minutes", .min = 1000, .max = 86400000,
			    .reloadable = true,
			    .help = "How long a slot waits for its upload." },
	[OPT_KEEP] = { .name = "keep", .type = IRIS_OPT_DURATION, .fallback = "90 days",
		       .max = YEARS_100, .reloadable = true,
		       .help = "How long files are kept; 0: for good." },
	[OPT_KEEP_PROFILE] = { .name = "keep-profile", .type = IRIS_OPT_DURATION, .fallback = "0",
			       .max = YEARS_100, .reloadable = true,
			       .help = "How long files of profiles are kept; 0: for good." },
	[OPT_TRANSFERS] = { .name = "transfers-max", .type = IRIS_OPT_INT, .fallback = "200",
			    .min = 1, .max = 100000, .reloadable = true,
			    .help = "Uploads and downloads at a time; each takes half a "
				    "megabyte." },
	[OPT_SCAN] = { .name = "scan", .type = IRIS_OPT_CHOICE, .fallback = "required",
		       .choices = scan_choices,
		       .help = "Whether files are scanned for viruses before anybody can fetch "
			       "them (P7.4)." },
	[OPT_SCANNER] = { .name = "scanner", .type = IRIS_OPT_PATH,
			  .fallback = IRIS_LIBEXECDIR "/iris-scan",
			  .help = "The program that scans." },
	[OPT_SIGNATURES] = { .name = "signatures", .type = IRIS_OPT_PATH,
			     .fallback = "/var/lib/clamav",
			     .help = "The folder with the signatures of viruses, as freshclam "
				     "keeps it." },
	[OPT_SIGNATURES_CHECK] = { .name = "signatures-check", .type = IRIS_OPT_DURATION,
				   .fallback = "1 minute", .min = 100, .max = 86400000,
				   .reloadable = true,
				   .help = "How often the folder is looked at for new ones; they "
					   "are loaded beside the old, and stored files are "
					   "scanned again." },
	[OPT_SCAN_TEMPORARY] = { .name = "scan-temporary", .type = IRIS_OPT_PATH,
				 .fallback = "/dev/shm",
				 .help = "Where the scanner unpacks; it must be in a tmpfs, since "
					 "no disk may hold plain text." },
	[OPT_SCANS] = { .name = "scans-max", .type = IRIS_OPT_INT, .fallback = "2", .min = 1,
			.max = SCAN_JOBS_MAX,
			.help = "How many files are scanned at a time." },
	[OPT_SCAN_TIME] = { .name = "scan-time-max", .type = IRIS_OPT_DURATION,
			    .fallback = "10 seconds", .min = 100, .max = 3600000,
			    .help = "How long a file is scanned before it is unscannable." },
	[OPT_SCAN_UNPACKED] = { .name = "scan-unpacked-max", .type = IRIS_OPT_SIZE,
				.fallback = "256 MiB", .min = 65536, .max = INT32_MAX,
				.help = "The largest file, or part of an archive, that is scanned; "
					"all parts together may be twice that." },
	[OPT_SCAN_MEMORY] = { .name = "scan-memory-max", .type = IRIS_OPT_SIZE,
			      .fallback = "1 GiB", .min = 67108864, .max = INT64_C(1) << 40,
			      .help = "Memory that the scan of one file may take, beside the "
				      "signatures and the file." },
	[OPT_SCAN_WAIT] = { .name = "scan-wait", .type = IRIS_OPT_DURATION,
			    .fallback = "20 seconds", .min = 1, .max = 600000, .reloadable = true,
			    .help = "How long an upload waits for its verdict before it is "
				    "answered that the file will be there later." },
	[OPT_UNSCANNABLE] = { .name = "unscannable", .type = IRIS_OPT_CHOICE,
			      .fallback = "refuse", .choices = unscannable_choices,
			      .reloadable = true,
			      .help = "What becomes of files that cannot be scanned (encrypted "
				      "archives, over a limit): they are refused, or kept where "
				      "only an operator can release them." },
	IRIS_OPTIONS_END,
};

static bool
files_check(const struct iris_settings *settings, struct iris_error *error)
{
	struct iris_str url = settings_str(settings, OPT_SWIFT_URL);

	if (str_is_empty(url) || swift_may_ask(url.base))
		return true;
	error_set(error, "an isolated region reaches its store by address only");
	error_detail(error, "%.*s", IRIS_STR_FMT(settings_where(settings, OPT_SWIFT_URL)));
	return error_hint(error, "swift-url: https://192.0.2.7/…; what it answers, too");
}

const struct iris_module iris_module_files = {
	IRIS_MODULE_HEAD,
	.name = "files",
	.summary = "Files that people share: stored sealed, scanned, fetched by a link",
	.needs = IRIS_NAMES("web", "worker"), /* its pool is used from the start */
	.self = &files_self,
	.options = file_options,
	.queries = file_queries,
	.hooks = file_hooks,
	.commands = file_commands,
	.metrics = file_metrics,
	.web = file_routes,
	.off_by_default = true,
	.not_unloadable = true,
	.check = files_check,
	.start = files_start,
	.stop = files_stop,
};
