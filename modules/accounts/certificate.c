/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose account a client certificate signs in (XEP-0178 §2, RFC 6120 §13.7.1.4): an XmppAddr of the
 * host, else an e-mail address in its domain.  The chain was verified by TLS.  Pure, any thread.
 */
#include <openssl/asn1.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include "accounts_private.h"

static const char xmpp_addr_oid[] = "1.3.6.1.5.5.7.8.5"; /* id-on-xmppAddr */

static bool
is_xmpp_addr(const ASN1_OBJECT *object)
{
	char oid[64];

	return OBJ_obj2txt(oid, sizeof(oid), object, 1) > 0 && strcmp(oid, xmpp_addr_oid) == 0;
}

/* The text of a name of the kind looked for. */
static struct iris_str
name_text(const GENERAL_NAME *name, bool email)
{
	const ASN1_STRING *string = NULL;

	if (email && name->type == GEN_EMAIL)
		string = name->d.rfc822Name;
	else if (!email && name->type == GEN_OTHERNAME &&
		 is_xmpp_addr(name->d.otherName->type_id) &&
		 name->d.otherName->value->type == V_ASN1_UTF8STRING)
		string = name->d.otherName->value->value.utf8string;
	if (!string)
		return IRIS_STR_NONE;
	return (struct iris_str){ (const char *)ASN1_STRING_get0_data(string),
				  (size_t)ASN1_STRING_length(string) };
}

static bool
find_name(struct iris_arena *arena, GENERAL_NAMES *names, bool email, const struct iris_host *host,
	  struct iris_jid *jid_r)
{
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		struct iris_str text = name_text(sk_GENERAL_NAME_value(names, i), email);

		/* SECURITY: a NUL inside would end the name for others, not for the issuer. */
		if (text.len == 0 || memchr(text.base, '\0', text.len))
			continue;
		if (jid_parse(arena, text, jid_r) && jid_r->node_len > 0 && jid_is_bare(jid_r) &&
		    str_equal(jid_domain(jid_r), host->name))
			return true;
	}
	return false;
}

bool
accounts_certificate_jid(struct iris_arena *arena, void *x509, struct iris_host *host,
			 struct iris_jid *jid_r)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
	bool found;

	if (!names)
		return false;
	found = find_name(arena, names, false, host, jid_r) ||
		find_name(arena, names, true, host, jid_r);
	GENERAL_NAMES_free(names);
	return found;
}
