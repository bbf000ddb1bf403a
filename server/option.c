/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One option's value: from text, back to text, and in words.  All units of the
 * configuration are known here and nowhere else.  Any thread.  Does not know files or lists.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "config_private.h"

#define GUESS_NAME_MAX 64

struct unit {
	const char *name, *plural; /* plural NULL: the same */
	int64_t factor;
};

/* Largest first: how a value is written is the first unit that divides it. */
static const struct unit duration_units[] = {
	{ "week", "weeks", 604800000 },
	{ "day", "days", 86400000 },
	{ "hour", "hours", 3600000 },
	{ "minute", "minutes", 60000 },
	{ "second", "seconds", 1000 },
	{ "ms", NULL, 1 },
	/* also understood */
	{ "h", NULL, 3600000 },
	{ "min", NULL, 60000 },
	{ "s", NULL, 1000 },
	{ "millisecond", "milliseconds", 1 },
	{ NULL, NULL, 0 },
};

static const struct unit size_units[] = {
	{ "TiB", NULL, INT64_C(1) << 40 },
	{ "GiB", NULL, 1 << 30 },
	{ "MiB", NULL, 1 << 20 },
	{ "KiB", NULL, 1 << 10 },
	{ "TB", NULL, INT64_C(1000000000000) },
	{ "GB", NULL, 1000000000 },
	{ "MB", NULL, 1000000 },
	{ "kB", NULL, 1000 },
	{ "byte", "bytes", 1 },
	{ "B", NULL, 1 },
	{ NULL, NULL, 0 },
};

static bool
refuse(char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return false;
}

static const struct unit *
unit_find(const struct unit *units, struct iris_str name)
{
	for (; units->name; units++)
		if (str_is(name, units->name) || (units->plural && str_is(name, units->plural)))
			return units;
	return NULL;
}

static struct iris_str
take_spaces(struct iris_str s)
{
	while (s.len > 0 && s.base[0] == ' ')
		s = (struct iris_str){ s.base + 1, s.len - 1 };
	return s;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Takes what `of` accepts from the start of *s. */
static struct iris_str
take_while(struct iris_str *s, bool (*of)(char c))
{
	struct iris_str taken = { s->base, 0 };
	while (taken.len < s->len && of(s->base[taken.len]))
		taken.len++;
	*s = (struct iris_str){ s->base + taken.len, s->len - taken.len };
	return taken;
}

/* "1 hour 30 minutes", "512 KiB": one or more amounts, summed. */
static bool
parse_amounts(const struct unit *units, struct iris_str text, int64_t *number_r, char *why,
	      size_t size)
{
	static const char no_size[] = "is not a size: write a number with a unit (bytes, KiB, MiB, "
				      "GiB), such as \"512 KiB\"";
	static const char no_duration[] = "is not a duration: write a number with a unit (ms, "
					  "seconds, minutes, hours, days), such as \"10 minutes\"";
	const bool is_size = units == size_units;
	struct iris_str rest = take_spaces(text);
	int64_t sum = 0;

	if (str_is(text, "0")) {
		*number_r = 0;
		return true;
	}
	do {
		struct iris_str digits = take_while(&rest, is_digit);
		rest = take_spaces(rest);
		const struct unit *unit = unit_find(units, take_while(&rest, is_letter));
		int64_t amount, part;

		if (digits.len == 0 || unit == NULL)
			return refuse(why, size, is_size ? no_size : no_duration);
		if (!str_to_int(digits, 0, INT64_MAX, &amount) ||
		    __builtin_mul_overflow(amount, unit->factor, &part) ||
		    __builtin_add_overflow(sum, part, &sum))
			return refuse(why, size, "is too large");
		rest = take_spaces(rest);
	} while (rest.len > 0);
	*number_r = sum;
	return true;
}

static bool
parse_choice(const struct iris_option *option, struct iris_str text, int64_t *number_r, char *why,
	     size_t size)
{
	struct option_guess guess = { .wanted = text };
	char hint[GUESS_NAME_MAX + 32], described[200];

	for (int64_t i = 0; option->choices[i]; i++) {
		guess_offer(&guess, option->choices[i]);
		if (str_is(text, option->choices[i])) {
			*number_r = i;
			return true;
		}
	}
	option_describe(option, described, sizeof(described));
	snprintf(why, size, "is not %s%s", described, guess_text(&guess, hint, sizeof(hint)));
	return false;
}

static bool
has_bounds(const struct iris_option *option)
{
	return option->min != 0 || option->max != 0;
}

/* "1 … 65535", "1 second …", in the unit of the option. */
static void
format_range(const struct iris_option *option, char *buf, size_t size)
{
	char min[48], max[48];
	const bool open = option->max == 0 && option->min > 0;

	option_format(option->type, option->min, min, sizeof(min));
	option_format(option->type, option->max, max, sizeof(max));
	snprintf(buf, size, "%s …%s%s", min, open ? "" : " ", open ? "" : max);
}

static bool
check_range(const struct iris_option *option, int64_t number, char *why, size_t size)
{
	char range[120];

	/* A lower bound alone is written with max 0. */
	if (!has_bounds(option) ||
	    (number >= option->min &&
	     (number <= option->max || (option->max == 0 && option->min > 0))))
		return true;
	format_range(option, range, sizeof(range));
	snprintf(why, size, "is out of range %s", range);
	return false;
}

static bool
check_length(const struct iris_option *option, size_t len, char *why, size_t size)
{
	if (!has_bounds(option) ||
	    ((int64_t)len >= option->min &&
	     ((int64_t)len <= option->max || (option->max == 0 && option->min > 0))))
		return true;
	snprintf(why, size, "has %zu bytes, but needs %" PRId64 " … %" PRId64, len, option->min,
		 option->max);
	return false;
}

bool
option_parse(const struct iris_option *option, struct iris_str text, int64_t *number_r, char *why,
	     size_t size)
{
	*number_r = 0;
	switch (option->type) {
	case IRIS_OPT_BOOL:
		*number_r = str_is(text, "true");
		return *number_r || str_is(text, "false") ||
		       refuse(why, size, "is neither true nor false");
	case IRIS_OPT_INT:
		if (!str_to_int(text, INT64_MIN, INT64_MAX, number_r))
			return refuse(why, size, "is not an integer");
		return check_range(option, *number_r, why, size);
	case IRIS_OPT_DURATION:
		return parse_amounts(duration_units, text, number_r, why, size) &&
		       check_range(option, *number_r, why, size);
	case IRIS_OPT_SIZE:
		return parse_amounts(size_units, text, number_r, why, size) &&
		       check_range(option, *number_r, why, size);
	case IRIS_OPT_CHOICE:
		return parse_choice(option, text, number_r, why, size);
	case IRIS_OPT_STRING:
		return check_length(option, text.len, why, size);
	case IRIS_OPT_PATH:
		return text.len > 0 || refuse(why, size, "is not a path");
	case IRIS_OPT_STRINGS:
	case IRIS_OPT_RECORDS:
		break;
	}
	IRIS_ASSERT(option->type < IRIS_OPT_STRINGS); /* a list is not a scalar */
	return false;
}

static void
format_amount(const struct unit *unit, int64_t number, char *buf, size_t size)
{
	while (unit->factor > 1 && (number == 0 || number % unit->factor != 0))
		unit++;
	number /= unit->factor;
	snprintf(buf, size, "%" PRId64 " %s", number,
		 number != 1 && unit->plural ? unit->plural : unit->name);
}

void
option_format(enum iris_option_type type, int64_t number, char *buf, size_t size)
{
	if (type == IRIS_OPT_DURATION)
		format_amount(duration_units, number, buf, size);
	else if (type == IRIS_OPT_SIZE)
		format_amount(size_units, number, buf, size);
	else
		snprintf(buf, size, "%" PRId64, number);
}

static void
describe_choices(const char *const *choices, char *buf, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; choices[i] && len < size; i++) {
		const char *joint = i == 0 ? "" : choices[i + 1] ? ", " : " or ";
		len += (size_t)snprintf(buf + len, size - len, "%s%s", joint, choices[i]);
	}
}

void
option_describe(const struct iris_option *option, char *buf, size_t size)
{
	/* The range stands between the two. */
	static const struct {
		const char *noun, *before, *after;
	} words[] = {
		[IRIS_OPT_BOOL] = { "true or false", "", "" },
		[IRIS_OPT_INT] = { "an integer", ", ", "" },
		[IRIS_OPT_DURATION] = { "a duration", ", ", "" },
		[IRIS_OPT_SIZE] = { "a size", ", ", "" },
		[IRIS_OPT_STRING] = { "a string", " of ", " bytes" },
		[IRIS_OPT_PATH] = { "a path", "", "" },
		[IRIS_OPT_CHOICE] = { "a choice", "", "" },
		[IRIS_OPT_STRINGS] = { "a list of strings", ", ", " entries" },
		[IRIS_OPT_RECORDS] = { "a list of mappings", ", ", " entries" },
	};
	char range[120];

	if (option->type == IRIS_OPT_CHOICE)
		describe_choices(option->choices, buf, size);
	else if (!has_bounds(option) || option->type == IRIS_OPT_BOOL ||
		 option->type == IRIS_OPT_PATH)
		snprintf(buf, size, "%s", words[option->type].noun);
	else {
		format_range(option, range, sizeof(range));
		snprintf(buf, size, "%s%s%s%s", words[option->type].noun,
			 words[option->type].before, range, words[option->type].after);
	}
}

static unsigned
min3(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;
	return least < c ? least : c;
}

/* Damerau–Levenshtein (neighbours swapped count once), three rows. */
static unsigned
edit_distance(struct iris_str a, struct iris_str b)
{
	unsigned rows[3][GUESS_NAME_MAX + 1];

	for (unsigned j = 0; j <= b.len; j++)
		rows[0][j] = j;
	for (unsigned i = 1; i <= a.len; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3],
			 *above2 = rows[(i + 1) % 3];
		row[0] = i;
		for (unsigned j = 1; j <= b.len; j++) {
			const bool same = a.base[i - 1] == b.base[j - 1];
			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1));
			if (i > 1 && j > 1 && a.base[i - 1] == b.base[j - 2] &&
			    a.base[i - 2] == b.base[j - 1] && above2[j - 2] + 1 < row[j])
				row[j] = above2[j - 2] + 1;
		}
	}
	return rows[a.len % 3][b.len];
}

void
guess_offer(struct option_guess *guess, const char *name)
{
	struct iris_str offered = str_from(name);

	if (guess->wanted.len > GUESS_NAME_MAX || offered.len > GUESS_NAME_MAX)
		return;
	unsigned distance = edit_distance(guess->wanted, offered);
	/* A third of the letters wrong is no longer a slip. */
	if (distance * 3 > (offered.len > 3 ? offered.len : 3))
		return;
	if (guess->best == NULL || distance < guess->distance) {
		guess->best = name;
		guess->distance = distance;
	}
}

const char *
guess_text(const struct option_guess *guess, char *buf, size_t size)
{
	if (guess->best)
		snprintf(buf, size, ", did you mean \"%s\"?", guess->best);
	else if (size > 0)
		buf[0] = '\0';
	return buf;
}
