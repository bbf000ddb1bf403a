/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0059 1.0: Result Set Management, read and written: see xep0059_rsm.h.  No protocol of its
 * own. It does not give counts or indices (§2.6, §2.7 are optional): they cost as much as reading
 * all.
 */
#include "xep/xep0059_rsm.h"

static struct iris_module_self rsm_self;

enum iris_condition
rsm_read(const struct iris_element *parent, size_t limit, struct rsm_request *request_r)
{
	struct iris_element *set = element_child(parent, "set", NS_RSM), *child;
	int64_t max;

	*request_r = (struct rsm_request){ .max = limit, .asked = set != NULL };
	if (!set)
		return IRIS_NO_ERROR;
	if ((child = element_child(set, "max", NS_RSM)) != NULL) {
		if (!str_to_int(element_get_text(child), 0, INT32_MAX, &max))
			return IRIS_BAD_REQUEST;
		if ((size_t)max < limit)
			request_r->max = (size_t)max;
	}
	request_r->after = element_child_text(set, "after", NS_RSM);
	if ((child = element_child(set, "before", NS_RSM)) != NULL) {
		request_r->before = element_get_text(child);
		if (str_is_none(request_r->before))
			request_r->before = IRIS_STR("");
	}
	return element_child(set, "index", NS_RSM) ? IRIS_FEATURE_NOT_IMPLEMENTED : IRIS_NO_ERROR;
}

void
rsm_write(struct iris_element *parent, struct iris_str first, struct iris_str last)
{
	struct iris_element *set = element_add(parent, "set", NS_RSM);

	if (str_is_none(first))
		return;
	element_add_text(set, "first", NULL, first);
	element_add_text(set, "last", NULL, last);
}

static const struct iris_feature rsm_features[] = {
	{ IRIS_DISCO_HOST, NS_RSM },
	{ IRIS_DISCO_ACCOUNT, NS_RSM },
	{ .var = NULL },
};

const struct iris_module iris_module_xep0059 = {
	IRIS_MODULE_HEAD,
	.name = "xep0059",
	.summary = "Result Set Management",
	.xep = "XEP-0059 1.0.1",
	.self = &rsm_self,
	.features = rsm_features,
	.not_unloadable = true,
};
