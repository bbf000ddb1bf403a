/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of modules/files share.  Fibers of any worker, unless it says otherwise. */
#ifndef IRIS_FILES_PRIVATE_H
#define IRIS_FILES_PRIVATE_H

#include <sys/types.h>

#include "modules/files/files.h"
#include "modules/scan/scan.h"

/* --- rows (rows.c) --- */

/*
 * STATE: slot → uploading → pending → clean | infected | unscannable | quarantined
 *        clean → infected (new signatures); quarantined → clean (an operator); all → gone (no row)
 */
enum file_state {
	FILE_SLOT,        /* waits for its PUT */
	FILE_UPLOADING,   /* the PUT is under way, or was cut off */
	FILE_PENDING,     /* stored, not judged yet */
	FILE_CLEAN,       /* may be fetched */
	FILE_INFECTED,    /* the bytes are gone; so are those of FILE_UNSCANNABLE */
	FILE_UNSCANNABLE,
	FILE_QUARANTINED, /* unscannable, and kept for an operator */
	FILE_STATES
};

struct file {
	int64_t id;
	iris_owner owner;
	int64_t account;
	enum file_state state;
	enum file_purpose purpose;
	int64_t size;    /* of the plain text; 0 when the bytes are gone */
	int64_t segment; /* of the store: how it is cut; 0: in one piece */
	int64_t created_ms, expires_ms; /* expires 0: never */
	int64_t until_ms; /* the client wants it to be kept no longer; 0: it did not say */
	int64_t scanned; /* number of the signatures that it is clean by; 0: none */
	/* sealed; only file_open() fills them */
	struct iris_str token, name, type;
	unsigned char key[BLOB_KEY];
};

extern struct iris_query *const file_queries[];
extern const char *const file_state_names[FILE_STATES];

int64_t file_id_of(struct iris_str token);
/* The plain columns. False: there is none, or the vault failed (*failed_r, may be NULL). */
bool file_find(int64_t id, struct file *file_r, bool *failed_r);
/* The sealed ones, into the arena. */
bool file_open(struct iris_arena *arena, struct file *file);

struct file_usage {
	int64_t bytes, files;
};
bool file_usage_read(iris_owner owner, int64_t account, struct file_usage *usage_r);
enum iris_vault_result file_insert(const struct file *file);
/* SLOT → UPLOADING under a new key; false: somebody else has it, or the vault failed. */
bool file_claim(struct file *file, int64_t until_ms);
/* UPLOADING → `file->state`, with segment and expiry. */
bool file_stored(const struct file *file);
/* From `before` to file->state and file->scanned; false: it was not in that state any more. */
bool file_move(const struct file *file, enum file_state before);
/* The row stays, without bytes: its size is given back to the quotas. */
bool file_empty(struct file *file, enum file_state state);
bool file_erase(const struct file *file); /* row and quota */
/* Posts: when it is this account's, its link dies with the commit; the sweep takes the bytes. */
void file_expire(int64_t id, const struct iris_account *account, struct iris_ticket *ticket);
bool file_expire_account(int64_t account);
bool file_expire_cut(void); /* at the start: uploads that the end of the server cut off */

struct file_list {
	struct file *files;
	size_t count;
};
/* Pages of at most FILE_PAGE, plain columns, in the arena. False: the vault failed. */
#define FILE_PAGE 100
bool file_list_expired(struct iris_arena *arena, int64_t now_ms, struct file_list *list_r);
bool file_list_pending(struct iris_arena *arena, int64_t after_id, struct file_list *list_r);
/* Clean ones that were judged by older signatures than `number`. */
bool file_list_outdated(struct iris_arena *arena, int64_t number, struct file_list *list_r);
bool file_list_account(struct iris_arena *arena, int64_t account, int64_t before_ms,
		       struct file_list *list_r);
bool file_list_state(struct iris_arena *arena, enum file_state state, struct file_list *list_r);

/* The number of a set of signatures, given out when it is seen first. 0: the vault failed. */
int64_t file_signatures_number(int64_t print);

/* --- the store (store.c, store_directory.c, store_swift.c) --- */

/* Where the sealed bytes of a file lie. */
struct file_place {
	int64_t id;
	int64_t size;    /* sealed */
	int64_t segment;
};

/* All wait (fiber), but start and stop (main thread). What fails is logged by the store. */
struct file_store {
	const char *name;
	bool (*start)(struct iris_error *error);
	void (*stop)(void);
	int64_t (*segment)(void); /* for new files */
	/* A put becomes visible with its end, whole and durable, or never. NULL: it failed. */
	void *(*put_begin)(const struct file_place *place);
	bool (*put)(void *put, struct iris_str bytes);
	bool (*put_end)(void **put_p, bool keep);
	void *(*get_begin)(const struct file_place *place);
	bool (*get)(void *get, int64_t offset, char *buf, size_t len); /* all of it, or false */
	void (*get_end)(void **get_p);
	bool (*remove)(const struct file_place *place); /* what is not there is removed */
};

extern const struct file_store file_store_directory, file_store_swift;
const struct file_store *store(void);
struct file_place file_place_of(const struct file *file);
/* How many bytes so many become when they are sealed. */
int64_t file_sealed_size(int64_t size);

/* --- sealed bytes, as a stream (content.c) --- */

struct content_writer;

/* NULL: the store failed. `segment` of the file is set. */
struct content_writer *content_writer_new(struct file *file);
/* Where the next bytes go, and how many: fill it, then say so. False: the store failed. */
char *content_writer_room(struct content_writer *writer, size_t *size_r);
bool content_writer_filled(struct content_writer *writer, size_t len);
/* True: all bytes are there, and stored for good. */
bool content_writer_end(struct content_writer **writer_p, bool keep);

struct content_reader;

struct content_reader *content_reader_new(const struct file *file); /* opened; NULL: failed */
/*
 * Plain bytes from `offset` on, at least one; good until the next call. None: the store failed, or
 * what lies there is not what was stored.
 */
struct iris_str content_read(struct content_reader *reader, int64_t offset);
void content_reader_free(struct content_reader **reader_p);

/* --- slots (slots.c) --- */

/* Does the header name this type (parameters aside)? */
bool file_type_is(struct iris_arena *arena, struct iris_str type, struct iris_str header);
void percent_encode(struct iris_strbuf *buf, struct iris_str text);
struct iris_str file_path(struct iris_arena *arena, const struct file *file); /* opened */
/* When a file that is stored now goes. */
int64_t file_expiry(const struct file *file);

/* --- what goes (sweep.c) --- */

/* Bytes, row and quota (fiber of any worker; runs on the main one). False: later, by the sweep. */
bool file_remove(int64_t id);
/* The bytes at once, the row stays in this state until it expires. */
bool file_refuse(int64_t id, enum file_state state);
void sweep_start(void);
void sweep_stop(void);
void sweep_now(void); /* any worker */

/* --- iris-scan (scanner.c); main worker --- */

struct scanner_verdict {
	enum scan_verdict verdict;
	int64_t signatures; /* the number of the set */
	char text[SCAN_TEXT_MAX];
};

bool scanner_start(struct iris_error *error);
void scanner_stop(void);
bool scanner_is_ready(void); /* a file may be given to it */
int64_t scanner_signatures(void); /* the number of the set in use; 0: none yet */
/* Fiber; the descriptor stays the caller's. False: the scanner went, ask again when it is back. */
bool scanner_scan(int fd, int64_t size, struct scanner_verdict *verdict_r);
struct scanner_status {
	bool ready;
	pid_t pid;
	unsigned signatures, jobs;
	int64_t number;
	char confined[SCAN_TEXT_MAX];
};
void scanner_status(struct scanner_status *status_r);

/* --- judging (judge.c); the main worker has its state --- */

bool judge_start(struct iris_error *error);
void judge_stop(void);
void judge_wake(void); /* main worker: the scanner is there, or has room */
void judge_rescan(void); /* main worker: there are new signatures */
/* A pending file; waits for its verdict, but not longer than option scan-wait (any worker). */
enum file_state judge_file(int64_t id);

/* --- HTTP (http.c), commands (commands.c) --- */

extern const struct iris_web_route file_routes[];
extern const struct iris_command *const file_commands[];

/* --- the module (files.c) --- */

enum file_option {
	OPT_STORE,
	OPT_DIRECTORY,
	OPT_SWIFT_URL,
	OPT_SWIFT_AUTH,
	OPT_SWIFT_USER,
	OPT_SWIFT_KEY,
	OPT_SWIFT_PROJECT,
	OPT_SWIFT_DOMAIN,
	OPT_SWIFT_REGION,
	OPT_SWIFT_CONTAINER,
	OPT_SWIFT_SEGMENT,
	OPT_SWIFT_CA,
	OPT_SIZE_MAX,
	OPT_PROFILE_SIZE_MAX,
	OPT_PERMANENT,
	OPT_ACCOUNT_QUOTA,
	OPT_ACCOUNT_FILES,
	OPT_COMPANY_QUOTA,
	OPT_SLOT_TIME,
	OPT_KEEP,
	OPT_KEEP_PROFILE,
	OPT_TRANSFERS,
	OPT_SCAN,
	OPT_SCANNER,
	OPT_SIGNATURES,
	OPT_SIGNATURES_CHECK,
	OPT_SCAN_TEMPORARY,
	OPT_SCANS,
	OPT_SCAN_TIME,
	OPT_SCAN_UNPACKED,
	OPT_SCAN_MEMORY,
	OPT_SCAN_WAIT,
	OPT_UNSCANNABLE,
};
enum { SCAN_REQUIRED, SCAN_OFF };
enum { UNSCANNABLE_REFUSE, UNSCANNABLE_QUARANTINE };

extern struct iris_module_self files_self;

enum file_metric {
	METRIC_SLOTS,
	METRIC_UPLOADS,
	METRIC_UPLOADED,
	METRIC_DOWNLOADS,
	METRIC_DOWNLOADED,
	METRIC_CLEAN,
	METRIC_INFECTED,
	METRIC_UNSCANNABLE,
	METRIC_PENDING,
	METRIC_RESCANNED,
	METRIC_SCANNER_STARTS,
	METRIC_REMOVED,
	METRIC_STORE_ERRORS,
	METRIC_FILES_COUNT
};
extern struct iris_metric file_metrics[METRIC_FILES_COUNT + 1];

#endif
