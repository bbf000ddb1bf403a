/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file with a region's master key: 64 hexadecimal digits that nobody but its owner may read.
 * Any thread; blocks.  Does not know what the key opens (vault_keys.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vault_private.h"

#define MASTER_TEXT (2 * VAULT_KEY_SIZE) /* hexadecimal digits */

static bool
master_problem(struct iris_error *error, const char *path, const char *what)
{
	error_set(error, "The region's master key cannot be used: %s", what);
	return error_detail(error, "%s", path);
}

/*
 * A credential of systemd's lies in a folder that only the service can enter; its group bits are
 * the mask of an access list that names the service's user.
 */
bool
path_is_credential(const char *path)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	size_t len = folder ? strlen(folder) : 0;

	return len > 1 && strncmp(path, folder, len) == 0 && path[len] == '/' &&
	       !strstr(path + len, "/../");
}

/* SECURITY: a key that others may read is no key. */
static bool
master_check(int fd, const char *path, struct iris_error *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return master_problem(error, path, "it is not a regular file");
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return master_problem(error, path, "it belongs to another user");
	if (st.st_mode & (path_is_credential(path) ? 0137 : 0177)) {
		master_problem(error, path, "others than its owner may read or change it");
		return error_hint(error,
				  "chmod 0400 the file; if others could read it, make new keys");
	}
	if (st.st_size < MASTER_TEXT || st.st_size > MASTER_TEXT + 1) {
		master_problem(error, path, "it is not of the right size");
		return error_hint(error,
				  "It holds %d hexadecimal digits; restore it from the backup",
				  MASTER_TEXT);
	}
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
master_decode(const char text[MASTER_TEXT], unsigned char root[VAULT_KEY_SIZE])
{
	bool ok = true;

	for (unsigned i = 0; i < VAULT_KEY_SIZE; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		ok = ok && high >= 0 && low >= 0;
		root[i] = (unsigned char)(high << 4 | low);
	}
	return ok;
}

bool
master_load(const char *path, unsigned char root[VAULT_KEY_SIZE], struct iris_error *error)
{
	char text[MASTER_TEXT];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool ok = true;

	if (fd < 0) {
		master_problem(error, path, strerror(errno));
		return error_hint(error, "irisctl init makes one for a new region; for an old one "
					 "restore the backup");
	}
	ok = master_check(fd, path, error);
	if (ok && read(fd, text, sizeof(text)) != (ssize_t)sizeof(text))
		ok = master_problem(error, path, "it cannot be read");
	if (ok && !master_decode(text, root))
		ok = master_problem(error, path, "it holds something else than hexadecimal digits");
	OPENSSL_cleanse(text, sizeof(text));
	(void)close(fd);
	return ok;
}

static bool
master_write(int fd, struct iris_error *error)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char root[VAULT_KEY_SIZE];
	char text[MASTER_TEXT + 1];

	IRIS_ASSERT(RAND_priv_bytes(root, sizeof(root)) == 1);
	for (unsigned i = 0; i < VAULT_KEY_SIZE; i++) {
		text[2 * i] = digits[root[i] >> 4];
		text[2 * i + 1] = digits[root[i] & 15];
	}
	text[MASTER_TEXT] = '\n';
	bool ok = write(fd, text, sizeof(text)) == (ssize_t)sizeof(text) && fsync(fd) == 0;
	OPENSSL_cleanse(root, sizeof(root));
	OPENSSL_cleanse(text, sizeof(text));
	return ok || error_set(error, "The master key cannot be written: %s", strerror(errno));
}

bool
keys_master_create(const char *path, struct iris_error *error)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);

	if (fd < 0 && errno == EEXIST)
		return true; /* checked when it is loaded */
	if (fd < 0)
		return master_problem(error, path, strerror(errno));
	bool ok = master_write(fd, error);
	(void)close(fd);
	if (!ok)
		(void)unlink(path);
	return ok;
}
