/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0059: Result Set Management, read and written; for plug-ins that name "xep0059" in their
 * needs.
 */
#ifndef IRIS_XEP0059_RSM_H
#define IRIS_XEP0059_RSM_H

#include "iris/module.h"

#define NS_RSM "http://jabber.org/protocol/rsm"

struct rsm_request {
	/* within the limit that was given; that limit when none was asked for */
	size_t max;
	struct iris_str after;       /* none: from the start */
	struct iris_str before;      /* none: not asked for; empty: the last page */
	bool asked;                  /* there was a <set/> */
};

/*
 * Reads the <set/> among the children of `parent`; none asks for the first page. An error: it is
 * not well-formed (§2), or asks for a page by its index (§2.6), which we do not have.
 */
IRIS_MUST_CHECK enum iris_condition rsm_read(const struct iris_element *parent, size_t limit,
					     struct rsm_request *request_r);
/* Writes a <set/> with the first and last id of a page, or an empty one. */
void rsm_write(struct iris_element *parent, struct iris_str first, struct iris_str last);

#endif
