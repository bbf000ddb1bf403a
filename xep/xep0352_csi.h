/* SPDX-License-Identifier: Apache-2.0 */
/* XEP-0352: which clients say that nobody looks at them.  Home worker of the session. */
#ifndef IRIS_XEP0352_CSI_H
#define IRIS_XEP0352_CSI_H

#include "iris/user.h"

/* Said by the client, of this stream. A session without a stream is not asked here. */
bool csi_is_inactive(struct iris_session *session);
/* When it last said that somebody looks again (Unix time); 0: never. */
int64_t csi_active_since(struct iris_session *session);

#endif
