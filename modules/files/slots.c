/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots: a link is given out for one upload, within the quotas of the account and its company.  On
 * a fiber of the account's home worker, under its lock: so an account cannot ask for two slots at
 * once and pass its quota.  A company's may be passed by what its people ask for in the same
 * instant.
 */
#include "modules/files/files_private.h"

#define TOKEN_BITS 192
#define NAME_MAX_BYTES 200
#define ENDING_MAX_BYTES 16
#define TYPE_MAX_BYTES 127

/* --- names and types --- */

static bool
is_continuation(char c) /* of UTF-8 */
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Too long: the middle goes, so that beginning and ending stay. */
static struct iris_str
name_shorten(struct iris_arena *arena, struct iris_str name)
{
	const char *dot = memrchr(name.base, '.', name.len);
	size_t ending = dot ? (size_t)(name.base + name.len - dot) : 0;
	size_t keep;

	if (name.len <= NAME_MAX_BYTES)
		return name;
	if (ending > ENDING_MAX_BYTES)
		ending = 0;
	keep = NAME_MAX_BYTES - ending;
	while (keep > 0 && is_continuation(name.base[keep]))
		keep--;
	return arena_printf(arena, "%.*s%.*s", (int)keep, name.base, (int)ending,
			    name.base + name.len - ending);
}

/* SECURITY: the name gets into paths and headers, and onto other people's disks. */
static struct iris_str
name_clean(struct iris_arena *arena, struct iris_str name)
{
	struct iris_strbuf clean = STRBUF_INIT(arena);

	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.base[i];

		strbuf_add_char(&clean, c < 0x20 || c == 0x7f || c == '/' || c == '\\' ? '_' :
											 (char)c);
	}
	if (clean.len == 0 || str_is(strbuf_str(&clean), ".") || str_is(strbuf_str(&clean), ".."))
		return IRIS_STR("file");
	return name_shorten(arena, strbuf_str(&clean));
}

/* "type/subtype" in lower case, without parameters; else none. */
static struct iris_str
type_clean(struct iris_arena *arena, struct iris_str type)
{
	struct iris_strbuf clean = STRBUF_INIT(arena);
	unsigned slashes = 0;

	for (size_t i = 0; i < type.len && type.base[i] != ';' && type.base[i] != ' '; i++) {
		char c = type.base[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		slashes += c == '/';
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("/.+-_", c)))
			return IRIS_STR("");
		strbuf_add_char(&clean, c);
	}
	return slashes == 1 && clean.len <= TYPE_MAX_BYTES ? strbuf_str(&clean) : IRIS_STR("");
}

bool
file_type_is(struct iris_arena *arena, struct iris_str type, struct iris_str header)
{
	return str_equal(type, type_clean(arena, header));
}

/* RFC 3986 §2.3: all but the unreserved characters. */
void
percent_encode(struct iris_strbuf *buf, struct iris_str text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.base[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-._~", c)))
			strbuf_add_char(buf, (char)c);
		else
			strbuf_printf(buf, "%%%02X", c);
	}
}

struct iris_str
file_path(struct iris_arena *arena, const struct file *file)
{
	struct iris_strbuf path = STRBUF_INIT(arena);

	strbuf_add(&path, IRIS_STR(FILES_PATH));
	strbuf_add(&path, file->token);
	strbuf_add_char(&path, '/');
	percent_encode(&path, file->name);
	return strbuf_str(&path);
}

/* --- limits --- */

int64_t
files_size_max(enum file_purpose purpose)
{
	if (purpose == FILE_PERMANENT && !option_bool(&files_self, OPT_PERMANENT))
		return 0;
	return option_int(&files_self,
			  purpose == FILE_PROFILE ? OPT_PROFILE_SIZE_MAX : OPT_SIZE_MAX);
}

static enum file_grant
quota_check(const struct file_wish *wish)
{
	const struct iris_account *account = wish->account;
	int64_t of_company = option_int(&files_self, OPT_COMPANY_QUOTA);
	struct file_usage own, company;

	if (!file_usage_read(account->owner, account->id, &own) ||
	    !file_usage_read(account->owner, 0, &company))
		return FILE_BUSY;
	if (own.files >= option_int(&files_self, OPT_ACCOUNT_FILES) ||
	    own.bytes + wish->size > option_int(&files_self, OPT_ACCOUNT_QUOTA) ||
	    (of_company > 0 && company.bytes + wish->size > of_company))
		return FILE_OVER_QUOTA;
	return FILE_GRANTED;
}

int64_t
file_expiry(const struct file *file)
{
	int64_t keep = option_int(&files_self, file->purpose == FILE_PROFILE ? OPT_KEEP_PROFILE :
									       OPT_KEEP);
	int64_t expires = file->purpose == FILE_PERMANENT || keep == 0 ? 0 :
									 worker_wall_ms() + keep;

	return file->until_ms > 0 && (expires == 0 || file->until_ms < expires) ? file->until_ms :
										  expires;
}

/* --- the slot --- */

static enum file_grant
slot_insert(struct iris_arena *arena, const struct file_wish *wish, struct iris_str *path_r)
{
	struct file file = {
		.owner = wish->account->owner,
		.account = wish->account->id,
		.state = FILE_SLOT,
		.purpose = wish->purpose,
		.size = wish->size,
		.created_ms = worker_wall_ms(),
		.expires_ms = worker_wall_ms() + option_int(&files_self, OPT_SLOT_TIME),
		.until_ms = wish->purpose == FILE_EPHEMERAL ? wish->expires_ms : 0,
		.token = random_id(arena, TOKEN_BITS),
		.name = name_clean(arena, wish->name),
		.type = type_clean(arena, wish->type),
	};

	file.id = file_id_of(file.token);
	if (file_insert(&file) != IRIS_VAULT_OK)
		return FILE_BUSY;
	metric_add(&file_metrics[METRIC_SLOTS], 1);
	*path_r = file_path(arena, &file);
	return FILE_GRANTED;
}

enum file_grant
files_slot_make(struct iris_arena *arena, const struct file_wish *wish, struct iris_str *path_r)
{
	int64_t most = files_size_max(wish->purpose);
	enum file_grant grant;
	struct iris_str lock;

	if (most == 0)
		return FILE_DENIED;
	if (wish->size > most)
		return FILE_TOO_LARGE;
	lock = arena_printf(arena, "files:%lld", (long long)wish->account->id);
	fiber_lock(lock);
	grant = quota_check(wish);
	if (grant == FILE_GRANTED)
		grant = slot_insert(arena, wish, path_r);
	fiber_unlock(lock);
	return grant;
}
