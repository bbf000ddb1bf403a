/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irisctl region init, sign, check, diff, secret: the region map as a file, without a server.
 * Whoever signs maps needs no server at all, and should not sit at one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "irisctl.h"
#include "iris/arena.h"
#include "region_map.h"
#include "region_secret.h"
#include "worker_private.h"

static const char sample_head[] =
	"# The region map: every region, and what may cross between which. After each change:\n"
	"#   irisctl region sign MAP KEY\n"
	"map:\n"
	"  name: example\n"
	"  serial: 1                      # rises with every change; an older map is refused\n"
	"  issued: 2026-01-01T00:00:00Z\n"
	"  # SHA-256 of what federated regions share: irisctl region secret MAP FILE\n";

static const char sample_rest[] = /* behind `secret:` */
	"regions:\n"
	"  list:\n"
	"    - id: emea                   # certificates prove it: urn:iris:region:emea\n"
	"      class: federated           # federated, isolated, edge\n"
	"      domains: [emea.example.org, pubsub.emea.example.org]\n"
	"      rooms: [rooms.emea.example.org]\n"
	"      # SHA-256 of its authority: openssl x509 -in CA -outform DER | sha256sum\n"
	"      ca: 0000000000000000000000000000000000000000000000000000000000000000\n"
	"      endpoints: [\"xmpp.emea.example.org:5270\"]\n"
	"      external: false\n"
	"policy:\n"
	"  rules:    # the first that matches holds; what nobody names is denied\n"
	"    - from: \"*\"\n"
	"      to: \"*\"\n"
	"      categories: [presence, message, service]\n"
	"      verdict: deliver\n";

static enum exit_code
complain(const char *what, const char *path)
{
	fprintf(stderr, "irisctl: %s %s: %s\n", what, path, strerror(errno));
	return EXIT_REFUSED;
}

static char *
read_map(const char *path, size_t *len_r)
{
	FILE *file = fopen(path, "re");
	char *text = iris_malloc(REGION_MAP_MAX + 1);

	*len_r = file ? fread(text, 1, REGION_MAP_MAX + 1, file) : 0;
	if (file)
		fclose(file);
	if (*len_r > 0 && *len_r <= REGION_MAP_MAX)
		return text;
	free(text);
	complain("cannot read", path);
	return NULL;
}

static char *
path_with(const char *path, const char *suffix) /* malloc'ed */
{
	size_t size = strlen(path) + strlen(suffix) + 1;
	char *text = iris_malloc(size);

	snprintf(text, size, "%s%s", path, suffix);
	return text;
}

/* Whole or not at all. */
static bool
write_file(const char *path, const char *text, mode_t mode)
{
	char *temporary = path_with(path, ".new");
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	bool ok;

	if (fd < 0) {
		free(temporary);
		return false;
	}
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
	ok = close(fd) == 0 && ok && rename(temporary, path) == 0;
	if (!ok)
		unlink(temporary);
	free(temporary);
	return ok;
}

/* --- init --- */

static bool
write_keys(EVP_PKEY *key, const char *private_path, const char *public_path)
{
	int fd = open(private_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool ok = file && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;

	if (file)
		ok = fclose(file) == 0 && ok;
	file = ok ? fopen(public_path, "wxe") : NULL;
	ok = file && PEM_write_PUBKEY(file, key) == 1;
	if (file)
		ok = fclose(file) == 0 && ok;
	return ok;
}

static bool
write_secret(const char *path, struct region_secret *secret_r)
{
	char *text;
	bool ok;

	region_secret_make(secret_r);
	text = region_secret_text(secret_r);
	ok = access(path, F_OK) != 0 && write_file(path, text, 0600);
	OPENSSL_cleanse(text, strlen(text));
	free(text);
	OPENSSL_cleanse(secret_r->bytes, sizeof(secret_r->bytes));
	return ok;
}

static bool
write_sample(const char *path, const struct region_secret *secret)
{
	struct iris_arena *arena = arena_new();
	struct iris_str text = arena_printf(arena, "%s  secret: %s\n%s", sample_head,
					    secret->digest, sample_rest);
	bool ok = access(path, F_OK) == 0 || write_file(path, text.base, 0644);

	arena_unref(&arena);
	return ok;
}

/* region init MAP KEY: a sample map, KEY and KEY.pub, KEY.secret. */
static enum exit_code
region_init(const char *map, const char *key_path)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char *public_path = path_with(key_path, ".pub");
	char *secret_path = path_with(key_path, ".secret");
	struct region_secret secret;
	enum exit_code code = EXIT_DONE;

	if (!key || !write_keys(key, key_path, public_path))
		code = complain("cannot make the keys", key_path);
	else if (!write_secret(secret_path, &secret))
		code = complain("cannot write", secret_path);
	else if (!write_sample(map, &secret))
		code = complain("cannot write", map);
	else
		printf("%s is the map to edit, %s signs it (keep it away from servers), "
		       "%s goes to every region,\n%s to the federated ones only, by a way that "
		       "nobody else can read.\n",
		       map, key_path, public_path, secret_path);
	EVP_PKEY_free(key);
	free(public_path);
	free(secret_path);
	return code;
}

/* --- check, sign, diff --- */

/* The map without its signature, if it has one; NULL: said why. */
static struct region_map *
parse_map(const char *path, struct iris_str file, struct iris_str *text_r)
{
	struct iris_report report = { .error_count = 0 };
	EVP_PKEY *nobody = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	struct region_map *map;

	region_map_verify(file, nobody, text_r); /* for where the text ends */
	EVP_PKEY_free(nobody);
	map = region_map_parse(path, *text_r, &report);
	if (!map)
		report_write(&report, stderr);
	report_clear(&report);
	return map;
}

static enum exit_code
region_sign(const char *path, const char *key_path)
{
	struct iris_error error = { .message = "" };
	EVP_PKEY *key = region_key_load(key_path, true, &error);
	enum exit_code code = EXIT_CONFIG;
	struct region_map *map;
	struct iris_str text;
	char *file, *signed_text;
	size_t len;

	if (!key)
		return local_tell_error(&error);
	file = read_map(path, &len);
	map = file ? parse_map(path, (struct iris_str){ file, len }, &text) : NULL;
	if (map) {
		signed_text = region_map_sign(text, key);
		code = signed_text && write_file(path, signed_text, 0644) ?
			       EXIT_DONE :
			       complain("cannot write", path);
		if (code == EXIT_DONE)
			printf("%s: serial %lld, %u regions, signed.\n", path,
			       (long long)map->serial, map->count);
		free(signed_text);
	}
	region_map_free(&map);
	EVP_PKEY_free(key);
	free(file);
	return code;
}

/* region check MAP KEY.pub: everything the server would say. */
static enum exit_code
region_check(const char *path, const char *key_path)
{
	struct iris_error error = { .message = "" };
	EVP_PKEY *key = region_key_load(key_path, false, &error);
	struct region_map *map = key ? region_map_load(path, key, &error) : NULL;

	EVP_PKEY_free(key);
	if (!map)
		return local_tell_error(&error);
	printf("%s: \"%s\", serial %lld, %u regions: it is right and signed.\n", path, map->name,
	       (long long)map->serial, map->count);
	region_map_free(&map);
	return EXIT_DONE;
}

static enum exit_code
region_diff(const char *before_path, const char *after_path)
{
	const char *paths[] = { before_path, after_path };
	struct region_map *maps[2] = { NULL, NULL };
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = { .arena = arena };
	enum exit_code code = EXIT_CONFIG;

	for (int i = 0; i < 2; i++) {
		struct iris_str text;
		size_t len;
		char *file = read_map(paths[i], &len);

		if (file)
			maps[i] = parse_map(paths[i], (struct iris_str){ file, len }, &text);
		free(file);
	}
	if (maps[0] && maps[1]) {
		region_map_diff(&out, maps[0], maps[1]);
		fputs(out.len ? strbuf_str(&out).base : "Nothing changes.\n", stdout);
		code = EXIT_DONE;
	}
	region_map_free(&maps[0]);
	region_map_free(&maps[1]);
	arena_unref(&arena);
	return code;
}

/* region secret MAP FILE: makes FILE where there is none; what a map says that names it. */
static enum exit_code
region_secret_file(const char *map_path, const char *path)
{
	struct iris_error error = { .message = "" };
	struct region_secret secret;
	struct region_map *map;
	struct iris_str text;
	size_t len;
	char *file;

	if (access(path, F_OK) != 0 && !write_secret(path, &secret))
		return complain("cannot write", path);
	if (!region_secret_load(path, &secret, &error))
		return local_tell_error(&error);
	OPENSSL_cleanse(secret.bytes, sizeof(secret.bytes));
	file = read_map(map_path, &len);
	map = file ? parse_map(map_path, (struct iris_str){ file, len }, &text) : NULL;
	free(file);
	if (!map)
		return EXIT_CONFIG;
	if (map->secret && strcmp(map->secret, secret.digest) == 0)
		printf("%s names %s.\n", map_path, path);
	else
		printf("%s does not name it yet: map: {secret: %s}\n", map_path, secret.digest);
	region_map_free(&map);
	return EXIT_DONE;
}

bool
local_region(int count, char **words, enum exit_code *code_r)
{
	static const struct {
		const char *verb;
		enum exit_code (*run)(const char *first, const char *second);
		const char *use;
	} verbs[] = {
		{ "init", region_init, "region init MAP KEY" },
		{ "sign", region_sign, "region sign MAP KEY" },
		{ "check", region_check, "region check MAP KEY.pub" },
		{ "diff", region_diff, "region diff MAP NEWMAP" },
		{ "secret", region_secret_file, "region secret MAP FILE" },
	};

	for (size_t i = 0; count >= 2 && i < IRIS_COUNT(verbs); i++) {
		if (strcmp(words[1], verbs[i].verb) != 0)
			continue;
		if (count == 4) {
			worker_main_init();
			*code_r = verbs[i].run(words[2], words[3]);
			worker_main_free();
		} else {
			fprintf(stderr, "usage: irisctl %s\n", verbs[i].use);
			*code_r = EXIT_USAGE;
		}
		return true;
	}
	return false;
}
