/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the sessions of BOSH are.  Any thread: requests of one session come to whichever worker
 * accepted their connection, and the session moves to the home of its user when he signs in.  A
 * lock, held for a look-up; it is taken once for each request of HTTP.
 *
 * SECURITY: a session costs more than a connection, and one connection can ask for many. Those of
 * nobody who has signed in are bounded, in all and for each address.
 */
#include <pthread.h>
#include <stdlib.h>

#include "bosh_private.h"

/* An address that has sessions of strangers. */
struct bosh_address {
	struct iris_hash_node node;
	unsigned count;
	char text[48];
};

static struct {
	pthread_mutex_t lock;
	struct iris_hash sessions, addresses;
	unsigned strangers;
} directory = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct bosh_address *
address_get(const char *text)
{
	struct iris_hash_node *node = hash_find(&directory.addresses, str_from(text));
	struct bosh_address *address;

	if (node)
		return IRIS_CONTAINER(node, struct bosh_address, node);
	address = iris_calloc(1, sizeof(*address));
	IRIS_ASSERT(str_copy_to(address->text, sizeof(address->text), str_from(text)));
	hash_insert(&directory.addresses, &address->node, str_from(address->text));
	return address;
}

static void
address_drop(struct bosh_address *address)
{
	if (address->count > 0)
		return;
	hash_remove(&directory.addresses, &address->node);
	free(address);
	if (directory.addresses.count == 0)
		hash_free(&directory.addresses);
}

static void
directory_forget_stranger(struct bosh_session *session)
{
	struct bosh_address *address = session->address;

	if (!address)
		return;
	session->address = NULL;
	directory.strangers--;
	address->count--;
	address_drop(address);
}

static bool
directory_has_room(const struct bosh_address *address)
{
	return directory.strangers < (uint64_t)bosh_option(BOSH_OPT_STRANGERS) &&
	       address->count < (uint64_t)bosh_option(BOSH_OPT_STRANGERS_PER_ADDRESS);
}

bool
bosh_directory_add(struct bosh_session *session)
{
	struct bosh_address *address;
	bool room;

	pthread_mutex_lock(&directory.lock);
	address = address_get(session->peer);
	room = directory_has_room(address);
	if (room) {
		session->address = address;
		session->worker = worker_index();
		address->count++;
		directory.strangers++;
		hash_insert(&directory.sessions, &session->entry, str_from(session->sid));
	} else {
		address_drop(address);
	}
	pthread_mutex_unlock(&directory.lock);
	return room;
}

void
bosh_directory_move(struct bosh_session *session, int worker)
{
	pthread_mutex_lock(&directory.lock);
	session->worker = worker;
	pthread_mutex_unlock(&directory.lock);
}

void
bosh_directory_admit(struct bosh_session *session)
{
	pthread_mutex_lock(&directory.lock);
	directory_forget_stranger(session);
	pthread_mutex_unlock(&directory.lock);
}

void
bosh_directory_remove(struct bosh_session *session)
{
	pthread_mutex_lock(&directory.lock);
	directory_forget_stranger(session);
	hash_remove(&directory.sessions, &session->entry);
	if (directory.sessions.count == 0)
		hash_free(&directory.sessions);
	pthread_mutex_unlock(&directory.lock);
}

struct iris_worker *
bosh_directory_find(struct iris_str sid)
{
	struct iris_hash_node *node;
	struct iris_worker *worker = NULL;

	pthread_mutex_lock(&directory.lock);
	node = hash_find(&directory.sessions, sid);
	if (node)
		worker = worker_at(IRIS_CONTAINER(node, struct bosh_session, entry)->worker);
	pthread_mutex_unlock(&directory.lock);
	return worker;
}
