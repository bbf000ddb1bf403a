/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0357: telling accounts of what was said where none of their sessions is (the members of a
 * room), for plug-ins that name "xep0357" in their needs.  Any worker; never waits.
 */
#ifndef IRIS_XEP0357_PUSH_H
#define IRIS_XEP0357_PUSH_H

#include "iris/stanza.h"

/* Addresses by their homes: constant, counted, to be used for many messages. */
struct push_audience;

/* Bare addresses of this server's hosts; they are copied. One reference. */
struct push_audience *push_audience_new(const struct iris_jid *addresses, size_t count);
struct push_audience *push_audience_ref(struct push_audience *audience);
void push_audience_unref(struct push_audience **audience_p); /* nulls, accepts NULL */
/*
 * Something was said (a frozen message): the services of each account at whose devices nobody looks
 * are told, as of a message that it got. Accounts without services are not loaded for it.
 */
void push_audience_tell(struct push_audience *audience, struct iris_stanza *message);

#endif
