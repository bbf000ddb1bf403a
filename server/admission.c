/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts connections that are not authenticated.  One lock for all workers: it is held for a hash
 * lookup, twice in the life of a connection.
 * SECURITY: silent connections would otherwise take all descriptors and memory there are.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>

#include "admission.h"
#include "iris/hash.h"

struct admission {
	struct iris_hash_node node;
	unsigned count;
	uint8_t key[9];
};

static struct {
	pthread_mutex_t lock;
	struct iris_hash addresses;
	unsigned count, limit, limit_per_address;
} admissions = { .lock = PTHREAD_MUTEX_INITIALIZER, .limit = 10000, .limit_per_address = 100 };

static size_t
admission_key(const struct sockaddr *address, uint8_t key_r[9])
{
	key_r[0] = 4;
	if (address->sa_family == AF_INET) {
		memcpy(key_r + 1, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
		       4);
		return 5;
	}
	if (address->sa_family == AF_INET6) {
		const struct in6_addr *in6 =
			&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;

		if (IN6_IS_ADDR_V4MAPPED(in6)) {
			memcpy(key_r + 1, in6->s6_addr + 12, 4);
			return 5;
		}
		key_r[0] = 6;
		memcpy(key_r + 1, in6->s6_addr, 8);
		return 9;
	}
	key_r[0] = 0;
	return 1;
}

static struct admission *
admission_get(const uint8_t *key, size_t len)
{
	struct iris_hash_node *node =
		hash_find(&admissions.addresses, (struct iris_str){ (const char *)key, len });
	struct admission *admission;

	if (node)
		return IRIS_CONTAINER(node, struct admission, node);
	admission = iris_calloc(1, sizeof(*admission));
	memcpy(admission->key, key, len);
	hash_insert(&admissions.addresses, &admission->node,
		    (struct iris_str){ (const char *)admission->key, len });
	return admission;
}

static void
admission_drop_unused(struct admission *admission)
{
	if (admission->count > 0)
		return;
	hash_remove(&admissions.addresses, &admission->node);
	if (admissions.addresses.count == 0)
		hash_free(&admissions.addresses);
	free(admission);
}

void
admission_set_limits(unsigned total, unsigned per_address)
{
	pthread_mutex_lock(&admissions.lock);
	admissions.limit = total;
	admissions.limit_per_address = per_address;
	pthread_mutex_unlock(&admissions.lock);
}

struct admission *
admission_enter(const struct sockaddr *address)
{
	struct admission *admission = NULL;
	uint8_t key[9];
	size_t len = admission_key(address, key);

	pthread_mutex_lock(&admissions.lock);
	if (admissions.count < admissions.limit) {
		admission = admission_get(key, len);
		if (admission->count < admissions.limit_per_address) {
			admission->count++;
			admissions.count++;
		} else {
			admission_drop_unused(admission);
			admission = NULL;
		}
	}
	pthread_mutex_unlock(&admissions.lock);
	return admission;
}

void
admission_leave(struct admission **admission_p)
{
	struct admission *admission = *admission_p;

	if (!admission)
		return;
	*admission_p = NULL;
	pthread_mutex_lock(&admissions.lock);
	IRIS_ASSERT(admission->count > 0 && admissions.count > 0);
	admission->count--;
	admissions.count--;
	admission_drop_unused(admission);
	pthread_mutex_unlock(&admissions.lock);
}

unsigned
admission_count(void)
{
	unsigned count;

	pthread_mutex_lock(&admissions.lock);
	count = admissions.count;
	pthread_mutex_unlock(&admissions.lock);
	return count;
}
