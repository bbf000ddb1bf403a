/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing in to Swift: TempAuth (auth/v1.0) and Keystone (v3).  Gives the token and where the
 * account's storage is.  Fibers of the main worker; one signs in, the others wait for it.
 */
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "modules/files/swift_private.h"

#define ANSWER_MAX (1024 * 1024)

static struct swift_session session;

/* The operator's strings, for curl. */
static bool
option_text(enum file_option option, char *out, size_t size)
{
	return str_copy_to(out, size, option_str(&files_self, option)) && *out;
}

static const char *
auth_reason(unsigned status)
{
	if (status == 0)
		return "no answer";
	return status == 401 || status == 403 ? "wrong user, key or project" :
						"it answers neither yes nor no";
}

static bool
auth_fail(const char *why, const char *detail)
{
	struct iris_error error = { .message = "" };

	error_set(&error, "Swift does not let us in: %s", why);
	error_detail(&error, "%s", detail);
	error_hint(&error, "see to the options files.swift-…");
	log_error(IRIS_LOG_ERROR, "files", "swift-auth", &error);
	metric_add(&file_metrics[METRIC_STORE_ERRORS], 1);
	return false;
}

/* --- TempAuth --- */

static bool
auth_tempauth(const char *url)
{
	struct iris_str name = option_str(&files_self, OPT_SWIFT_USER);
	struct iris_str secret = option_str(&files_self, OPT_SWIFT_KEY);
	char user[300], key[1100];
	const char *const headers[] = { user, key, NULL };
	const struct swift_request request = {
		.method = "GET", .url = url, .headers = headers, .upload = -1
	};
	struct swift_transfer *transfer;
	bool ok;

	if (str_is_empty(name) || str_is_empty(secret))
		return auth_fail("user or key is missing", url);
	snprintf(user, sizeof(user), "X-Storage-User: %.*s", IRIS_STR_FMT(name));
	snprintf(key, sizeof(key), "X-Storage-Pass: %.*s", IRIS_STR_FMT(secret));
	transfer = swift_begin(&request);
	OPENSSL_cleanse(key, sizeof(key));
	if (!transfer)
		return auth_fail("the request cannot be made", url);
	unsigned status = swift_finish(transfer);
	const struct swift_fields *fields = swift_fields(transfer);
	ok = status == 200 && *fields->auth_token && *fields->storage_url;
	if (ok) {
		snprintf(session.token, sizeof(session.token), "%s", fields->auth_token);
		snprintf(session.storage, sizeof(session.storage), "%s", fields->storage_url);
	} else {
		auth_fail(auth_reason(status), status ? url : swift_problem(transfer));
	}
	swift_free(&transfer);
	return ok;
}

/* --- Keystone --- */

/* The public address of the object store in the catalogue of a token. */
static bool
catalogue_find(const json_t *answer, const char *region)
{
	const json_t *catalogue = json_object_get(json_object_get(answer, "token"), "catalog");
	json_t *service, *endpoint;
	size_t i, j;

	json_array_foreach(catalogue, i, service)
	{
		const char *type = json_string_value(json_object_get(service, "type"));

		if (!type || strcmp(type, "object-store") != 0)
			continue;
		json_array_foreach(json_object_get(service, "endpoints"), j, endpoint)
		{
			const char *face =
				json_string_value(json_object_get(endpoint, "interface"));
			const char *where = json_string_value(json_object_get(endpoint, "region"));
			const char *url = json_string_value(json_object_get(endpoint, "url"));

			if (face && url && strcmp(face, "public") == 0 &&
			    (!*region || (where && strcmp(where, region) == 0)))
				return str_copy_to(session.storage, sizeof(session.storage),
						   str_from(url));
		}
	}
	return false;
}

static char *
keystone_body(void)
{
	struct iris_str user = option_str(&files_self, OPT_SWIFT_USER);
	struct iris_str key = option_str(&files_self, OPT_SWIFT_KEY);
	struct iris_str project = option_str(&files_self, OPT_SWIFT_PROJECT);
	struct iris_str domain = option_str(&files_self, OPT_SWIFT_DOMAIN);
	json_t *body;
	char *text;

	if (str_is_empty(user) || str_is_empty(key) || str_is_empty(project))
		return NULL;
	body = json_pack("{s{s{s[s],s{s{s:s%,s{s:s%},s:s%}}},s{s{s:s%,s{s:s%}}}}}", "auth",
			 "identity", "methods", "password", "password", "user", "name", user.base,
			 user.len, "domain", "name", domain.base, domain.len, "password", key.base,
			 key.len, "scope", "project", "name", project.base, project.len, "domain",
			 "name", domain.base, domain.len);
	text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	return text;
}

static bool
keystone_take(struct swift_transfer *transfer, const char *url)
{
	char *answer = iris_malloc(ANSWER_MAX), region[256] = "";
	size_t len = swift_receive(transfer, answer, ANSWER_MAX);
	unsigned status = swift_finish(transfer);
	const struct swift_fields *fields = swift_fields(transfer);
	json_t *json = NULL;
	bool ok = false;

	(void)option_text(OPT_SWIFT_REGION, region, sizeof(region));
	if (status == 201 && *fields->subject_token) {
		json = json_loadb(answer, len, JSON_REJECT_DUPLICATES, NULL);
		ok = catalogue_find(json, region);
		snprintf(session.token, sizeof(session.token), "%s", fields->subject_token);
		if (!ok)
			auth_fail("its catalogue has no object-store for us", url);
	} else {
		auth_fail(auth_reason(status), status ? url : swift_problem(transfer));
	}
	json_decref(json);
	free(answer);
	return ok;
}

static bool
auth_keystone(const char *url)
{
	static const char *const headers[] = { "Content-Type: application/json", NULL };
	char *body = keystone_body();
	struct swift_request request = {
		.method = "POST", .url = url, .headers = headers, .upload = -1
	};
	struct swift_transfer *transfer;
	bool ok;

	if (!body)
		return auth_fail("user, key or project is missing", url);
	request.body = str_from(body);
	transfer = swift_begin(&request);
	OPENSSL_cleanse(body, strlen(body));
	free(body);
	if (!transfer)
		return auth_fail("the request cannot be made", url);
	ok = keystone_take(transfer, url);
	swift_free(&transfer);
	return ok;
}

/* --- both --- */

static bool
sign_in(void)
{
	char url[1024];

	if (!option_text(OPT_SWIFT_URL, url, sizeof(url)))
		return auth_fail("files.swift-url is missing", "");
	if (!(option_int(&files_self, OPT_SWIFT_AUTH) == SWIFT_KEYSTONE ? auth_keystone(url) :
									  auth_tempauth(url)))
		return false;
	return swift_may_ask(session.storage) ||
	       auth_fail("it sends an isolated region to a name, not to an address",
			 session.storage);
}

const struct swift_session *
swift_session(unsigned refused)
{
	static const struct iris_str lock = { "swift: sign in", 14 };
	bool ok = true;

	if (session.generation != refused && session.generation != 0)
		return &session;
	fiber_lock(lock);
	/* Another may have signed in while we waited. */
	if (session.generation == refused || session.generation == 0) {
		ok = sign_in() && swift_make_container(&session);
		session.generation = ok ? ++session.last : 0;
	}
	fiber_unlock(lock);
	return ok ? &session : NULL;
}

void
swift_session_end(void)
{
	OPENSSL_cleanse(&session, sizeof(session));
}
