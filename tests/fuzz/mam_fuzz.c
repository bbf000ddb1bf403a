/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0313 and XEP-0441 on a whole server: queries of an archive with forms and RSM, preferences,
 * and messages between them, made of the bytes; so for a room's archive.  The log, its index and
 * SQLite are underneath.
 * Besides the harness's oracles: each request is answered; a page has no more results than were
 * asked for and a page may have, none twice, in the order of the archive or, flipped, the other.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 8
#define FIELDS_MAX 6
#define KNOWN_MAX 24
#define ID_MAX 64
#define PAGE_MAX 100 /* xep0313's page-max */

#define NS_MAM "urn:xmpp:mam:2"

#define HALL "hall@rooms." HARNESS_HOST

/* What is asked: romeo's archive, and that of a room of his. */
static struct known {
	const char *to;
	char ids[KNOWN_MAX][ID_MAX]; /* oldest first */
	unsigned count;
} archives[] = { { .to = "" }, { .to = " to='" HALL "'" } };
enum { ARCHIVE_OWN, ARCHIVE_ROOM };

/* What one request asked for. */
struct ask {
	unsigned number;
	bool flipped;
	unsigned long max;
	const struct known *archive;
};

static const char *const times[] = {
	"2020-01-01T00:00:00Z",
	"2099-01-01T00:00:00Z",
	"2026-02-30T24:61:00Z",
	"1969-12-31T23:59:59Z",
	"9999-12-31T23:59:59.999Z",
	"2026-01-01T00:00:00+14:00",
	"2026-01-01T00:00:00",
};
static const char *const addresses[] = {
	"juliet@" HARNESS_HOST, "juliet@" HARNESS_HOST "/r0", "romeo@" HARNESS_HOST,
	"nobody@" HARNESS_HOST, HARNESS_HOST, "@", "elsewhere.example/x",
	HALL, HALL "/romeo",
};

static void
expect(bool truth, const char *what, const struct harness_client *client)
{
	if (truth)
		return;
	fprintf(stderr, "mam_fuzz: %s:\n%s\n", what, harness_output(client));
	abort();
}

/* --- what is asked --- */

/* One of the archive's, or, now and then, of the other one. */
static void
add_id(struct bytes *bytes, struct iris_strbuf *out, const struct known *archive)
{
	uint8_t choice = bytes_take(bytes);

	if (choice < 8)
		archive = archive == &archives[0] ? &archives[1] : &archives[0];
	if (choice < 128 && archive->count > 0)
		strbuf_add(out, str_from(archive->ids[choice % archive->count]));
	else if (choice < 224)
		bytes_add_text(bytes, out);
}

static void
add_value(struct bytes *bytes, struct iris_strbuf *out, const char *const *values, size_t count)
{
	uint8_t choice = bytes_take(bytes);

	if (choice < 192)
		xml_escape(out, str_from(values[choice % count]));
	else
		bytes_add_text(bytes, out);
}

static void
add_field(struct bytes *bytes, struct iris_strbuf *out, const struct known *archive)
{
	static const char *const names[] = { "with",	 "start",    "end", "ids",
					     "after-id", "before-id", "odd", "FORM_TYPE" };
	size_t which = bytes_choose(bytes, IRIS_COUNT(names));
	unsigned values = bytes_take(bytes) & 3;

	strbuf_printf(out, "<field var='%s'>", names[which]);
	for (unsigned i = 0; i <= values; i++) {
		strbuf_add(out, IRIS_STR("<value>"));
		if (which == 0)
			add_value(bytes, out, addresses, IRIS_COUNT(addresses));
		else if (which <= 2)
			add_value(bytes, out, times, IRIS_COUNT(times));
		else
			add_id(bytes, out, archive);
		strbuf_add(out, IRIS_STR("</value>"));
	}
	strbuf_add(out, IRIS_STR("</field>"));
}

static void
add_form(struct bytes *bytes, struct iris_strbuf *out, const struct known *archive)
{
	unsigned fields = bytes_take(bytes) % FIELDS_MAX;

	strbuf_add(out, IRIS_STR("<x xmlns='jabber:x:data' type='submit'>"
				 "<field var='FORM_TYPE' type='hidden'><value>" NS_MAM
				 "</value></field>"));
	for (unsigned i = 0; i < fields; i++)
		add_field(bytes, out, archive);
	strbuf_add(out, IRIS_STR("</x>"));
}

static void
add_page(struct bytes *bytes, struct iris_strbuf *out, struct ask *ask)
{
	static const char *const numbers[] = { "0",  "1",	  "2",
					       "10", "50",	  "4294967296",
					       "-1", "18446744073709551616", "x" };
	uint8_t parts = bytes_take(bytes);

	strbuf_add(out, IRIS_STR("<set xmlns='http://jabber.org/protocol/rsm'>"));
	if (parts & 1) {
		const char *max = numbers[bytes_choose(bytes, IRIS_COUNT(numbers))];
		strbuf_printf(out, "<max>%s</max>", max);
		if (max[0] >= '0' && max[0] <= '9')
			ask->max = strtoul(max, NULL, 10);
	}
	for (unsigned bit = 1; bit <= 2; bit++) {
		if (!(parts & (1u << bit)))
			continue;
		strbuf_printf(out, "<%s>", bit == 1 ? "after" : "before");
		add_id(bytes, out, ask->archive);
		strbuf_printf(out, "</%s>", bit == 1 ? "after" : "before");
	}
	if (parts & 8)
		strbuf_printf(out, "<index>%s</index>",
			      numbers[bytes_choose(bytes, IRIS_COUNT(numbers))]);
	strbuf_add(out, IRIS_STR("</set>"));
}

static void
add_query(struct bytes *bytes, struct iris_strbuf *out, struct ask *ask)
{
	uint8_t parts = bytes_take(bytes);

	ask->flipped = parts & 4;
	ask->archive = &archives[parts & 8 ? ARCHIVE_ROOM : ARCHIVE_OWN];
	strbuf_printf(out, "<iq type='set' id='ask-%u'%s><query xmlns='" NS_MAM "' queryid='",
		      ask->number, ask->archive->to);
	bytes_add_text(bytes, out);
	strbuf_add(out, IRIS_STR("'>"));
	if (parts & 1)
		add_form(bytes, out, ask->archive);
	if (parts & 2)
		add_page(bytes, out, ask);
	if (ask->flipped)
		strbuf_add(out, IRIS_STR("<flip-page/>"));
	strbuf_add(out, IRIS_STR("</query></iq>"));
}

static void
add_prefs(struct bytes *bytes, struct iris_strbuf *out, const struct ask *ask)
{
	static const char *const defaults[] = { "always", "never", "roster", "odd", "" };

	strbuf_printf(out, "<iq type='set' id='ask-%u'><prefs xmlns='" NS_MAM "' default='%s'>",
		      ask->number, defaults[bytes_choose(bytes, IRIS_COUNT(defaults))]);
	for (unsigned list = 0; list < 2; list++) {
		unsigned jids = bytes_take(bytes) & 3;

		strbuf_printf(out, "<%s>", list ? "never" : "always");
		for (unsigned i = 0; i < jids; i++) {
			strbuf_add(out, IRIS_STR("<jid>"));
			add_value(bytes, out, addresses, IRIS_COUNT(addresses));
			strbuf_add(out, IRIS_STR("</jid>"));
		}
		strbuf_printf(out, "</%s>", list ? "never" : "always");
	}
	strbuf_add(out, IRIS_STR("</prefs></iq>"));
}

static void
add_request(struct bytes *bytes, struct iris_strbuf *out, struct ask *ask)
{
	uint8_t choice = bytes_take(bytes);

	if (choice < 176)
		add_query(bytes, out, ask);
	else if (choice < 208)
		add_prefs(bytes, out, ask);
	else
		strbuf_printf(out, "<iq type='get' id='ask-%u'%s><%s xmlns='" NS_MAM "'/></iq>",
			      ask->number, archives[choice & 1].to,
			      choice < 224 ? "metadata" : choice < 240 ? "prefs" : "query");
}

/* --- what is answered --- */

/* The next result's id, copied; NULL: there is none. */
static const char *
next_result(const char *at, char id_r[static ID_MAX])
{
	const char *result = strstr(at, "<result "), *id = result ? strstr(result, " id='") : NULL;
	const char *end = id ? strchr(id + 5, '\'') : NULL;

	if (!end || end - (id + 5) >= ID_MAX)
		return NULL;
	memcpy(id_r, id + 5, (size_t)(end - (id + 5)));
	id_r[end - (id + 5)] = '\0';
	return end;
}

static unsigned
place_of(const struct known *archive, const char *id) /* from 1; 0: younger than all known */
{
	for (unsigned i = 0; i < archive->count; i++)
		if (strcmp(archive->ids[i], id) == 0)
			return i + 1;
	return 0;
}

static void
check_page(const struct harness_client *client, const struct ask *ask)
{
	char id[ID_MAX], before[ID_MAX] = "";
	unsigned long count = 0;
	unsigned last = 0;

	for (const char *at = harness_output(client); (at = next_result(at, id)) != NULL; count++) {
		unsigned place = place_of(ask->archive, id);

		expect(strcmp(id, before) != 0, "a result twice", client);
		if (place > 0 && last > 0)
			expect(ask->flipped ? place < last : place > last, "out of order", client);
		if (place > 0)
			last = place;
		memcpy(before, id, sizeof(before));
	}
	expect(count <= ask->max && count <= PAGE_MAX, "more results than were asked for", client);
}

static bool
ask_and_check(struct harness_client *client, struct bytes *bytes, unsigned number)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf out = STRBUF_INIT(arena);
	struct ask ask = { .number = number, .max = PAGE_MAX,
			   .archive = &archives[ARCHIVE_OWN] };
	char answer[32];

	add_request(bytes, &out, &ask);
	(void)snprintf(answer, sizeof(answer), "id='ask-%u'", number);
	harness_send(client, strbuf_str(&out));
	arena_unref(&arena);
	if (!harness_await(client, answer, NULL))
		return false;
	check_page(client, &ask);
	return true;
}

/* --- the archives that are asked --- */

static void
say(struct harness_client *client, const char *to, unsigned number)
{
	const char *type = strcmp(to, HALL) == 0 ? "groupchat" : "chat";

	harness_printf(client,
		       "<message to='%s' type='%s' id='m%u'><body>But, soft! %u</body></message>",
		       to, type, number, number);
}

static void
enter_room(struct harness_client *romeo)
{
	harness_printf(romeo, "<presence to='" HALL "/romeo'>"
			      "<x xmlns='http://jabber.org/protocol/muc'/></presence>");
	IRIS_ASSERT(harness_await(romeo, "<subject", NULL));
	harness_printf(romeo, "<iq type='set' id='made' to='" HALL "'>"
			      "<query xmlns='http://jabber.org/protocol/muc#owner'>"
			      "<x xmlns='jabber:x:data' type='submit'>"
			      "<field var='FORM_TYPE'><value>"
			      "http://jabber.org/protocol/muc#roomconfig</value></field>"
			      "<field var='muc#roomconfig_persistentroom'><value>1</value></field>"
			      "</x></query></iq>");
	IRIS_ASSERT(harness_await(romeo, "id='made'", NULL));
}

static void
learn(struct harness_client *romeo, struct known *archive)
{
	const char *at;

	harness_printf(romeo, "<iq type='set' id='all'%s><query xmlns='" NS_MAM "'/></iq>",
		       archive->to);
	IRIS_ASSERT(harness_await(romeo, "id='all'", NULL));
	at = harness_output(romeo);
	while (archive->count < KNOWN_MAX &&
	       (at = next_result(at, archive->ids[archive->count])) != NULL)
		archive->count++;
	IRIS_ASSERT(archive->count == KNOWN_MAX);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct harness_client *romeo;

	harness_start();
	romeo = harness_open_bound("romeo");
	IRIS_ASSERT(romeo);
	enter_room(romeo);
	for (unsigned i = 0; i < KNOWN_MAX; i++) {
		say(romeo, i % 3 == 2 ? "romeo@" HARNESS_HOST : "juliet@" HARNESS_HOST, i);
		say(romeo, HALL, i);
	}
	for (size_t i = 0; i < IRIS_COUNT(archives); i++)
		learn(romeo, &archives[i]);
	harness_close(&romeo, true);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, data + size };
	struct harness_client *romeo = harness_open_bound("romeo");

	for (unsigned i = 0; romeo && i < STEPS_MAX && bytes.at < bytes.end; i++) {
		if (bytes_take(&bytes) < 16)
			say(romeo, "juliet@" HARNESS_HOST, i);
		if (!ask_and_check(romeo, &bytes, i))
			break;
	}
	harness_close(&romeo, true);
	return 0;
}
