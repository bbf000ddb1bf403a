/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secret that federated regions share (P2.6), and what plug-ins may know of the map.  Files are
 * read on the main thread; the rest is for any.  It does not say what the secret is for: whoever
 * uses it derives a key of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "gate_private.h"
#include "iris/stanza.h"
#include "region_secret.h"
#include "vault_private.h"

#define SECRET_TEXT 44 /* base64 of it */

_Static_assert(REGION_PEERS_MAX == REGIONS_MAX, "an index of the map is one of a peer");

static pthread_mutex_t secret_lock = PTHREAD_MUTEX_INITIALIZER; /* of these two */
static struct region_secret secret_now;
static bool secret_is_there;
static void (*secret_listener)(void); /* main thread */

static void
secret_digest(struct region_secret *secret)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_Digest(secret->bytes, sizeof(secret->bytes), digest, &len, EVP_sha256(), NULL);
	for (unsigned i = 0; i < len; i++)
		snprintf(secret->digest + 2 * i, 3, "%02x", digest[i]);
}

void
region_secret_make(struct region_secret *secret_r)
{
	IRIS_ASSERT(RAND_priv_bytes(secret_r->bytes, sizeof(secret_r->bytes)) == 1);
	secret_digest(secret_r);
}

char *
region_secret_text(const struct region_secret *secret)
{
	char *text = iris_calloc(1, SECRET_TEXT + 2);

	EVP_EncodeBlock((unsigned char *)text, secret->bytes, sizeof(secret->bytes));
	text[SECRET_TEXT] = '\n';
	return text;
}

static bool
secret_problem(struct iris_error *error, const char *path, const char *what)
{
	error_set(error, "the regions' secret cannot be used: %s", what);
	return error_detail(error, "%s", path);
}

/* SECURITY: who reads it can try out addresses against hashes that were seen. */
static bool
secret_check_file(int fd, const char *path, struct iris_error *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return secret_problem(error, path, "it is not a regular file");
	if (st.st_mode & (path_is_credential(path) ? 0137 : 0177)) {
		secret_problem(error, path, "others than its owner may read or change it");
		return error_hint(error, "chmod 0600 it; if others could read it, make a new one");
	}
	return true;
}

static bool
secret_decode(struct iris_str text, struct region_secret *secret_r)
{
	struct iris_arena *arena = arena_new();
	struct iris_str bytes;
	bool ok;

	while (text.len > 0 && text.base[text.len - 1] == '\n')
		text.len--;
	ok = base64_decode(arena, text, &bytes) && bytes.len == sizeof(secret_r->bytes);
	if (ok) {
		memcpy(secret_r->bytes, bytes.base, bytes.len);
		OPENSSL_cleanse((void *)(uintptr_t)bytes.base, bytes.len);
		secret_digest(secret_r);
	}
	arena_unref(&arena);
	return ok;
}

bool
region_secret_load(const char *path, struct region_secret *secret_r, struct iris_error *error)
{
	char text[SECRET_TEXT + 2];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t len = 0;
	bool ok;

	if (fd < 0)
		return secret_problem(error, path, strerror(errno));
	ok = secret_check_file(fd, path, error);
	if (ok)
		len = read(fd, text, sizeof(text));
	if (ok && (len <= 0 || !secret_decode((struct iris_str){ text, (size_t)len }, secret_r))) {
		ok = secret_problem(error, path, "it is not base64 of 32 bytes");
		error_hint(error, "irisctl region secret makes one");
	}
	OPENSSL_cleanse(text, sizeof(text));
	(void)close(fd);
	return ok;
}

static void
secret_use(const struct region_secret *secret)
{
	pthread_mutex_lock(&secret_lock);
	secret_is_there = secret != NULL;
	if (secret)
		secret_now = *secret;
	else
		OPENSSL_cleanse(&secret_now, sizeof(secret_now));
	pthread_mutex_unlock(&secret_lock);
}

bool
region_secret_fits(const struct region_map *map, unsigned own, struct iris_str path, bool use,
		   struct iris_error *error)
{
	const struct region *region = &map->regions[own];
	struct region_secret secret;
	bool ok = true;

	if (str_is_empty(path)) {
		if (use)
			secret_use(NULL);
		return true;
	}
	/* SECURITY: who shares nothing with others has nothing of theirs to lose. */
	if (region->class != REGION_FEDERATED) {
		error_set(error, "the region %s is %s: the regions' secret is not for it",
			  region->id, region_class_name(region->class));
		return error_hint(error, "remove regions: {secret: …}, and the file");
	}
	if (!region_secret_load(path.base, &secret, error))
		return false;
	if (!map->secret || strcmp(map->secret, secret.digest) != 0) {
		ok = error_set(error, "the secret %s is not the one that the region map names",
			       path.base);
		error_hint(error, "the map has its SHA-256: irisctl region secret MAP FILE");
	} else if (use) {
		secret_use(&secret);
	}
	OPENSSL_cleanse(&secret, sizeof(secret));
	return ok;
}

void
region_secret_forget(void)
{
	secret_use(NULL);
}

void
region_secret_changed(void)
{
	if (secret_listener)
		secret_listener();
}

/* --- for plug-ins --- */

bool
region_secret(unsigned char secret_r[REGION_SECRET_SIZE], char id_r[REGION_SECRET_ID + 1])
{
	bool is_there;

	pthread_mutex_lock(&secret_lock);
	is_there = secret_is_there;
	if (is_there) {
		memcpy(secret_r, secret_now.bytes, REGION_SECRET_SIZE);
		memcpy(id_r, secret_now.digest, REGION_SECRET_ID);
		id_r[REGION_SECRET_ID] = '\0';
	}
	pthread_mutex_unlock(&secret_lock);
	return is_there;
}

void
region_listen(void (*fn)(void))
{
	secret_listener = fn;
}

/* Does it federate, and is there somebody to ask? */
static bool
peer_of(const struct region_map *map, unsigned index, struct iris_region_peer *peer_r)
{
	const struct region *region = &map->regions[index];

	if (index == map->own || region->class != REGION_FEDERATED || !region->domains[0])
		return false;
	*peer_r = (struct iris_region_peer){ str_from(region->id), str_from(region->domains[0]),
					     index };
	return true;
}

static bool
we_federate(const struct region_map *map)
{
	return map && map->own < map->count && map->regions[map->own].class == REGION_FEDERATED;
}

bool
region_federation(struct iris_arena *arena, struct iris_region_federation *federation_r)
{
	const struct region_map *map = gate_current_map();
	struct iris_region_peer peer;

	*federation_r = (struct iris_region_federation){ .count = 0 };
	if (!we_federate(map))
		return map || !gate_has_map();
	federation_r->id = arena_copy_str(arena, str_from(map->regions[map->own].id));
	federation_r->domain =
		arena_copy_str(arena, str_from(map->regions[map->own].domains[0]));
	federation_r->peers = arena_alloc(arena, map->count * sizeof(*federation_r->peers));
	for (unsigned i = 0; i < map->count; i++)
		if (peer_of(map, i, &peer)) {
			peer.id = arena_copy_str(arena, peer.id);
			peer.domain = arena_copy_str(arena, peer.domain);
			federation_r->peers[federation_r->count++] = peer;
		}
	return true;
}

bool
region_peer_find(struct iris_arena *arena, struct iris_str domain, struct iris_region_peer *peer_r)
{
	const struct region_map *map = gate_current_map();
	unsigned index;

	if (!we_federate(map))
		return false;
	index = region_map_find(map, domain, NULL);
	if (index == map->count || !peer_of(map, index, peer_r) ||
	    !str_equal(peer_r->domain, domain))
		return false;
	peer_r->id = arena_copy_str(arena, peer_r->id);
	peer_r->domain = arena_copy_str(arena, peer_r->domain);
	return true;
}
