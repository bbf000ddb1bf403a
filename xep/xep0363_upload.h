/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0363: what its two files share. */
#ifndef IRIS_XEP0363_UPLOAD_H
#define IRIS_XEP0363_UPLOAD_H

#include "iris/service.h"
#include "modules/files/files.h"

#define NS_UPLOAD "urn:xmpp:http:upload:0"

enum { UPLOAD_OPT_URL, UPLOAD_OPT_LABEL };

extern struct iris_module_self upload_self;

/* Answers a <request/> for this account; request->host is the account's. On a fiber. */
enum iris_verdict upload_answer(struct iris_request *request, const struct iris_account *account);
extern const struct iris_service_kind upload_service_kind;
extern const struct iris_module iris_module_xep0363;

#endif
