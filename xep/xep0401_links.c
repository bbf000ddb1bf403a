/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0401 0.6: what is passed on to who is invited: the link (§3.1, §4.1; RFC 5122), and the page
 * for people who have no client yet (§3.2), at /invite/TOKEN where the module web is loaded.
 *
 * SECURITY: whoever has the link may use it, so the page is not kept, and tells no other page where
 * its reader came from.  It has no scripts, and shows who invites to nobody but its holder.
 */
#include "iris/web.h"
#include "xep/xep0401_invitations.h"
#include "xep/xep0401_tokens.h"

/* --- links --- */

static void
uri_escape(struct iris_strbuf *buf, struct iris_str text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~";

	for (size_t i = 0; i < text.len; i++) {
		char c = text.base[i];

		if (c && strchr(plain, c))
			strbuf_add_char(buf, c);
		else
			strbuf_printf(buf, "%%%02X", (unsigned char)c);
	}
}

static void
uri_add_jid(struct iris_strbuf *uri, const struct iris_jid *jid)
{
	strbuf_add(uri, IRIS_STR("xmpp:"));
	if (jid->node_len) {
		uri_escape(uri, jid_node(jid));
		strbuf_add_char(uri, '@');
	}
	uri_escape(uri, jid_domain(jid));
}

/* The option with the token, or the whole link, in its place; none: there is no such page. */
struct iris_str
invite_landing_url(struct iris_arena *arena, struct iris_str secret, struct iris_str uri)
{
	struct iris_str pattern = option_str(&invitations_self, INVITE_OPT_LANDING_URL);
	struct iris_strbuf url = STRBUF_INIT(arena);

	if (str_is_empty(pattern))
		return IRIS_STR_NONE;
	for (size_t i = 0; i < pattern.len; i++) {
		struct iris_str rest = { pattern.base + i, pattern.len - i };

		if (rest.len >= 6 && memcmp(rest.base, "$token", 6) == 0) {
			strbuf_add(&url, secret);
			i += 5;
		} else if (rest.len >= 4 && memcmp(rest.base, "$uri", 4) == 0) {
			uri_escape(&url, uri);
			i += 3;
		} else {
			strbuf_add_char(&url, pattern.base[i]);
		}
	}
	return strbuf_str(&url);
}

/* The address to be a contact of, or to register: as a name says, or at a host. */
struct iris_str
invite_uri(struct iris_arena *arena, const struct invite_record *record, struct iris_str secret)
{
	struct iris_strbuf uri = STRBUF_INIT(arena);
	struct iris_jid jid = record->inviter;

	if (!(record->rights & INVITE_CONTACT))
		jid = jid_from_prepared(record->name);
	uri_add_jid(&uri, &jid);
	if (record->rights & INVITE_CONTACT)
		strbuf_printf(&uri, "?roster;preauth=%.*s%s", IRIS_STR_FMT(secret),
			      record->rights & INVITE_REGISTER ? ";ibr=y" : "");
	else
		strbuf_printf(&uri, "?register;preauth=%.*s", IRIS_STR_FMT(secret));
	return strbuf_str(&uri);
}

/* --- the page --- */

static void
page_answer(struct iris_web_request *request, unsigned status, struct iris_str body)
{
	struct iris_strbuf page = STRBUF_INIT(web_arena(request));

	strbuf_printf(&page,
		      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		      "<meta name=\"viewport\" content=\"width=device-width\">"
		      "<title>Invitation</title></head>\n<body>\n%.*s</body></html>\n",
		      IRIS_STR_FMT(body));
	web_set_header(request, "Cache-Control", IRIS_STR("no-store"));
	web_set_header(request, "Referrer-Policy", IRIS_STR("no-referrer"));
	web_set_header(request, "X-Robots-Tag", IRIS_STR("noindex"));
	web_answer(request, status, "text/html; charset=utf-8", strbuf_str(&page));
}

static struct iris_str
page_write(struct iris_arena *arena, const struct invite_record *record, struct iris_str secret)
{
	struct iris_strbuf body = STRBUF_INIT(arena);
	struct iris_jid jid = jid_from_prepared(record->name);
	bool contact = record->rights & INVITE_CONTACT;

	strbuf_add(&body, contact ? IRIS_STR("<h1>You are invited to chat with ") :
				    IRIS_STR("<h1>You are invited to an account at "));
	xml_escape(&body, contact ? jid_bare(&record->inviter) : jid_domain(&jid));
	strbuf_add(&body, IRIS_STR("</h1>\n<p><a href=\""));
	xml_escape(&body, invite_uri(arena, record, secret));
	strbuf_add(&body, IRIS_STR("\">Accept the invitation</a></p>\n"
				   "<p>If nothing happens, install an XMPP client first, and "
				   "come back to this page.</p>\n<p>It is good until "));
	xml_escape(&body, datetime_format(arena, record->expires_ms));
	strbuf_add(&body, IRIS_STR(".</p>\n"));
	return strbuf_str(&body);
}

static void
page_handle(struct iris_web_request *request)
{
	struct iris_str secret = web_path(request);
	char token[INVITE_TOKEN_SIZE];
	struct invite_record record;

	invite_hash(secret, token);
	if (secret.len != INVITE_SECRET_LEN ||
	    !invite_look_up(token, web_arena(request), &record) ||
	    record.expires_ms <= worker_wall_ms())
		page_answer(request, 404,
			    IRIS_STR("<p>This invitation was used, or its time is over.</p>\n"));
	else
		page_answer(request, 200, page_write(web_arena(request), &record, secret));
}

const struct iris_web_route invite_routes[] = {
	{ IRIS_WEB_GET, "/invite/", page_handle, 0 },
	{ .path = NULL },
};
