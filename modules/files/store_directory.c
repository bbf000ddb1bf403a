/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in a directory: one file each, named by its id, in 256 folders.  What is being written
 * lies in the folder `new` until it is whole and on the disk, and is cleared away at the next
 * start. All calls of the file system are made on the CPU pool: a disk may be slow.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "modules/files/files_private.h"

#define NEW_FOLDER "new"
#define NAME_SIZE 40

static int directory_fd = -1;
static atomic_ullong directory_serial; /* of names in `new` */

struct directory_put {
	int64_t id;
	int fd;
	char name[NAME_SIZE]; /* in `new` */
};

/* One call of the pool, on the fiber's stack. */
struct directory_call {
	struct directory_put *put;
	int fd;
	const struct file_place *place;
	char *buf;
	size_t len;
	int64_t offset;
	bool keep;
	int error; /* errno; 0: done */
};

static void
place_name(int64_t id, char name_r[NAME_SIZE])
{
	snprintf(name_r, NAME_SIZE, "%02x/%016" PRIx64, (unsigned)(id & 0xff), (uint64_t)id);
}

static bool
directory_done(const struct directory_call *call, const char *what)
{
	struct iris_error error = { .message = "" };

	if (call->error == 0)
		return true;
	error_set(&error, "a file cannot be %s", what);
	error_detail(&error, "%s", strerror(call->error));
	error_hint(&error, "see to the space and the rights of files.directory");
	log_error(IRIS_LOG_ERROR, "files", "store", &error);
	metric_add(&file_metrics[METRIC_STORE_ERRORS], 1);
	return false;
}

/* --- on the pool --- */

static void
call_create(void *arg)
{
	struct directory_call *call = arg;

	call->put->fd = openat(directory_fd, call->put->name,
			       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	call->error = call->put->fd < 0 ? errno : 0;
	/* Room is taken now: a full disk is told before the upload, not at its end. */
	if (call->put->fd >= 0 && call->place->size > 0) {
		int result = posix_fallocate(call->put->fd, 0, call->place->size);

		call->error = result == EOPNOTSUPP || result == EINVAL ? 0 : result;
	}
}

static void
call_write(void *arg)
{
	struct directory_call *call = arg;

	while (call->len > 0 && call->error == 0) {
		ssize_t written = write(call->put->fd, call->buf, call->len);

		if (written < 0 && errno != EINTR)
			call->error = errno;
		if (written > 0) {
			call->buf += written;
			call->len -= (size_t)written;
		}
	}
}

static int
sync_folder(int64_t id)
{
	char folder[8];
	int fd, result;

	snprintf(folder, sizeof(folder), "%02x", (unsigned)(id & 0xff));
	fd = openat(directory_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	result = fsync(fd) == 0 ? 0 : errno;
	close(fd);
	return result;
}

static void
call_finish(void *arg)
{
	struct directory_call *call = arg;
	struct directory_put *put = call->put;
	char name[NAME_SIZE];

	place_name(put->id, name);
	if (call->keep && fsync(put->fd) != 0)
		call->error = errno;
	if (call->keep && call->error == 0) {
		if (renameat(directory_fd, put->name, directory_fd, name) != 0)
			call->error = errno;
		else
			call->error = sync_folder(put->id);
	}
	if (!call->keep || call->error != 0)
		(void)unlinkat(directory_fd, put->name, 0);
	close(put->fd);
}

static void
call_open(void *arg)
{
	struct directory_call *call = arg;
	char name[NAME_SIZE];

	place_name(call->place->id, name);
	call->fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	call->error = call->fd < 0 ? errno : 0;
}

static void
call_read(void *arg)
{
	struct directory_call *call = arg;

	while (call->len > 0 && call->error == 0) {
		ssize_t got = pread(call->fd, call->buf, call->len, call->offset);

		if (got == 0)
			call->error = ENODATA;
		else if (got < 0 && errno != EINTR)
			call->error = errno;
		if (got > 0) {
			call->buf += got;
			call->len -= (size_t)got;
			call->offset += got;
		}
	}
}

static void
call_remove(void *arg)
{
	struct directory_call *call = arg;
	char name[NAME_SIZE];

	place_name(call->place->id, name);
	if (unlinkat(directory_fd, name, 0) != 0 && errno != ENOENT)
		call->error = errno;
}

/* --- the store --- */

static void *
directory_put_begin(const struct file_place *place)
{
	struct directory_put *put = iris_calloc(1, sizeof(*put));
	struct directory_call call = { .put = put, .place = place };

	put->id = place->id;
	snprintf(put->name, sizeof(put->name), NEW_FOLDER "/%llu",
		 (unsigned long long)atomic_fetch_add(&directory_serial, 1));
	pool_call("files: create", call_create, &call);
	if (directory_done(&call, "created"))
		return put;
	if (put->fd >= 0) {
		int error = call.error;

		call.keep = false;
		pool_call("files: drop", call_finish, &call);
		call.error = error;
	}
	free(put);
	return NULL;
}

static bool
directory_put(void *arg, struct iris_str bytes)
{
	struct directory_call call = { .put = arg, .buf = (char *)bytes.base, .len = bytes.len };

	pool_call("files: write", call_write, &call);
	return directory_done(&call, "written");
}

static bool
directory_put_end(void **put_p, bool keep)
{
	struct directory_call call = { .put = *put_p, .keep = keep };

	pool_call("files: finish", call_finish, &call);
	free(*put_p);
	*put_p = NULL;
	return directory_done(&call, "finished") && keep;
}

static void *
directory_get_begin(const struct file_place *place)
{
	struct directory_call call = { .place = place };
	int *fd;

	pool_call("files: open", call_open, &call);
	if (!directory_done(&call, "opened"))
		return NULL;
	fd = iris_malloc(sizeof(*fd));
	*fd = call.fd;
	return fd;
}

static bool
directory_get(void *get, int64_t offset, char *buf, size_t len)
{
	struct directory_call call = {
		.fd = *(int *)get, .buf = buf, .len = len, .offset = offset
	};

	pool_call("files: read", call_read, &call);
	return directory_done(&call, "read");
}

static void
directory_get_end(void **get_p)
{
	if (*get_p)
		close(*(int *)*get_p);
	free(*get_p);
	*get_p = NULL;
}

static bool
directory_remove(const struct file_place *place)
{
	struct directory_call call = { .place = place };

	pool_call("files: remove", call_remove, &call);
	return directory_done(&call, "removed");
}

static int64_t
directory_segment(void)
{
	return 0;
}

/* --- start --- */

static void
clear_new(void)
{
	int fd = openat(directory_fd, NEW_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);

	if (!folder) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(folder));)
		if (entry->d_name[0] != '.')
			(void)unlinkat(fd, entry->d_name, 0);
	closedir(folder);
}

static bool
make_folders(void)
{
	char name[8];

	if (mkdirat(directory_fd, NEW_FOLDER, 0700) != 0 && errno != EEXIST)
		return false;
	for (unsigned i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		if (mkdirat(directory_fd, name, 0700) != 0 && errno != EEXIST)
			return false;
	}
	return fsync(directory_fd) == 0;
}

static bool
directory_start(struct iris_error *error)
{
	struct iris_str path = option_str(&files_self, OPT_DIRECTORY);
	char text[1024];

	if (!str_copy_to(text, sizeof(text), path))
		return error_set(error, "files.directory is too long");
	if (mkdir(text, 0700) != 0 && errno != EEXIST)
		return error_set(error, "%s cannot be made: %s", text, strerror(errno)) ||
		       error_hint(error, "make its parent, or change files.directory");
	directory_fd = open(text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory_fd < 0)
		return error_set(error, "%s cannot be opened: %s", text, strerror(errno));
	if (!make_folders())
		return error_set(error, "%s cannot be written: %s", text, strerror(errno)) ||
		       error_hint(error, "give it to the user of process.user");
	clear_new();
	return true;
}

static void
directory_stop(void)
{
	if (directory_fd >= 0)
		close(directory_fd);
	directory_fd = -1;
}

const struct file_store file_store_directory = {
	.name = "directory",
	.start = directory_start,
	.stop = directory_stop,
	.segment = directory_segment,
	.put_begin = directory_put_begin,
	.put = directory_put,
	.put_end = directory_put_end,
	.get_begin = directory_get_begin,
	.get = directory_get,
	.get_end = directory_get_end,
	.remove = directory_remove,
};
