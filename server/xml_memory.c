/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expat's allocator (xml_memory.h).  Free blocks wait in lists of their size class, one set per
 * thread, bounded; what is larger or over the bound goes to malloc.  A block may be freed on
 * another thread than it came from (a stream that moves): it then waits there.
 */
#include <pthread.h>
#include <stdlib.h>

#include "xml_memory.h"

#define CLASS_MIN_SHIFT 6 /* 64 bytes */
#define CLASS_COUNT 10    /* to 32 KiB */
#define CLASS_NONE CLASS_COUNT
#define POOL_MAX (512 * 1024)

/* In front of each block; keeps what follows aligned for any type. */
union block {
	struct {
		size_t size; /* as asked for */
		unsigned class;
	};
	union block *next; /* while it is free */
	max_align_t align;
};

struct pool {
	union block *free[CLASS_COUNT];
	size_t bytes;
};

static pthread_once_t pool_once = PTHREAD_ONCE_INIT;
static pthread_key_t pool_key; /* for its destructor only */
static _Thread_local struct pool *thread_pool;
static _Thread_local struct xml_account *thread_account;

static void
pool_destroy(void *arg)
{
	struct pool *pool = arg;

	for (unsigned class = 0; class < CLASS_COUNT; class++) {
		while (pool->free[class]) {
			union block *block = pool->free[class];

			pool->free[class] = block->next;
			free(block);
		}
	}
	free(pool);
	thread_pool = NULL;
}

static void
pool_make_key(void)
{
	IRIS_ASSERT(pthread_key_create(&pool_key, pool_destroy) == 0);
}

static struct pool *
pool_get(void)
{
	if (!thread_pool) {
		pthread_once(&pool_once, pool_make_key);
		thread_pool = iris_calloc(1, sizeof(*thread_pool));
		IRIS_ASSERT(pthread_setspecific(pool_key, thread_pool) == 0);
	}
	return thread_pool;
}

static unsigned
class_of(size_t size)
{
	size_t whole = size + sizeof(union block);

	if (whole > (size_t)1 << (CLASS_MIN_SHIFT + CLASS_COUNT - 1))
		return CLASS_NONE;
	if (whole <= (size_t)1 << CLASS_MIN_SHIFT)
		return 0;
	return (unsigned)(64 - __builtin_clzll(whole - 1)) - CLASS_MIN_SHIFT;
}

static size_t
class_size(unsigned class)
{
	return (size_t)1 << (CLASS_MIN_SHIFT + class);
}

static union block *
block_get(size_t size, unsigned class)
{
	struct pool *pool;
	union block *block;

	if (class == CLASS_NONE)
		return iris_malloc(sizeof(union block) + size);
	pool = pool_get();
	block = pool->free[class];
	if (!block)
		return iris_malloc(class_size(class));
	pool->free[class] = block->next;
	pool->bytes -= class_size(class);
	return block;
}

static void
block_put(union block *block, unsigned class)
{
	struct pool *pool = class == CLASS_NONE ? NULL : pool_get();

	if (!pool || pool->bytes + class_size(class) > POOL_MAX) {
		free(block);
		return;
	}
	block->next = pool->free[class];
	pool->free[class] = block;
	pool->bytes += class_size(class);
}

static void *
memory_alloc(size_t size)
{
	struct xml_account *account = thread_account;
	union block *block;
	unsigned class;

	IRIS_ASSERT(account != NULL);
	if (size > account->limit || account->used > account->limit - size)
		return NULL;
	class = class_of(size);
	block = block_get(size, class);
	block->size = size;
	block->class = class;
	account->used += size;
	return block + 1;
}

static void
memory_free(void *ptr)
{
	struct xml_account *account = thread_account;
	union block *block;

	if (!ptr)
		return;
	block = (union block *)ptr - 1;
	IRIS_ASSERT(account != NULL && account->used >= block->size);
	account->used -= block->size;
	block_put(block, block->class);
}

static void *
memory_realloc(void *ptr, size_t size)
{
	union block *old = ptr ? (union block *)ptr - 1 : NULL;
	void *fresh = memory_alloc(size);

	if (fresh && old) {
		memcpy(fresh, ptr, old->size < size ? old->size : size);
		memory_free(ptr);
	}
	return fresh;
}

struct xml_account *
xml_memory_enter(struct xml_account *account)
{
	struct xml_account *before = thread_account;

	thread_account = account;
	return before;
}

const XML_Memory_Handling_Suite xml_memory_suite = {
	.malloc_fcn = memory_alloc, .realloc_fcn = memory_realloc, .free_fcn = memory_free,
};
