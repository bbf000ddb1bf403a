/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0077: who may register though registration is not open, and which names are kept for others;
 * for a plug-in that names "xep0077" in its needs.
 */
#ifndef IRIS_XEP0077_REGISTER_H
#define IRIS_XEP0077_REGISTER_H

#include "iris/module.h"

#define NS_REGISTER "jabber:iq:register"

/* On the stream's fiber, before it is signed in; all but `admits` and `features` may wait. */
struct register_admission {
	void (*features)(struct iris_stream *stream, struct iris_element *features);
	/*
	 * An iq that does not speak of registration. False: not mine; else it is answered with an
	 * empty result, or the refusal.
	 */
	bool (*handle_iq)(struct iris_stream *stream, struct iris_element *iq,
			  struct iris_refusal *refusal_r);
	bool (*admits)(struct iris_stream *stream);
	/* May this stream register this address now? If so, `settle` follows. */
	enum iris_condition (*claim)(struct iris_stream *stream, const struct iris_jid *jid,
				     const char **text_r);
	void (*settle)(struct iris_stream *stream, const struct iris_jid *jid, bool registered);
};

/* Main thread, at start and stop of the plug-in; NULL: nobody is any more. */
void register_set_admission(const struct register_admission *admission);

#endif
