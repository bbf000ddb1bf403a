/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small texts of the protocol: datetimes (XEP-0082, a profile of RFC 3339), random identifiers,
 * base64 (RFC 4648).  Any thread.
 */
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "iris/stanza.h"

#define MS_PER_DAY INT64_C(86400000)
#define YEAR_0001_MS INT64_C(-62135596800000)
#define YEAR_9999_MS INT64_C(253402300799999)
#define RANDOM_BYTES_MAX 64

struct civil {
	int year, month, day;
};

/* Days since 1970-01-01 in the proleptic Gregorian calendar; years begin in March here. */
static int64_t
days_from_civil(struct civil date)
{
	int64_t year = date.month <= 2 ? date.year - 1 : date.year;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (date.month + (date.month > 2 ? -3 : 9)) + 2) / 5 + date.day -
			      1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
	       day_of_year - 719468;
}

static struct civil
civil_from_days(int64_t days)
{
	int64_t shifted = days + 719468;
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	int64_t day_of_era = shifted - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era -
			      (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	struct civil date = {
		.day = (int)(day_of_year - (153 * month + 2) / 5 + 1),
		.month = (int)(month < 10 ? month + 3 : month - 9),
	};

	date.year = (int)(year_of_era + era * 400 + (date.month <= 2));
	return date;
}

static int
days_in_month(int year, int month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

struct iris_str
datetime_format(struct iris_arena *arena, int64_t unix_ms)
{
	int64_t days, rest;
	struct civil date;
	int seconds;

	if (unix_ms < YEAR_0001_MS)
		unix_ms = YEAR_0001_MS;
	if (unix_ms > YEAR_9999_MS)
		unix_ms = YEAR_9999_MS;
	days = unix_ms / MS_PER_DAY;
	rest = unix_ms % MS_PER_DAY;
	if (rest < 0) {
		rest += MS_PER_DAY;
		days--;
	}
	date = civil_from_days(days);
	seconds = (int)(rest / 1000);
	return arena_printf(arena, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", date.year, date.month,
			    date.day, seconds / 3600, seconds / 60 % 60, seconds % 60,
			    (int)(rest % 1000));
}

/* Takes exactly `digits` digits and, unless it is '\0', the character after them. */
static bool
take_number(struct iris_str *text, size_t digits, char after, int max, int *value_r)
{
	size_t len = digits + (after ? 1 : 0);
	int value = 0;

	if (text->len < len || (after && text->base[digits] != after))
		return false;
	for (size_t i = 0; i < digits; i++) {
		if (text->base[i] < '0' || text->base[i] > '9')
			return false;
		value = value * 10 + (text->base[i] - '0');
	}
	if (value > max)
		return false;
	text->base += len;
	text->len -= len;
	*value_r = value;
	return true;
}

/* An optional fraction of a second; digits behind the third count for nothing. */
static bool
take_fraction(struct iris_str *text, int *ms_r)
{
	size_t digits = 0;
	int scale = 100;

	*ms_r = 0;
	if (text->len == 0 || text->base[0] != '.')
		return true;
	text->base++;
	text->len--;
	while (digits < text->len && text->base[digits] >= '0' && text->base[digits] <= '9') {
		*ms_r += (text->base[digits++] - '0') * scale;
		scale /= 10;
	}
	text->base += digits;
	text->len -= digits;
	return digits > 0;
}

/* "Z", or "+hh:mm" east of it, to the end of the text. */
static bool
take_zone(struct iris_str *text, int *minutes_r)
{
	int hours, minutes;
	char sign;

	*minutes_r = 0;
	if (text->len == 0)
		return false;
	sign = text->base[0];
	text->base++;
	text->len--;
	if (sign == 'Z')
		return text->len == 0;
	if ((sign != '+' && sign != '-') || !take_number(text, 2, ':', 14, &hours) ||
	    !take_number(text, 2, '\0', 59, &minutes) || text->len > 0)
		return false;
	*minutes_r = (hours * 60 + minutes) * (sign == '-' ? -1 : 1);
	return hours < 14 || minutes == 0;
}

bool
datetime_parse(struct iris_str text, int64_t *unix_ms_r)
{
	int hour, minute, second, ms, zone;
	struct civil date;

	if (!take_number(&text, 4, '-', 9999, &date.year) ||
	    !take_number(&text, 2, '-', 12, &date.month) ||
	    !take_number(&text, 2, 'T', 31, &date.day) || !take_number(&text, 2, ':', 23, &hour) ||
	    !take_number(&text, 2, ':', 59, &minute) || !take_number(&text, 2, '\0', 59, &second) ||
	    !take_fraction(&text, &ms) || !take_zone(&text, &zone))
		return false;
	if (date.year == 0 || date.month == 0 || date.day == 0 ||
	    date.day > days_in_month(date.year, date.month))
		return false;
	*unix_ms_r = days_from_civil(date) * MS_PER_DAY +
		((hour * 60 + minute - zone) * INT64_C(60) + second) * 1000 + ms;
	return true;
}

struct iris_str
base64_encode(struct iris_arena *arena, struct iris_str bytes)
{
	char *text;
	int len;

	IRIS_ASSERT(bytes.len <= INT_MAX / 2);
	text = arena_alloc(arena, (bytes.len + 2) / 3 * 4 + 1);
	len = EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes.base,
			      (int)bytes.len);
	return (struct iris_str){ text, (size_t)len };
}

bool
base64_decode(struct iris_arena *arena, struct iris_str text, struct iris_str *bytes_r)
{
	size_t padding = 0;
	char *bytes;
	struct iris_str again;

	*bytes_r = IRIS_STR_NONE;
	if (text.len % 4 != 0 || text.len > INT_MAX / 2)
		return false;
	while (padding < 2 && padding < text.len && text.base[text.len - padding - 1] == '=')
		padding++;
	bytes = arena_alloc(arena, text.len / 4 * 3 + 1);
	if (text.len > 0 &&
	    EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text.base,
			    (int)text.len) != (int)(text.len / 4 * 3))
		return false;
	*bytes_r = (struct iris_str){ bytes, text.len / 4 * 3 - padding };
	bytes[bytes_r->len] = '\0';
	/* OpenSSL is lenient about spaces and the bits below the padding; we are not. */
	again = base64_encode(arena, *bytes_r);
	return str_equal(again, text);
}

struct iris_str
random_id(struct iris_arena *arena, unsigned bits)
{
	unsigned char bytes[RANDOM_BYTES_MAX];
	struct iris_str text;
	char *base;

	IRIS_ASSERT(bits > 0 && bits % 8 == 0 && bits / 8 <= sizeof(bytes));
	IRIS_ASSERT(RAND_bytes(bytes, (int)(bits / 8)) == 1);
	text = base64_encode(arena, (struct iris_str){ (const char *)bytes, bits / 8 });
	base = (char *)text.base; /* just made, ours alone */
	while (text.len > 0 && base[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		if (base[i] == '+')
			base[i] = '-';
		else if (base[i] == '/')
			base[i] = '_';
	}
	base[text.len] = '\0';
	return text;
}
