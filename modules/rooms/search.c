/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XEP-0433 (channel search) and XEP-0055 1.3 (by a form), over the rooms of a service that one
 * may see.  On a fiber, where it is asked.
 *
 * Names are sealed, so no index knows their words: rooms are read a page at a time, opened and
 * compared, the first SEARCH_ROWS_MAX that may be seen in the order in which they were made.  A
 * service with more public rooms finds those only by browsing (disco#items).
 */
#include <ctype.h>
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"
#include "xep/xep0059_rsm.h"

#define NS_CHANNEL_SEARCH "urn:xmpp:channel-search:0"
#define NS_SEARCH NS_CHANNEL_SEARCH ":search"
#define NS_PARAMS NS_CHANNEL_SEARCH ":search-params"
#define NS_ERROR NS_CHANNEL_SEARCH ":error"
#define KEY_ADDRESS "{" NS_CHANNEL_SEARCH ":order}address"
#define KEY_USERS "{" NS_CHANNEL_SEARCH ":order}nusers"
#define NS_JABBER_SEARCH "jabber:iq:search"

#define SEARCH_ROWS_MAX 1000
#define SEARCH_ROWS_PAGE 200
#define RESULTS_MAX 50   /* of one page */
#define WORDS_MAX 8
#define WORD_MIN 2       /* bytes */
#define QUERY_MAX 256

struct search_room {
	struct iris_jid jid;
	struct iris_str name, description, language;
	int32_t numbers[ROOM_CONFIG_NUMBER_COUNT];
	size_t users;
};

struct search {
	struct iris_request *request;
	struct iris_arena *arena;
	struct iris_str words[WORDS_MAX]; /* lower case */
	size_t word_count;
	bool in_address, in_name, in_description, by_users;
	int64_t users_min;
	struct search_room *rooms;
	size_t count;
};

static enum iris_verdict
refuse(struct iris_request *request, enum iris_condition condition, const char *app,
       const char *text)
{
	request->refusal.condition = condition;
	request->refusal.text = text;
	if (app) {
		request->refusal.app = element_new(request->arena, app, NS_ERROR);
		request->refusal.type = "modify";
	}
	return IRIS_REFUSE;
}

/* --- words --- */

/* ASCII only: what else has two cases is compared as it is written. */
static struct iris_str
to_lower(struct iris_arena *arena, struct iris_str text)
{
	char *lower = arena_alloc(arena, text.len + 1);

	for (size_t i = 0; i < text.len; i++)
		lower[i] = (char)tolower((unsigned char)text.base[i]);
	return (struct iris_str){ lower, text.len };
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void
read_words(struct search *search, struct iris_str text)
{
	text = to_lower(search->arena, text);
	while (text.len > 0 && search->word_count < WORDS_MAX) {
		size_t len = 0;

		while (len < text.len && !is_space(text.base[len]))
			len++;
		if (len >= WORD_MIN)
			search->words[search->word_count++] = (struct iris_str){ text.base, len };
		len += len < text.len;
		text = (struct iris_str){ text.base + len, text.len - len };
	}
}

static bool
contains(struct search *search, struct iris_str text, struct iris_str word)
{
	struct iris_str lower = to_lower(search->arena, text);

	return lower.len > 0 && memmem(lower.base, lower.len, word.base, word.len) != NULL;
}

/* Every word, somewhere. */
static bool
matches(struct search *search, const struct search_room *room)
{
	for (size_t i = 0; i < search->word_count; i++)
		if (!(search->in_name && contains(search, room->name, search->words[i])) &&
		    !(search->in_address &&
		      contains(search, jid_node(&room->jid), search->words[i])) &&
		    !(search->in_description &&
		      contains(search, room->description, search->words[i])))
			return false;
	return true;
}

/* --- rooms --- */

static struct iris_str
keep_text(struct search *search, const char *text)
{
	return arena_copy_str(search->arena, str_from(text));
}

static void
take_room(struct search *search, const struct room_listed *listed)
{
	struct search_room *room = &search->rooms[search->count];
	struct room_config config;

	room_config_init(&config, listed->config);
	room->users = listed->users;
	room->jid = listed->jid;
	room->name = keep_text(search, config.texts[ROOM_CONFIG_NAME]);
	room->description = keep_text(search, config.texts[ROOM_CONFIG_DESCRIPTION]);
	room->language = keep_text(search, config.texts[ROOM_CONFIG_LANGUAGE]);
	memcpy(room->numbers, config.numbers, sizeof(room->numbers));
	if (list_is_there(listed, &config) && (int64_t)room->users >= search->users_min &&
	    matches(search, room))
		search->count++;
	room_config_free(&config);
}

static bool
find_rooms(struct search *search)
{
	struct room_list_query query = { .service = search->request->service,
					 .asker = search->request->stanza->from,
					 .limit = SEARCH_ROWS_PAGE };
	size_t seen = 0, count;
	struct room_listed *listed;

	search->rooms = arena_alloc(search->arena, SEARCH_ROWS_MAX * sizeof(*search->rooms));
	do {
		if (!store_rooms_list(&query, search->arena, &listed, &count))
			return false;
		list_count_users(listed, count);
		for (size_t i = 0; i < count; i++)
			take_room(search, &listed[i]);
		if (count > 0)
			query.from = listed[count - 1].id;
		seen += count;
	} while (count == query.limit && seen + query.limit <= SEARCH_ROWS_MAX);
	return true;
}

static int
by_address(const void *a, const void *b)
{
	const struct search_room *left = a, *right = b;
	struct iris_str l = jid_bare(&left->jid), r = jid_bare(&right->jid);
	int order = memcmp(l.base, r.base, l.len < r.len ? l.len : r.len);

	return order != 0 ? order : (l.len > r.len) - (l.len < r.len);
}

static int
by_users(const void *a, const void *b)
{
	const struct search_room *left = a, *right = b;

	return left->users != right->users ? (left->users < right->users) -
						     (left->users > right->users) :
					     by_address(a, b);
}

static bool
search_run(struct search *search)
{
	if (!find_rooms(search))
		return false;
	qsort(search->rooms, search->count, sizeof(*search->rooms),
	      search->by_users ? by_users : by_address);
	return true;
}

/* --- the page that is asked for: pages are named by the address that they end with --- */

static size_t
index_of(const struct search *search, struct iris_str address)
{
	size_t i = 0;

	while (i < search->count && !str_equal(jid_bare(&search->rooms[i].jid), address))
		i++;
	return i;
}

static bool
page_bounds(const struct search *search, const struct rsm_request *page, size_t *first_r,
	    size_t *end_r)
{
	size_t first = 0, end = search->count;

	if (!str_is_empty(page->after) && (first = index_of(search, page->after) + 1) > end)
		return false;
	if (!str_is_empty(page->before) && (end = index_of(search, page->before)) == search->count)
		return false;
	if (first < end && end - first > page->max) {
		if (str_is_none(page->before))
			end = first + page->max;
		else
			first = end - page->max;
	}
	*first_r = first;
	*end_r = first < end ? end : first;
	return true;
}

static void
add_page(const struct search *search, struct iris_element *parent, size_t first, size_t end)
{
	if (first < end)
		rsm_write(parent, jid_bare(&search->rooms[first].jid),
			  jid_bare(&search->rooms[end - 1].jid));
	else
		rsm_write(parent, IRIS_STR_NONE, IRIS_STR_NONE);
}

/* --- XEP-0433 --- */

static void
add_bool(struct iris_element *form, const char *var, const char *label, bool value)
{
	form_field_set_label(form_add_field(form, "boolean", var,
					    value ? IRIS_STR("true") : IRIS_STR("false")),
			     str_from(label));
}

static enum iris_verdict
channel_form(struct iris_request *request)
{
	struct iris_element *form, *field;

	request->reply = element_new(request->arena, "search", NS_SEARCH);
	form = form_add(request->reply, "form", NS_PARAMS);
	form_field_set_label(form_add_field(form, "text-single", "q", IRIS_STR_NONE),
			     IRIS_STR("Search for"));
	add_bool(form, "all", "Return all rooms", false);
	add_bool(form, "sinname", "Search in the name", true);
	add_bool(form, "sindescription", "Search in the description", true);
	add_bool(form, "sinaddress", "Search in the address", true);
	form_field_set_label(form_add_field(form, "text-single", "min_users", IRIS_STR("0")),
			     IRIS_STR("The least number of users"));
	field = form_add_field(form, "list-multi", "types", IRIS_STR("xep-0045"));
	form_field_set_label(field, IRIS_STR("Types of services"));
	form_field_add_option(field, IRIS_STR("xep-0045"));
	field = form_add_field(form, "list-single", "key", IRIS_STR(KEY_ADDRESS));
	form_field_set_label(field, IRIS_STR("Sort by"));
	form_field_add_option(field, IRIS_STR(KEY_ADDRESS));
	form_field_add_option(field, IRIS_STR(KEY_USERS));
	return IRIS_DONE;
}

static bool
read_switch(const struct iris_element *form, const char *var)
{
	struct iris_str value = form_value(form, var);

	return str_is_none(value) || form_value_is_true(value);
}

/* Among other types of services rooms may be asked for, too. */
static bool
wants_rooms(const struct iris_element *form)
{
	struct iris_str types = form_values(form, "types");

	return str_is_empty(types) || memmem(types.base, types.len, "xep-0045", 8) != NULL;
}

static enum iris_verdict
channel_read(struct search *search, const struct iris_element *form)
{
	struct iris_request *request = search->request;
	struct iris_str q = form_value(form, "q"), key = form_value(form, "key");
	struct iris_str users = form_value(form, "min_users");
	bool all = form_value_is_true(form_value(form, "all"));

	search->in_name = read_switch(form, "sinname");
	search->in_description = read_switch(form, "sindescription");
	search->in_address = read_switch(form, "sinaddress");
	search->by_users = str_is(key, KEY_USERS);
	if (!str_is_none(key) && !search->by_users && !str_is(key, KEY_ADDRESS))
		return refuse(request, IRIS_FEATURE_NOT_IMPLEMENTED, "invalid-sort-key", NULL);
	if (all && !str_is_none(q))
		return refuse(request, IRIS_BAD_REQUEST, "conflicting-fields",
			      "Search for something, or for all");
	if (!str_is_none(users) && !str_to_int(users, 0, INT32_MAX, &search->users_min))
		return refuse(request, IRIS_BAD_REQUEST, NULL, NULL);
	if (all)
		return IRIS_DONE;
	if (q.len <= QUERY_MAX)
		read_words(search, q);
	if (search->word_count == 0)
		return refuse(request, IRIS_BAD_REQUEST, "invalid-search-terms",
			      "Search for words of two letters or more, 256 in all");
	return IRIS_DONE;
}

static void
channel_add(struct iris_element *result, const struct search_room *room)
{
	struct iris_element *item = element_add(result, "item", NULL);
	const int32_t *numbers = room->numbers;

	element_set(item, "address", jid_full(&room->jid));
	if (!str_is_empty(room->name))
		element_add_text(item, "name", NULL, room->name);
	if (!str_is_empty(room->description))
		element_add_text(item, "description", NULL, room->description);
	if (!str_is_empty(room->language))
		element_add_text(item, "language", NULL, room->language);
	element_add_text(item, "nusers", NULL,
			 arena_printf(result->arena, "%zu", room->users));
	element_add_text(item, "service-type", NULL, IRIS_STR("xep-0045"));
	if (!numbers[ROOM_CONFIG_MEMBERS_ONLY] && !numbers[ROOM_CONFIG_PASSWORD_PROTECTED])
		element_add_text(item, "is-open", NULL, IRIS_STR("true"));
	element_add_text(item, "anonymity-mode", NULL,
			 numbers[ROOM_CONFIG_WHOIS] == ROOM_WHOIS_ANYONE ?
				 IRIS_STR("{" NS_CHANNEL_SEARCH ":anonymity}none") :
				 IRIS_STR("muc_semianonymous"));
}

static enum iris_verdict
channel_search(struct iris_request *request, const struct iris_element *form)
{
	struct search search = { .request = request, .arena = request->arena };
	enum iris_verdict verdict = channel_read(&search, form);
	size_t first = 0, end = 0;
	struct rsm_request page;
	enum iris_condition condition;

	if (verdict == IRIS_REFUSE)
		return verdict;
	condition = rsm_read(request->payload, RESULTS_MAX, &page);
	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition, NULL, NULL);
	if (wants_rooms(form) && !search_run(&search))
		return refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL, NULL);
	if (!page_bounds(&search, &page, &first, &end))
		return refuse(request, IRIS_ITEM_NOT_FOUND, NULL, NULL);
	request->reply = element_new(request->arena, "result", NS_SEARCH);
	for (size_t i = first; i < end; i++)
		channel_add(request->reply, &search.rooms[i]);
	add_page(&search, request->reply, first, end);
	return IRIS_DONE;
}

/* --- XEP-0055 --- */

static const char *const columns[] = { "jid", "name", "description", "users", NULL };

static enum iris_verdict
jabber_form(struct iris_request *request)
{
	struct iris_element *form;

	request->reply = element_new(request->arena, "query", NS_JABBER_SEARCH);
	element_add_text(request->reply, "instructions", NULL,
			 IRIS_STR("Words of the name, the address or the description."));
	form = form_add(request->reply, "form", NS_JABBER_SEARCH);
	form_set_title(form, IRIS_STR("Search for rooms"), IRIS_STR_NONE);
	form_field_set_label(form_add_field(form, "text-single", "q", IRIS_STR_NONE),
			     IRIS_STR("Search for"));
	return IRIS_DONE;
}

static void
jabber_add(struct iris_element *form, const struct search_room *room)
{
	const struct iris_str cells[] = { jid_full(&room->jid), room->name, room->description,
					  arena_printf(form->arena, "%zu", room->users) };

	form_add_item(form, columns, cells);
}

enum iris_verdict
search_set(struct iris_request *request)
{
	struct search search = { .request = request, .arena = request->arena, .in_name = true,
				 .in_address = true, .in_description = true };
	struct iris_element *form = form_find(request->payload, "submit");
	struct iris_str q = form ? form_value(form, "q") : IRIS_STR_NONE;
	size_t first = 0, end = 0;
	struct rsm_request page;
	enum iris_condition condition = rsm_read(request->payload, RESULTS_MAX, &page);

	if (!form || q.len > QUERY_MAX)
		return refuse(request, IRIS_BAD_REQUEST, NULL, NULL);
	if (condition != IRIS_NO_ERROR)
		return refuse(request, condition, NULL, NULL);
	read_words(&search, q);
	if (search.word_count == 0)
		return refuse(request, IRIS_NOT_ACCEPTABLE, NULL,
			      "Search for words of two letters or more");
	if (!search_run(&search))
		return refuse(request, IRIS_INTERNAL_SERVER_ERROR, NULL, NULL);
	if (!page_bounds(&search, &page, &first, &end))
		return refuse(request, IRIS_ITEM_NOT_FOUND, NULL, NULL);
	request->reply = element_new(request->arena, "query", NS_JABBER_SEARCH);
	form = form_add(request->reply, "result", NS_JABBER_SEARCH);
	form_add_reported(form, columns);
	for (size_t i = first; i < end; i++)
		jabber_add(form, &search.rooms[i]);
	if (page.asked || end - first < search.count)
		add_page(&search, request->reply, first, end);
	return IRIS_DONE;
}

enum iris_verdict
search_get(struct iris_request *request)
{
	struct iris_element *form = form_find(request->payload, "submit");

	if (element_is(request->payload, "query", NS_JABBER_SEARCH))
		return jabber_form(request);
	if (!form)
		return channel_form(request);
	return form_is_type(form, NS_PARAMS) ? channel_search(request, form) :
					       refuse(request, IRIS_BAD_REQUEST, NULL, NULL);
}
