/* SPDX-License-Identifier: Apache-2.0 */
/* What a new password must be like (P3.2). Pure, any thread. Judges prepared text only. */
#include "accounts_private.h"

enum { CLASS_LOWER = 1, CLASS_UPPER = 2, CLASS_DIGIT = 4, CLASS_OTHER = 8 };

static unsigned
class_of(unsigned char c)
{
	if (c >= 'a' && c <= 'z')
		return CLASS_LOWER;
	if (c >= 'A' && c <= 'Z')
		return CLASS_UPPER;
	if (c >= '0' && c <= '9')
		return CLASS_DIGIT;
	return CLASS_OTHER; /* letters beyond ASCII too: they are special to whoever guesses */
}

const char *
password_refusal(struct iris_str password, const struct password_rules *rules)
{
	unsigned length = 0, seen = 0;

	for (size_t i = 0; i < password.len; i++) {
		unsigned char c = (unsigned char)password.base[i];

		if ((c & 0xC0) == 0x80) /* inside a character */
			continue;
		length++;
		seen |= class_of(c);
	}
	if (length < rules->length_min)
		return "The password is too short";
	if (length > PASSWORD_LENGTH_MAX)
		return "The password is too long";
	if ((unsigned)__builtin_popcount(seen) < rules->classes)
		return "The password needs more kinds of characters: lower case, upper case, "
		       "digits, special ones";
	return NULL;
}
