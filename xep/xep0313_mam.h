/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0313: queries of any archive, for plug-ins that name "xep0313" in their needs.  An archive
 * is the log of one reader; who may read it is asked before, by whose it is.
 * Home worker of the archive's address, on the fiber of the request; they wait.
 */
#ifndef IRIS_XEP0313_MAM_H
#define IRIS_XEP0313_MAM_H

#include "iris/module.h"
#include "xep/payloads.h"

/* How entries are found that are with an address (§4.1.1). */
enum mam_match {
	MAM_BY_INDEX,   /* by their peer */
	MAM_BY_LOOKING, /* from, or to, is this very address; and by their peer, if set */
	MAM_NOTHING,    /* there are none that who asks may see */
};

struct mam_archive;

struct mam_archive_kind {
	/* Waits for changes of what was said that came before the question. NULL: there are
	   none. */
	void (*settle)(const struct mam_archive *archive);
	/* peer_r: of the log's index; 0 at first. */
	enum mam_match (*match)(const struct mam_archive *archive, const struct iris_jid *with,
				int64_t *peer_r);
	/* An entry as who asks may see it, a new stanza; NULL: it cannot be read. No wait. */
	struct iris_stanza *(*show)(const struct mam_archive *archive,
				    const struct iris_log_entry *entry);
	/* A result to who asks, before the answer; takes the reference. No wait. */
	void (*give)(struct iris_request *request, struct iris_stanza **message_p, int64_t log_id);
};

struct mam_archive {
	const struct mam_archive_kind *kind;
	int64_t reader; /* ids are sealed for it; only entries with ARCHIVE_HISTORY are read */
	iris_owner owner;
	struct iris_jid jid; /* results come from it */
};

/* <query/>, set: results, then <fin/> */
enum iris_verdict mam_answer_query(struct iris_request *request,
				   const struct mam_archive *archive);
/* <query/>, get: which fields are understood (§4.1.6) */
enum iris_verdict mam_answer_form(struct iris_request *request);
/* <metadata/>: the first and the last message (§6) */
enum iris_verdict mam_answer_metadata(struct iris_request *request,
				      const struct mam_archive *archive);

#endif
