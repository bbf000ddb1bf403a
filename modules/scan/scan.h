/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What irisd and iris-scan say to each other, one message a packet (SOCK_SEQPACKET).  Both are
 * built from this header; the version is checked all the same, since a running irisd may start a
 * newer one.
 */
#ifndef IRIS_SCAN_H
#define IRIS_SCAN_H

#include <stdint.h>

#define SCAN_VERSION 1u
#define SCAN_SOCKET 3       /* the descriptor of the pair in iris-scan */
#define SCAN_TEXT_MAX 200
#define SCAN_JOBS_MAX 64

/* The file's descriptor comes along (SCM_RIGHTS): a memfd, sealed against changes. */
struct scan_request {
	uint64_t id;
	uint64_t size;
};

enum scan_kind {
	SCAN_READY = 1, /* once: signatures are loaded; text: how it is confined */
	SCAN_FAILED,    /* once, instead: text says why; the process ends */
	SCAN_DONE       /* of a request */
};

enum scan_verdict { SCAN_CLEAN, SCAN_INFECTED, SCAN_UNSCANNABLE, SCAN_BROKEN };

struct scan_reply {
	uint32_t version;
	uint32_t kind;
	uint64_t id;
	uint32_t verdict;
	uint32_t signatures;      /* READY: how many */
	char text[SCAN_TEXT_MAX]; /* NUL-terminated */
};

/* iris-scan's arguments, in this order; sizes in bytes, times in milliseconds. */
enum scan_argument {
	SCAN_ARG_PROGRAM,
	SCAN_ARG_SIGNATURES, /* folder */
	SCAN_ARG_TEMPORARY,  /* folder in a tmpfs, for us alone */
	SCAN_ARG_JOBS,       /* at a time */
	SCAN_ARG_FILE_MAX,   /* size of one layer */
	SCAN_ARG_TOTAL_MAX,  /* of all layers of a file */
	SCAN_ARG_MEMORY,     /* of a job, beyond the signatures and the file */
	SCAN_ARG_TIME,       /* of a job */
	SCAN_ARG_COUNT
};

#endif
