/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gate's judgement costs: typical stanzas that leave and enter, by a map of eight regions
 * with forty domains each; one thread, nothing else.  make tests/bench/gate_bench; see README.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "config_private.h"
#include "gate_private.h"
#include "iris/log.h"
#include "worker_private.h"

#define REGIONS 8
#define DOMAINS 40
#define ROUNDS 1000000

static double
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static struct region_map *
make_map(void)
{
	struct iris_arena *arena = arena_new();
	struct iris_strbuf text = STRBUF_INIT(arena);
	struct iris_report report = { .error_count = 0 };
	struct region_map *map;

	strbuf_printf(&text, "map: { name: bench, serial: 1, issued: 2026-01-01T00:00:00Z }\n"
			     "regions:\n  list:\n");
	for (int region = 0; region < REGIONS; region++) {
		strbuf_printf(&text, "    - { id: r%d, ca: %064d, domains: [", region, region);
		for (int domain = 0; domain < DOMAINS; domain++)
			strbuf_printf(&text, "%sd%d.r%d.example", domain ? ", " : "", domain,
				      region);
		strbuf_printf(&text, "] }\n");
	}
	strbuf_printf(&text, "policy:\n  rules:\n    - { from: '*', to: '*', categories: [message, "
			     "presence, service, profile], verdict: deliver }\n");
	map = region_map_parse("bench", strbuf_str(&text), &report);
	if (!map)
		report_write(&report, stderr);
	report_clear(&report);
	arena_unref(&arena);
	return map;
}

static struct iris_stanza *
make_stanza(const char *xml, const char *from, const char *to)
{
	struct iris_arena *arena = arena_new();
	struct iris_element *root = element_parse(arena, str_from(xml));
	const char *condition;

	element_set(root, "from", str_from(from));
	element_set(root, "to", str_from(to));
	return stanza_from_element(arena, root, &condition);
}

#define NEAR "alice@d7.r0.example/phone-1f2e3d"
#define FAR "bob@d23.r5.example/desktop-a1b2c3"

static const struct {
	const char *what, *xml;
	const char *answer; /* judged in the other direction, after each */
} samples[] = {
	{ "message, chat",
	  "<message xmlns='jabber:client' type='chat' id='9b2c7a'><body>hello</body>"
	  "<active xmlns='http://jabber.org/protocol/chatstates'/>"
	  "<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>"
	  "<origin-id xmlns='urn:xmpp:sid:0' id='9b2c7a'/></message>", NULL },
	{ "presence",
	  "<presence xmlns='jabber:client'><show>away</show><status>lunch</status>"
	  "<priority>5</priority><c xmlns='http://jabber.org/protocol/caps' node='n' ver='v'/>"
	  "<x xmlns='vcard-temp:x:update'><photo>abc</photo></x></presence>", NULL },
	{ "iq get",
	  "<iq xmlns='jabber:client' type='get' id='ping-17'><ping xmlns='urn:xmpp:ping'/></iq>",
	  NULL },
	{ "iq get and its answer",
	  "<iq xmlns='jabber:client' type='get' id='vcard-4711'><vCard xmlns='vcard-temp'/></iq>",
	  "<iq xmlns='jabber:client' type='result' id='vcard-4711'>"
	  "<vCard xmlns='vcard-temp'/></iq>" },
	{ "message, refused",
	  "<message xmlns='jabber:client' type='chat' id='9b2c7a'><body>a file</body>"
	  "<x xmlns='jabber:x:oob'><url>u</url></x></message>", NULL },
};

static double
measure(enum iris_gate_direction direction, const struct iris_stanza *stanza,
	const struct iris_stanza *answer)
{
	double begin = now_ns();

	for (int i = 0; i < ROUNDS; i++) {
		gate_judge(direction, stanza, &stanza->to, IRIS_STR("r5"));
		if (answer)
			gate_judge(!direction, answer, &answer->to, IRIS_STR("r5"));
	}
	return (now_ns() - begin) / ROUNDS / (answer ? 2 : 1);
}

int
main(void)
{
	struct region_map *map;

	worker_main_init();
	gate_open();
	map = make_map();
	if (!map)
		return 1;
	gate_set_map(map, 0);
	log_set_level(IRIS_LOG_ERROR);
	for (size_t i = 0; i < IRIS_COUNT(samples); i++)
		for (int enters = 0; enters < 2; enters++) {
			const char *from = enters ? FAR : NEAR, *to = enters ? NEAR : FAR;
			struct iris_stanza *stanza = make_stanza(samples[i].xml, from, to);
			struct iris_stanza *answer =
				samples[i].answer ? make_stanza(samples[i].answer, to, from) : NULL;
			double ns = measure(enters ? IRIS_GATE_ENTERING : IRIS_GATE_LEAVING, stanza,
					    answer);

			printf("%-24s %-8s %6.0f ns a stanza\n", samples[i].what,
			       enters ? "entering" : "leaving", ns);
			stanza_unref(&stanza);
			if (answer)
				stanza_unref(&answer);
		}
	gate_set_map(NULL, 0);
	gate_close();
	region_map_free(&map);
	worker_main_free();
	return 0;
}
