/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process may do: limits, privileges, and its word with systemd.  Main thread.
 * It does not daemonise: that is the service manager's work.
 */
#include "process.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "iris/module.h"

enum { OPT_USER, OPT_OPEN_FILES, OPT_CORE_DUMPS };

static struct iris_module_self process_self;

/*
 * As many as asked for, or as the hard limit allows: that is logged, since it limits the
 * connections.
 */
static bool
process_raise_files(struct iris_error *error)
{
	rlim_t wanted = (rlim_t)option_int(&process_self, OPT_OPEN_FILES);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return error_set(error, "cannot read the limit of open files: %s", strerror(errno));
	if (limit.rlim_cur >= wanted)
		return true;
	if (setrlimit(RLIMIT_NOFILE,
		      &(struct rlimit){ wanted,
					limit.rlim_max > wanted ? limit.rlim_max : wanted }) == 0)
		return true;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return error_set(error, "cannot raise the limit of open files: %s",
				 strerror(errno));
	LOG(IRIS_LOG_WARNING, "process", "few-open-files", LOG_INT("limit", limit.rlim_cur),
	    LOG_INT("wanted", wanted), LOG_CSTR("hint", "set LimitNOFILE in the unit"));
	return true;
}

bool
process_prepare(struct iris_error *error)
{
	signal(SIGPIPE, SIG_IGN);
	/* SECURITY: nothing we might be made to run gets more rights than we have. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_set(error, "cannot forbid new privileges: %s", strerror(errno));
	/* SECURITY: keys and passwords are in memory; a core file would hold them. */
	if (!option_bool(&process_self, OPT_CORE_DUMPS) && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return error_set(error, "cannot forbid core dumps: %s", strerror(errno));
	return process_raise_files(error);
}

static bool
process_become(const struct passwd *user, struct iris_error *error)
{
	if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
	    setuid(user->pw_uid) != 0)
		return error_set(error, "cannot become user %s: %s", user->pw_name,
				 strerror(errno));
	/* SECURITY: a set-user-id that can be taken back is none. */
	if (setuid(0) == 0 || geteuid() != user->pw_uid || getegid() != user->pw_gid)
		return error_set(error, "privileges were not dropped for good");
	/* Changing the user makes the process undumpable by itself; dumps were asked for. */
	if (option_bool(&process_self, OPT_CORE_DUMPS))
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return true;
}

bool
process_drop_privileges(struct iris_error *error)
{
	struct iris_str name = option_str(&process_self, OPT_USER);
	struct passwd *user;
	char text[64];

	if (geteuid() != 0 || str_is_empty(name))
		return true;
	if (!str_copy_to(text, sizeof(text), name) || !(user = getpwnam(text))) {
		error_set(error, "there is no user “%.*s”", IRIS_STR_FMT(name));
		return error_hint(error, "make it (adduser --system), or change process.user");
	}
	if (user->pw_uid == 0)
		return true;
	return process_become(user, error);
}

void
process_notify(const char *state)
{
#ifdef HAVE_SYSTEMD
	sd_notify(0, state);
#endif
}

static const struct iris_option process_options[] = {
	[OPT_USER] = { "user", IRIS_OPT_STRING, NULL, .optional = true, .max = 32,
		       .help = "Whom the process becomes once its ports are open, when it is "
			       "started as root." },
	[OPT_OPEN_FILES] = { "open-files", IRIS_OPT_INT, "262144", .min = 256, .max = 16777216,
			     .help = "How many descriptors, and so connections, the process may "
				     "have." },
	[OPT_CORE_DUMPS] = { "core-dumps", IRIS_OPT_BOOL, "false",
			     .help = "Whether a crash may leave a core file; it holds keys." },
	IRIS_OPTIONS_END,
};

const struct iris_module iris_module_process = {
	IRIS_MODULE_HEAD,
	.name = "process",
	.summary = "Limits and privileges of the process",
	.self = &process_self,
	.options = process_options,
	.not_unloadable = true,
	.at_edge = true,
};
