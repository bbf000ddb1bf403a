/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0363: what its two files share. */
#ifndef IRIS_XEP0363_UPLOAD_H
#define IRIS_XEP0363_UPLOAD_H

#include "modules/files/files.h"

#define NS_UPLOAD "urn:xmpp:http:upload:0"
#define UPLOAD_NAME "HTTP File Upload"

enum { UPLOAD_OPT_URL, UPLOAD_OPT_LABEL };

extern struct iris_module_self upload_self;

/* Answers a <request/> for this account; request->host is the account's. On a fiber. */
enum iris_verdict upload_answer(struct iris_request *request, const struct iris_account *account);
/* Identity, purposes and the form of limits, for an answer to disco#info. */
void upload_describe(struct iris_element *query);

/* The address of a host's service, NUL-terminated; none: it has none. Any worker. */
struct iris_str upload_service_domain(const struct iris_host *host);
/* Makes those of hosts that are new. Main thread. */
void upload_service_look(void);

#endif
