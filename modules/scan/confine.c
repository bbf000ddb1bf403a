/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scanner may do.  seccomp is a must; user and network namespaces and Landlock are
 * taken where the kernel grants them (a hardened unit may refuse namespaces); what is in force
 * is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/magic.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "modules/scan/scan_private.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool has_namespaces;
static uint64_t space_used;

/* --- system calls --- */

/* What libclamav and the C library need for one file. */
static const int job_calls[] = {
	SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(pwrite64),
	SCMP_SYS(writev), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(statx), SCMP_SYS(fstatfs), SCMP_SYS(access),
	SCMP_SYS(faccessat), SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(creat), SCMP_SYS(unlink),
	SCMP_SYS(unlinkat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(rmdir), SCMP_SYS(rename),
	SCMP_SYS(getdents64), SCMP_SYS(ftruncate), SCMP_SYS(fcntl), SCMP_SYS(dup), SCMP_SYS(umask),
	SCMP_SYS(getcwd), SCMP_SYS(readlink), SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fsync),
	SCMP_SYS(fdatasync), SCMP_SYS(fadvise64), SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap),
	SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(futex),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(times), SCMP_SYS(getrusage),
	SCMP_SYS(getrandom), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(sysinfo), SCMP_SYS(uname),
	SCMP_SYS(prlimit64), SCMP_SYS(getrlimit), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall), SCMP_SYS(rseq), SCMP_SYS(set_robust_list),
	SCMP_SYS(set_tid_address),
};

/* What the keeper needs besides: to listen, to make jobs and to end them. */
static const int keeper_calls[] = {
	SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(pipe2), SCMP_SYS(clone), SCMP_SYS(clone3), SCMP_SYS(fork),
	SCMP_SYS(wait4), SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(prctl), SCMP_SYS(seccomp),
	SCMP_SYS(setrlimit), SCMP_SYS(landlock_create_ruleset), SCMP_SYS(landlock_add_rule),
	SCMP_SYS(landlock_restrict_self), SCMP_SYS(openat2),
};

/* SECURITY: nobody but an intruder asks for these. */
static const int deadly_calls[] = {
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(socket),
	SCMP_SYS(socketpair), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(mount), SCMP_SYS(bpf),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(io_uring_setup),
	SCMP_SYS(userfaultfd), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(init_module),
	SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(unshare), SCMP_SYS(setns),
};

static bool
filter_add(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int result = seccomp_rule_add(filter, action, calls[i], 0);

		/* Not every machine has every call. */
		if (result != 0 && result != -EDOM)
			return false;
	}
	return true;
}

static bool
filter_load(bool keeper)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool ok = filter &&
		  filter_add(filter, SCMP_ACT_KILL_PROCESS, deadly_calls, COUNT(deadly_calls)) &&
		  filter_add(filter, SCMP_ACT_ALLOW, job_calls, COUNT(job_calls)) &&
		  (!keeper ||
		   filter_add(filter, SCMP_ACT_ALLOW, keeper_calls, COUNT(keeper_calls))) &&
		  seccomp_load(filter) == 0;

	seccomp_release(filter);
	return ok;
}

/* --- files: Landlock --- */

#define LANDLOCK_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LANDLOCK_WRITE                                                                         \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                       \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |                        \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define LANDLOCK_OTHER                                                                         \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                           \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                        \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK)

static bool
landlock_allow(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = access,
		.parent_fd = open(path, O_PATH | O_CLOEXEC),
	};
	bool ok = rule.parent_fd >= 0 && syscall(SYS_landlock_add_rule, rules,
						 LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;

	if (rule.parent_fd >= 0)
		close(rule.parent_fd);
	return ok;
}

/* Only this folder. */
static bool
landlock_enter(const char *temporary)
{
	const struct landlock_ruleset_attr handled = {
		.handled_access_fs = LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_OTHER,
	};
	int rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
	bool ok;

	if (rules < 0)
		return false;
	ok = landlock_allow(rules, temporary, LANDLOCK_READ | LANDLOCK_WRITE) &&
	     syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	close(rules);
	return ok;
}

/* --- the rest --- */

static bool
capabilities_drop(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { .effective = 0 } };

	for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1; i++)
		(void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0); /* without the right to: there is none */
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &header, none) == 0;
}

static bool
is_in_memory(const char *folder)
{
	struct statfs status;

	return statfs(folder, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

static bool
confine_fail(char *text, size_t size, const char *what)
{
	snprintf(text, size, "%s", what);
	return false;
}

/* What the keeper has mapped, the signatures for the most part: its jobs have it, too. */
static uint64_t
address_space_used(void)
{
	char line[64] = "";
	unsigned long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

	if (fd >= 0)
		close(fd);
	return len > 0 && sscanf(line, "%lu", &pages) == 1 ?
		       pages * (uint64_t)sysconf(_SC_PAGESIZE) :
		       0;
}

bool
confine_keeper(const struct scan_limits *limits, char *text, size_t size)
{
	const struct rlimit none = { 0, 0 };

	/* SECURITY: what is unpacked is plain text, and must not reach a disk. */
	if (!is_in_memory(limits->temporary))
		return confine_fail(text, size, "the folder for temporary files is not in a tmpfs");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
		return confine_fail(text, size, "new privileges or core dumps cannot be forbidden");
	has_namespaces = unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0 ||
			 unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0;
	if (!capabilities_drop())
		return confine_fail(text, size, "the capabilities cannot be dropped");
	if (!filter_load(true))
		return confine_fail(text, size, "seccomp refuses the filter");
	return true;
}

bool
confine_loaded(const struct scan_limits *limits, char *text, size_t size)
{
	space_used = address_space_used();
	if (space_used == 0)
		return confine_fail(text, size, "/proc is not there: memory cannot be limited");
	snprintf(text, size, "seccomp%s%s", landlock_enter(limits->temporary) ? ", landlock" : "",
		 has_namespaces ? ", namespaces" : "");
	return true;
}

static bool
limit_set(int which, uint64_t value)
{
	return setrlimit((__rlimit_resource_t)which, &(struct rlimit){ value, value }) == 0;
}

bool
confine_job(const struct scan_limits *limits, uint64_t file_size)
{
	/* The file is mapped; so are layers in temporary files. */
	uint64_t space = space_used + limits->memory + file_size;

	return limit_set(RLIMIT_AS, space) && limit_set(RLIMIT_FSIZE, limits->total_max) &&
	       limit_set(RLIMIT_CPU, limits->time_ms / 1000 + 1) && filter_load(false);
}
