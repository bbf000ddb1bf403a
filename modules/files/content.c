/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file's bytes as a stream: sealed on their way to the store, opened on their way back, a few
 * chunks at a time (iris/vault.h, blobs).  On the fiber of whoever sends or wants them; the cipher
 * runs on the CPU pool when there is more than a chunk.  Memory is constant: two buffers each.
 */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "modules/files/files_private.h"

#define RUN 4 /* chunks at a time */
#define SEALED_CHUNK (BLOB_CHUNK_SIZE + BLOB_TAG)

struct content_writer {
	const struct file *file;
	struct iris_blob *blob;
	void *put;
	int64_t done;  /* plain bytes that are with the store */
	size_t filled; /* of `plain` */
	bool ok;
	char plain[RUN * BLOB_CHUNK_SIZE];
	char sealed[RUN * SEALED_CHUNK];
};

struct content_reader {
	struct file file;
	struct iris_blob *blob;
	void *get;
	int64_t first, count; /* chunks that are in `plain` */
	char plain[RUN * BLOB_CHUNK_SIZE];
	char sealed[RUN * SEALED_CHUNK];
};

static int64_t
chunk_count(int64_t size) /* an empty file has one, too */
{
	return size == 0 ? 1 : (size + BLOB_CHUNK_SIZE - 1) / BLOB_CHUNK_SIZE;
}

int64_t
file_sealed_size(int64_t size)
{
	return size + chunk_count(size) * BLOB_TAG;
}

struct file_place
file_place_of(const struct file *file)
{
	return (struct file_place){ .id = file->id,
				    .size = file_sealed_size(file->size),
				    .segment = file->segment };
}

/* The buffers of plain text are not left in freed memory. */
static void
run(const char *name, void (*fn)(void *arg), void *arg, size_t len)
{
	if (len > BLOB_CHUNK_SIZE)
		pool_call(name, fn, arg);
	else
		fn(arg);
}

/* --- writing --- */

struct content_writer *
content_writer_new(struct file *file)
{
	struct content_writer *writer;
	struct file_place place;
	void *put;

	file->segment = store()->segment();
	place = file_place_of(file);
	put = store()->put_begin(&place);
	if (!put)
		return NULL;
	writer = iris_malloc(sizeof(*writer));
	writer->file = file;
	writer->blob = blob_new(file->key, file->owner, file->id, true);
	writer->put = put;
	writer->done = 0;
	writer->filled = 0;
	writer->ok = true;
	return writer;
}

char *
content_writer_room(struct content_writer *writer, size_t *size_r)
{
	int64_t left = writer->file->size - writer->done - (int64_t)writer->filled;
	size_t room = sizeof(writer->plain) - writer->filled;

	*size_r = (int64_t)room < left ? room : (size_t)left;
	return writer->plain + writer->filled;
}

static void
writer_seal(void *arg)
{
	struct content_writer *writer = arg;
	size_t at = 0;

	for (unsigned i = 0; at < writer->filled || (i == 0 && writer->file->size == 0); i++) {
		size_t left = writer->filled - at;
		size_t len = left < BLOB_CHUNK_SIZE ? left : BLOB_CHUNK_SIZE;
		int64_t end = writer->done + (int64_t)(at + len);

		blob_seal(writer->blob, (uint64_t)(writer->done + (int64_t)at) / BLOB_CHUNK_SIZE,
			  end == writer->file->size, (struct iris_str){ writer->plain + at, len },
			  writer->sealed + i * SEALED_CHUNK);
		at += len;
	}
}

static void
writer_flush(struct content_writer *writer)
{
	size_t sealed = (size_t)file_sealed_size((int64_t)writer->filled);

	run("files: seal", writer_seal, writer, writer->filled);
	writer->ok = store()->put(writer->put, (struct iris_str){ writer->sealed, sealed });
	writer->done += (int64_t)writer->filled;
	writer->filled = 0;
}

bool
content_writer_filled(struct content_writer *writer, size_t len)
{
	writer->filled += len;
	if (writer->ok && (writer->filled == sizeof(writer->plain) ||
			   writer->done + (int64_t)writer->filled == writer->file->size))
		writer_flush(writer);
	return writer->ok;
}

bool
content_writer_end(struct content_writer **writer_p, bool keep)
{
	struct content_writer *writer = *writer_p;
	bool whole = writer->ok && writer->done == writer->file->size;
	bool kept = store()->put_end(&writer->put, keep && whole);

	blob_free(&writer->blob);
	OPENSSL_cleanse(writer->plain, sizeof(writer->plain));
	free(writer);
	*writer_p = NULL;
	return kept;
}

/* --- reading --- */

struct content_reader *
content_reader_new(const struct file *file)
{
	struct file_place place = file_place_of(file);
	struct content_reader *reader;
	void *get = store()->get_begin(&place);

	if (!get)
		return NULL;
	reader = iris_malloc(sizeof(*reader));
	reader->file = *file;
	reader->blob = blob_new(file->key, file->owner, file->id, false);
	reader->get = get;
	reader->first = reader->count = 0;
	return reader;
}

/* Of the chunks that are in `sealed`; count 0 when one does not open. */
static void
reader_open(void *arg)
{
	struct content_reader *reader = arg;
	int64_t last = chunk_count(reader->file.size) - 1;

	for (int64_t i = 0; i < reader->count; i++) {
		int64_t number = reader->first + i;
		int64_t len = number == last ? reader->file.size - last * BLOB_CHUNK_SIZE :
					       BLOB_CHUNK_SIZE;

		if (!blob_open(reader->blob, (uint64_t)number, number == last,
			       (struct iris_str){ reader->sealed + i * SEALED_CHUNK,
						  (size_t)len + BLOB_TAG },
			       reader->plain + i * BLOB_CHUNK_SIZE))
			reader->count = 0;
	}
}

static bool
reader_fill(struct content_reader *reader, int64_t chunk)
{
	int64_t left = chunk_count(reader->file.size) - chunk;
	int64_t begin = chunk * SEALED_CHUNK, end;

	reader->first = chunk;
	reader->count = left < RUN ? left : RUN;
	end = left <= RUN ? file_sealed_size(reader->file.size) :
			    begin + reader->count * SEALED_CHUNK;
	if (!store()->get(reader->get, begin, reader->sealed, (size_t)(end - begin)))
		return false;
	run("files: open", reader_open, reader, (size_t)(end - begin));
	if (reader->count > 0)
		return true;
	LOG(IRIS_LOG_ERROR, "files", "altered", LOG_INT("file", reader->file.id),
	    LOG_CSTR("hint", "what lies in the store is not what was written; restore it"));
	metric_add(&file_metrics[METRIC_STORE_ERRORS], 1);
	return false;
}

struct iris_str
content_read(struct content_reader *reader, int64_t offset)
{
	int64_t chunk = offset / BLOB_CHUNK_SIZE;
	int64_t begin, end;

	IRIS_ASSERT(offset >= 0 && offset < reader->file.size);
	if ((chunk < reader->first || chunk >= reader->first + reader->count) &&
	    !reader_fill(reader, chunk))
		return IRIS_STR_NONE;
	begin = reader->first * BLOB_CHUNK_SIZE;
	end = begin + reader->count * BLOB_CHUNK_SIZE;
	if (end > reader->file.size)
		end = reader->file.size;
	return (struct iris_str){ reader->plain + (offset - begin), (size_t)(end - offset) };
}

void
content_reader_free(struct content_reader **reader_p)
{
	struct content_reader *reader = *reader_p;

	if (!reader)
		return;
	store()->get_end(&reader->get);
	blob_free(&reader->blob);
	OPENSSL_cleanse(&reader->file, sizeof(reader->file));
	OPENSSL_cleanse(reader->plain, sizeof(reader->plain));
	free(reader);
	*reader_p = NULL;
}
