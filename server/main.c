/* SPDX-License-Identifier: Apache-2.0 */
/* irisd's command line. The stages of start and stop are in boot.c. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "boot.h"
#include "log_private.h"
#include "module_private.h"
#include "worker_private.h"

#define EXIT_CONFIG 78 /* EX_CONFIG of sysexits.h: systemd does not try again */

enum mode { SERVE, CHECK, PRINT_MANUAL, PRINT_SAMPLE, PRINT_DOAP, PRINT_STAGES };

static void
print_usage(FILE *out)
{
	fputs("usage: irisd [--config FILE] [--check]\n"
	      "       irisd --print-manual | --print-sample | --print-doap | --print-stages\n"
	      "\n"
	      "  -c, --config FILE   the configuration [" IRIS_SYSCONFDIR "/iris.yaml]\n"
	      "      --check         check it completely and leave: 0 if it is right, 78 if not\n"
	      "      --print-manual  the manual page of the configuration, made from the option "
	      "tables\n"
	      "      --print-sample  a configuration with every option at its default\n"
	      "      --print-doap    what is implemented, as a DOAP file\n"
	      "      --print-stages  what start does, in order\n"
	      "  -V, --version\n"
	      "  -h, --help\n",
	      out);
}

static int
print_document(enum mode mode)
{
	if (mode == PRINT_MANUAL)
		config_write_manual(stdout, modules_linked);
	else if (mode == PRINT_SAMPLE)
		config_write_sample(stdout, modules_linked);
	else if (mode == PRINT_DOAP)
		modules_write_doap(stdout, modules_linked);
	else
		boot_print_stages(stdout);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int
serve(void)
{
	struct iris_error error = { .message = "" };

	if (!boot_start(&error)) {
		log_error(IRIS_LOG_ERROR, "boot", "start-failed", &error);
		return EXIT_FAILURE;
	}
	boot_run();
	boot_stop();
	LOG(IRIS_LOG_NOTICE, "boot", "stopped", LOG_INT("code", 0));
	return EXIT_SUCCESS;
}

static int
configure_and_run(const char *path, enum mode mode)
{
	struct iris_report report = { .error_count = 0 };
	int code = EXIT_CONFIG;

	worker_main_init();
	if (!boot_configure(path, &report)) {
		report_write(&report, stderr);
	} else if (mode == CHECK) {
		printf("%s: the configuration is right\n", path);
		modules_stop();
		code = EXIT_SUCCESS;
	} else {
		code = serve();
		/* forgets the configuration, when start failed before the modules */
		modules_stop();
	}
	report_clear(&report);
	log_close();
	worker_main_free();
	return code;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", no_argument, NULL, 'k' },
		{ "print-manual", no_argument, NULL, 'm' },
		{ "print-sample", no_argument, NULL, 's' },
		{ "print-doap", no_argument, NULL, 'd' },
		{ "print-stages", no_argument, NULL, 'g' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *path = IRIS_SYSCONFDIR "/iris.yaml";
	enum mode mode = SERVE;
	int option;

	while ((option = getopt_long(argc, argv, "c:Vh", options, NULL)) != -1) {
		switch (option) {
		case 'c': path = optarg; break;
		case 'k': mode = CHECK; break;
		case 'm': mode = PRINT_MANUAL; break;
		case 's': mode = PRINT_SAMPLE; break;
		case 'd': mode = PRINT_DOAP; break;
		case 'g': mode = PRINT_STAGES; break;
		case 'V': puts("irisd " PACKAGE_VERSION); return EXIT_SUCCESS;
		case 'h': print_usage(stdout); return EXIT_SUCCESS;
		default: print_usage(stderr); return 64;
		}
	}
	if (optind < argc) {
		print_usage(stderr);
		return 64;
	}
	return mode > CHECK ? print_document(mode) : configure_and_run(path, mode);
}
