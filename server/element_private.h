/* SPDX-License-Identifier: Apache-2.0 */
/* What the parser, the writer and the stanza share about trees. */
#ifndef IRIS_ELEMENT_PRIVATE_H
#define IRIS_ELEMENT_PRIVATE_H

#include "iris/stanza.h"

/* The static string for a common name or namespace, else a copy in the arena. */
struct iris_str element_intern(struct iris_arena *arena, struct iris_str name);
/* As element_new() and element_add(), for names that are interned or in the arena. */
struct iris_element *element_create(struct iris_arena *arena, struct iris_element *parent,
				    struct iris_str name, struct iris_str ns);
/*
 * Joins the texts of mixed content everywhere below, so that element_get_text() never allocates
 * again.
 * SECURITY: a frozen tree is read by several threads, its arena is not for them.
 */
void element_join_texts(struct iris_element *element);

/* The opening tag up to its attributes: no '>' yet. */
void element_write_attribute(struct iris_strbuf *buf, struct iris_str name, struct iris_str value);
/* The elements and texts below `element`, around which its own namespace is in force. */
void element_write_children(struct iris_strbuf *buf, const struct iris_element *element);
/* All attributes but the one of that name (NULL: all). */
void element_write_attributes(struct iris_strbuf *buf, const struct iris_element *element,
			      const char *except);

#endif
