/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0049: elements that another plug-in keeps, and that are read and written as private XML, too;
 * for plug-ins that name "xep0049" in their needs.
 */
#ifndef IRIS_XEP0049_PRIVATE_H
#define IRIS_XEP0049_PRIVATE_H

#include "iris/module.h"

struct private_view {
	const char *name; /* "{namespace}element" */
	/* On the request's fiber. *element_r NULL: there is none yet. False: it cannot be read. */
	bool (*get)(struct iris_request *request, struct iris_element **element_r);
	enum iris_condition (*set)(struct iris_request *request, struct iris_element *element);
	struct private_view *next;
};

void private_view_add(struct private_view *view);    /* main thread, in .start; static */
void private_view_remove(struct private_view *view); /* main thread, in .stop */

#endif
