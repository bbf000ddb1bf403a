/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in, whole: everything the outside can know about it stands in one const table, the last
 * thing in its file and its only exported symbol.  The runtime walks it to register, and walks it
 * back to unregister.
 */
#ifndef IRIS_MODULE_H
#define IRIS_MODULE_H

#include "iris/carrier.h"
#include "iris/command.h"
#include "iris/config.h"
#include "iris/fiber.h"
#include "iris/hook.h"
#include "iris/log.h"
#include "iris/metrics.h"
#include "iris/vault.h"
#include "iris/web.h"
#include "iris/worker.h"

#pragma GCC visibility push(default) /* for plug-ins */

#define IRIS_MODULE_MAGIC 0x49524953u
#define IRIS_MODULE_ABI 1u

/* The mutable side of a module: one static instance per plug-in. */
struct iris_module_self {
	unsigned index;                              /* of slots; set by the runtime */
	_Atomic(const struct iris_settings *) settings; /* of the section with the module's name */
	/* the module's own, shared by workers: immutable or atomic */
	void *state;
};

/* The module's options by index, from any worker. */
#define option_bool(self, i) settings_bool(atomic_load(&(self)->settings), (i))
#define option_int(self, i) settings_int(atomic_load(&(self)->settings), (i))
#define option_str(self, i) settings_str(atomic_load(&(self)->settings), (i))

/*
 * a host's domain; an account's bare JID, or no address at all; the domain of a service; an address
 * of a service (iris/service.h)
 */
enum iris_target {
	IRIS_TO_HOST = 1,
	IRIS_TO_ACCOUNT = 2,
	IRIS_TO_SERVICE = 4,
	IRIS_TO_PLACE = 8,
};

enum iris_iq_access {
	IRIS_ANYONE, /* of ours or remote */
	/* the account itself only; others get what a non-existent address would give */
	IRIS_SELF,
	IRIS_NETWORK /* the account itself and contacts that see its presence */
};

struct iris_iq {
	unsigned targets;         /* IRIS_TO_… */
	enum iris_stanza_type type; /* IRIS_GET or IRIS_SET */
	const char *name, *ns;    /* of the payload */
	enum iris_iq_access access;
	/* On a fiber (may wait), at the home of what is asked. PASS is not allowed. */
	enum iris_verdict (*handle)(struct iris_request *request);
};

struct iris_stream_handler {
	const char *name, *ns;    /* an element between stanzas */
	/* 1u << IRIS_STREAM_… where it is allowed; elsewhere unsupported-stanza-type */
	unsigned states;
	/* On the stream's fiber, in order with stanzas; may wait. */
	void (*handle)(struct iris_stream *stream, struct iris_element *element);
};

/*
 * What a module keeps of an account and needs in memory with its user: read with what all others
 * keep in one trip, before the hook user_load. For modules that cannot be unloaded.
 */
struct iris_user_rows {
	struct iris_query *query; /* one parameter: the account's id; also among `queries` */
	/* Home worker, no wait. rows: gone afterwards. False: the user cannot be loaded. */
	bool (*take)(struct iris_user *user, const struct iris_rows *rows);
};

struct iris_feature {
	enum iris_discovered of;
	const char *var;
};

struct iris_hook_handler {
	enum iris_hook_id id;
	enum iris_band band;
	enum iris_verdict (*fn)(void *arg); /* made by HOOK(), which checks the type */
};

/*
 * A typed entry: HOOK(stanza_in, IRIS_FILTER, blocking_stanza_in). The handler's signature is
 * checked.
 */
#define X(name, type) typedef enum iris_verdict (*iris_hook_fn_##name)(type *);
IRIS_HOOKS(X)
#undef X
#define HOOK(hook, band_, handler)                                                     \
	{ .id = IRIS_HOOK_ID_##hook, .band = (band_),                                  \
	  .fn = (enum iris_verdict (*)(void *))(1 ? (handler) : (iris_hook_fn_##hook)0) }
#define HOOKS_END { .fn = NULL }

struct iris_module {
	uint32_t magic, abi;
	size_t size;                  /* sizeof(struct iris_module): all three are checked */
	const char *name;             /* also the name of its section in the configuration */
	const char *summary;
	const char *xep;              /* "XEP-0124 1.11, XEP-0206 1.4", or NULL; the DOAP file is
					 made from it */
	const char *const *needs;     /* NULL-terminated names, or NULL */
	struct iris_module_self *self;
	const struct iris_option *options;       /* ends with a NULL name; NULL: none. So below. */
	struct iris_query *const *queries;       /* NULL-terminated */
	const struct iris_user_rows *user_rows;  /* ends with a NULL query */
	const struct iris_feature *features;     /* ends with a NULL var */
	const struct iris_iq *iq;                /* ends with a NULL name */
	const struct iris_stream_handler *elements; /* ends with a NULL name */
	const struct iris_hook_handler *hooks;   /* ends with HOOKS_END */
	const struct iris_command *const *commands; /* NULL-terminated */
	struct iris_metric *metrics;             /* ends with a NULL name */
	const struct iris_accounts *accounts;    /* of the one module that keeps accounts */
	/* Registers SASL mechanisms beyond libsasl2's; see iris/sasl.h. NULL for nearly all. */
	const struct iris_sasl_mechanism *mechanisms;
	const struct iris_stream_role *const *roles; /* NULL-terminated */
	const struct iris_protocol *const *protocols; /* NULL-terminated */
	const struct iris_web_route *web; /* ends with a NULL path */
	/* of a module that keeps the vault: modules/sqlite */
	const struct iris_vault_engine *engine;
	bool off_by_default;          /* must be named in modules: to be loaded */
	/* neither loaded nor unloaded while the server runs: it keeps something of each user,
	   session or stream, which those that are there already would lack or leave behind */
	bool not_unloadable;
	/* it talks to other servers, or serves who does: not in an isolated region (P2.1) */
	bool outward;
	/* it needs neither accounts nor a vault: also at an edge (P2.7), where nothing else runs */
	bool at_edge;
	/* beyond the table; NULL: nothing */
	bool (*check)(const struct iris_settings *settings, struct iris_error *error);
	/* main thread, before workers listen, or at load */
	bool (*start)(struct iris_error *error);
	void (*reload)(void);                    /* main thread, after the swap of settings */
	/* main thread, after hooks are gone from all workers */
	void (*stop)(void);
};

#define IRIS_MODULE_HEAD \
	.magic = IRIS_MODULE_MAGIC, .abi = IRIS_MODULE_ABI, .size = sizeof(struct iris_module)
#define IRIS_NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Any worker: is a module of this name loaded? */
bool module_is_loaded(const char *name);
/*
 * Any worker: what the loaded modules announce in discovery, sorted, each once. fn must not wait.
 */
void feature_each(enum iris_discovered of, void (*fn)(const char *var, void *arg), void *arg);

#pragma GCC visibility pop
#endif
