/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a configuration, collected: an operator mends all of a file at once, not
 * one line per start.  Bounded.  Main thread.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "config_private.h"
#include "iris/log.h"

static void IRIS_PRINTF(4, 0)
	add_line(char **lines, size_t *count, size_t *more, const char *fmt, va_list args)
{
	char line[1024];

	if (*count == REPORT_MAX) {
		++*more;
		return;
	}
	vsnprintf(line, sizeof(line), fmt, args);
	lines[(*count)++] = str_dup(str_from(line));
}

void
report_error(struct iris_report *report, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_line(report->errors, &report->error_count, &report->error_more, fmt, args);
	va_end(args);
}

void
report_restart(struct iris_report *report, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	add_line(report->restarts, &report->restart_count, &report->restart_more, fmt, args);
	va_end(args);
}

void
report_write(const struct iris_report *report, FILE *out)
{
	for (size_t i = 0; i < report->error_count; i++)
		fprintf(out, "%s\n", report->errors[i]);
	if (report->error_more)
		fprintf(out, "… and %zu more errors\n", report->error_more);
	for (size_t i = 0; i < report->restart_count; i++)
		fprintf(out, "%s\n", report->restarts[i]);
	if (report->restart_more)
		fprintf(out, "… and %zu more options need a restart\n", report->restart_more);
}

void
report_log(const struct iris_report *report, const char *area)
{
	for (size_t i = 0; i < report->error_count; i++)
		LOG(IRIS_LOG_ERROR, area, "configuration-refused",
		    LOG_CSTR("reason", report->errors[i]));
	if (report->error_more)
		LOG(IRIS_LOG_ERROR, area, "more-errors", LOG_INT("count", report->error_more));
	for (size_t i = 0; i < report->restart_count; i++)
		LOG(IRIS_LOG_WARNING, area, "restart-needed",
		    LOG_CSTR("option", report->restarts[i]));
	if (report->restart_more)
		LOG(IRIS_LOG_WARNING, area, "restart-needed-for-more",
		    LOG_INT("count", report->restart_more));
}

bool
report_to_error(const struct iris_report *report, struct iris_error *error)
{
	const size_t others =
		report->error_count + report->error_more - (report->error_count ? 1 : 0);

	if (report->error_count == 0)
		return error_set(error, "the configuration is refused");
	if (others > 0)
		return error_set(error, "%s (and %zu more errors)", report->errors[0], others);
	return error_set(error, "%s", report->errors[0]);
}

void
report_clear(struct iris_report *report)
{
	for (size_t i = 0; i < report->error_count; i++)
		free(report->errors[i]);
	for (size_t i = 0; i < report->restart_count; i++)
		free(report->restarts[i]);
	*report = (struct iris_report){ 0 };
}
