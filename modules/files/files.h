/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared files, for plug-ins that name "files" in their needs (XEP-0363).  On a fiber of any
 * worker.
 */
#ifndef IRIS_FILES_H
#define IRIS_FILES_H

#include "iris/module.h"

#define FILES_PATH "/upload/" /* of the web; below it: token, '/', name */

/* What a file is for decides how long it is kept (XEP-0363 §5). */
enum file_purpose { FILE_MESSAGE, FILE_PROFILE, FILE_EPHEMERAL, FILE_PERMANENT, FILE_PURPOSES };

struct file_wish {
	const struct iris_account *account;
	struct iris_str name, type; /* as the client says; type may be none */
	int64_t size;
	enum file_purpose purpose;
	int64_t expires_ms;         /* of FILE_EPHEMERAL: not later than that */
};

enum file_grant {
	FILE_GRANTED,
	FILE_TOO_LARGE,  /* than files_size_max() */
	FILE_OVER_QUOTA, /* of the account, or of its company */
	FILE_DENIED,     /* this purpose is not offered */
	FILE_BUSY        /* the vault is */
};

/* Of this purpose; 0: not offered. */
int64_t files_size_max(enum file_purpose purpose);
/*
 * A slot for one upload, counted by the quotas from now on. path_r: of both requests,
 * percent-encoded.
 */
enum file_grant files_slot_make(struct iris_arena *arena, const struct file_wish *wish,
				struct iris_str *path_r);

#endif
