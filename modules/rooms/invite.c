/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is passed on between the room and people: mediated invitations and what is said to them
 * (XEP-0045 §7.8.2), requests for voice (§7.13, §8.6) and for membership (§9.9) to those who
 * decide, and their answers.  Home worker of the room; what waits is done on a fiber.
 *
 * Direct invitations (XEP-0249) do not pass the room.
 */
#include <stdlib.h>

#include "modules/rooms/rooms_private.h"
#include "xep/xep0004_forms.h"

#define NS_MUC_REQUEST NS_MUC "#request"
#define NS_MUC_REGISTER NS_MUC "#register"
#define INVITES_MAX 20  /* of one message */
#define ASKED_MAX 32    /* remembered for each room */
#define ASK_AGAIN_MS 600000
#define ADMINS_MAX 20   /* told of one request */

/* SECURITY: who asks again and again disturbs those who decide once in a while only. */
struct room_asked {
	size_t next;
	struct {
		int64_t peer, time_ms;
	} entries[ASKED_MAX];
};

/* A message while it is looked at, on a fiber. */
struct passing {
	struct room *room; /* its place is held */
	struct iris_stanza *stanza;
	struct iris_ticket *ticket;
	struct iris_arena *arena;
	struct iris_jid bare; /* of the sender */
	enum iris_condition (*run)(struct passing *passing, const char **text_r);
	struct iris_element *payload; /* <x/> */
};

void
invite_forget(struct room *room)
{
	free(room->asked);
	room->asked = NULL;
}

static bool
may_ask_now(struct room *room, const struct iris_jid *bare)
{
	int64_t peer = vault_peer_id(jid_bare(bare)), now = worker_now_ms();
	struct room_asked *asked = room->asked;

	if (!asked)
		asked = room->asked = iris_calloc(1, sizeof(*asked));
	for (size_t i = 0; i < ASKED_MAX; i++)
		if (asked->entries[i].peer == peer &&
		    asked->entries[i].time_ms > now - ASK_AGAIN_MS)
			return false;
	asked->entries[asked->next].peer = peer;
	asked->entries[asked->next].time_ms = now;
	asked->next = (asked->next + 1) % ASKED_MAX;
	return true;
}

/* A message of the room with an <x/>. */
static struct iris_stanza *
message_new(const struct room *room, const char *ns, struct iris_element **x_r)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);

	stanza_set_from(message, &room->jid);
	*x_r = element_add(message->root, "x", ns);
	return message;
}

/* --- invitations --- */

struct invitation {
	struct iris_jid to, bare;
	struct iris_str reason, thread;
	bool continues; /* <continue/>: §7.9 */
};

static enum iris_condition
read_invitation(struct iris_arena *arena, const struct iris_element *invite,
		struct invitation *invitation_r)
{
	struct iris_element *more = element_child(invite, "continue", NULL);

	*invitation_r = (struct invitation){
		.reason = element_child_text(invite, "reason", NULL),
		.continues = more != NULL,
		.thread = more ? element_get(more, "thread") : IRIS_STR_NONE,
	};
	if (!jid_parse(arena, element_get(invite, "to"), &invitation_r->to))
		return IRIS_JID_MALFORMED;
	invitation_r->bare = jid_with_resource(arena, &invitation_r->to, IRIS_STR_NONE);
	if (invitation_r->reason.len > ROOM_REASON_MAX ||
	    invitation_r->thread.len > ROOM_REASON_MAX)
		return IRIS_NOT_ACCEPTABLE;
	return invitation_r->bare.node_len ? IRIS_NO_ERROR : IRIS_ITEM_NOT_FOUND;
}

static void
send_invitation(const struct room *room, const struct iris_jid *by,
		const struct invitation *invitation, struct iris_str id)
{
	struct iris_element *x, *invite, *more;
	struct iris_stanza *message = message_new(room, NS_MUC_USER, &x);

	stanza_set_to(message, &invitation->to);
	if (!str_is_none(id))
		stanza_set_id(message, id);
	invite = element_add(x, "invite", NULL);
	element_set(invite, "from", jid_full(by));
	if (!str_is_empty(invitation->reason))
		element_add_text(invite, "reason", NULL, invitation->reason);
	if (invitation->continues) {
		more = element_add(invite, "continue", NULL);
		element_set(more, "thread", invitation->thread);
	}
	if (room->config.numbers[ROOM_CONFIG_PASSWORD_PROTECTED])
		element_add_text(x, "password", NULL,
				 str_from(room->config.texts[ROOM_CONFIG_SECRET]));
	route_stanza(&message, NULL);
}

void
room_invite(struct room *room, const struct iris_jid *by, const struct iris_jid *invitee,
	    struct iris_str reason)
{
	struct invitation invitation = { .to = *invitee, .bare = *invitee, .reason = reason };

	send_invitation(room, by, &invitation, IRIS_STR_NONE);
}

static enum iris_condition
invite_judge(const struct passing *passing, const char **text_r)
{
	struct room *room = passing->room;
	const struct room_policy *policy = room_policy(room);
	const int32_t *numbers = room->config.numbers;
	enum room_affiliation affiliation = room_affiliation(room, &passing->bare);
	enum room_role role = room_role(room, &passing->stanza->from);

	if (role == ROOM_NO_ROLE && affiliation < ROOM_MEMBER)
		return IRIS_NOT_ACCEPTABLE;
	if (affiliation < ROOM_ADMIN && role != ROOM_MODERATOR &&
	    (!numbers[ROOM_CONFIG_ALLOW_INVITES] ||
	     (numbers[ROOM_CONFIG_MEMBERS_ONLY] && affiliation < ROOM_MEMBER)))
		return IRIS_FORBIDDEN;
	return policy && policy->may ? policy->may(room, ROOM_INVITE, &passing->bare, text_r) :
				       IRIS_NO_ERROR;
}

/* An invitation to a room for members makes one (§9.5); nobody invites whom an admin has banned. */
static enum iris_condition
make_members(struct passing *passing, const struct invitation *invitations, size_t count,
	     const char **text_r)
{
	struct room *room = passing->room;
	struct room_change change = { .room = room, .by = passing->bare,
				      .arena = passing->arena };

	change.items = arena_alloc(passing->arena, count * sizeof(*change.items));
	for (size_t i = 0; i < count; i++) {
		enum room_affiliation before = room_affiliation(room, &invitations[i].bare);

		if (before == ROOM_OUTCAST) {
			*text_r = "Who is banned cannot be invited";
			return IRIS_NOT_ALLOWED;
		}
		if (before == ROOM_NONE)
			change.items[change.count++] = (struct room_affiliate_change){
				.jid = invitations[i].bare, .after = ROOM_MEMBER };
	}
	if (!room->config.numbers[ROOM_CONFIG_MEMBERS_ONLY] || change.count == 0)
		return IRIS_NO_ERROR;
	return room_change(&change, text_r);
}

static enum iris_condition
pass_invitations(struct passing *passing, const char **text_r)
{
	struct invitation *invitations =
		arena_alloc(passing->arena, INVITES_MAX * sizeof(*invitations));
	struct iris_element *invite = element_child(passing->payload, "invite", NULL);
	enum iris_condition condition = invite_judge(passing, text_r);
	size_t count = 0;

	for (; invite && condition == IRIS_NO_ERROR; invite = element_next(invite, "invite", NULL))
		condition = count == INVITES_MAX ?
				    IRIS_NOT_ACCEPTABLE :
				    read_invitation(passing->arena, invite, &invitations[count++]);
	if (condition == IRIS_NO_ERROR)
		condition = make_members(passing, invitations, count, text_r);
	for (size_t i = 0; i < count && condition == IRIS_NO_ERROR; i++)
		send_invitation(passing->room, &passing->bare, &invitations[i],
				passing->stanza->id);
	return condition;
}

/* --- declines --- */

/* SECURITY: the room carries nothing to who has nothing to do with it. */
static bool
is_of_room(const struct room *room, const struct iris_jid *jid)
{
	return room_affiliation(room, jid) >= ROOM_MEMBER || occupant_of(room, jid) != NULL;
}

static enum iris_condition
pass_decline(struct passing *passing, const char **text_r)
{
	const struct room *room = passing->room;
	struct iris_element *decline = element_child(passing->payload, "decline", NULL), *x;
	struct iris_str reason = element_child_text(decline, "reason", NULL);
	const struct room_occupant *occupant;
	struct iris_stanza *message;
	struct iris_jid to;

	if (!jid_parse(passing->arena, element_get(decline, "to"), &to))
		return IRIS_JID_MALFORMED;
	if (reason.len > ROOM_REASON_MAX)
		return IRIS_NOT_ACCEPTABLE;
	if (room_affiliation(room, &passing->bare) == ROOM_OUTCAST)
		return IRIS_FORBIDDEN;
	if (jid_bare_equal(&to, &room->jid)) {
		occupant = occupant_find(room, jid_resource(&to));
		to = occupant ? occupant->bare : IRIS_JID_NONE;
	}
	if (jid_is_none(&to) || !is_of_room(room, &to))
		return IRIS_ITEM_NOT_FOUND;
	message = message_new(room, NS_MUC_USER, &x);
	stanza_set_to(message, &to);
	if (!str_is_none(passing->stanza->id))
		stanza_set_id(message, passing->stanza->id);
	decline = element_add(x, "decline", NULL);
	element_set(decline, "from", jid_full(&passing->bare));
	if (!str_is_empty(reason))
		element_add_text(decline, "reason", NULL, reason);
	route_stanza(&message, NULL);
	return IRIS_NO_ERROR;
}

/* --- voice (§7.13, §8.6) --- */

static struct iris_element *
add_form(struct iris_element *message, const char *form_type, struct iris_str title,
	 struct iris_str instructions)
{
	struct iris_element *form = form_add(message, "form", form_type);

	form_set_title(form, title, instructions);
	return form;
}

static void
add_field(struct iris_element *form, const char *type, const char *var, const char *label,
	  struct iris_str value)
{
	form_field_set_label(form_add_field(form, type, var, value), str_from(label));
}

static void
ask_moderators(struct room *room, const struct room_session *session)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_element *form;

	stanza_set_from(message, &room->jid);
	form = add_form(message->root, NS_MUC_REQUEST, IRIS_STR("Voice request"),
			IRIS_STR("Somebody asks for voice in the room."));
	add_field(form, "list-single", "muc#role", "Requested role", IRIS_STR("participant"));
	add_field(form, "jid-single", "muc#jid", "Address", jid_full(&session->jid));
	add_field(form, "text-single", "muc#roomnick", "Nick",
		  jid_resource(&session->occupant->jid));
	add_field(form, "boolean", "muc#request_allow", "Grant voice to this person?",
		  IRIS_STR("false"));
	fan_out(room, &message, ROOM_MODERATORS, NULL, NULL);
}

static enum iris_condition
pass_voice_request(struct passing *passing, const char **text_r)
{
	struct room *room = passing->room;
	const struct room_session *session = room_session_find(room, &passing->stanza->from);

	if (!session)
		return IRIS_NOT_ACCEPTABLE;
	if (!str_is(form_value(passing->payload, "muc#role"), "participant"))
		return IRIS_BAD_REQUEST;
	if (!room->config.numbers[ROOM_CONFIG_VOICE_REQUESTS])
		return IRIS_FORBIDDEN;
	if (session->occupant->role != ROOM_VISITOR)
		return IRIS_NO_ERROR; /* it has voice */
	if (!may_ask_now(room, &passing->bare)) {
		*text_r = "You have asked already";
		return IRIS_RESOURCE_CONSTRAINT;
	}
	ask_moderators(room, session);
	return IRIS_NO_ERROR;
}

/* SECURITY: the form comes from a moderator, who may give voice; its fields only say to whom. */
static enum iris_condition
pass_voice_approval(struct passing *passing, const char **text_r)
{
	struct room *room = passing->room;
	const struct room_policy *policy = room_policy(room);
	struct room_occupant *occupant =
		occupant_find(room, form_value(passing->payload, "muc#roomnick"));
	struct room_news news = { .actor = &passing->stanza->from };
	struct iris_jid jid;
	enum iris_condition condition = IRIS_NO_ERROR;

	if (room_role(room, &passing->stanza->from) != ROOM_MODERATOR)
		return IRIS_FORBIDDEN;
	if (!form_value_is_true(form_value(passing->payload, "muc#request_allow")))
		return IRIS_NO_ERROR;
	if (!jid_parse(passing->arena, form_value(passing->payload, "muc#jid"), &jid))
		return IRIS_JID_MALFORMED;
	if (!occupant || !jid_bare_equal(&occupant->bare, &jid))
		return IRIS_ITEM_NOT_FOUND;
	if (policy && policy->may)
		condition = policy->may(room, ROOM_MODERATE, &passing->bare, text_r);
	if (condition == IRIS_NO_ERROR && occupant->role == ROOM_VISITOR)
		occupant_set_role(occupant, ROOM_PARTICIPANT, &news);
	return condition;
}

/* --- registrations that wait (§9.9) --- */

static struct iris_stanza *
registration_form(const struct room *room, const struct iris_jid *bare, struct iris_str nick)
{
	struct iris_stanza *message = stanza_new(IRIS_MESSAGE, IRIS_NORMAL);
	struct iris_element *form;

	stanza_set_from(message, &room->jid);
	form = add_form(message->root, NS_MUC_REGISTER, IRIS_STR("Registration request"),
			IRIS_STR("Somebody asks to be a member of the room."));
	add_field(form, "jid-single", "muc#jid", "Address", jid_full(bare));
	add_field(form, "text-single", "muc#register_roomnick", "Nick", nick);
	add_field(form, "boolean", "muc#register_allow",
		  "Allow this person to register with the room?", IRIS_STR("false"));
	return message;
}

void
invite_ask_admins(struct room *room, const struct iris_jid *bare, struct iris_str nick)
{
	struct iris_jid to[ADMINS_MAX];
	struct iris_stanza *message;
	size_t count = 0;

	if (!may_ask_now(room, bare))
		return;
	HASH_FOREACH(node, &room->affiliates) {
		const struct room_affiliate *affiliate =
			IRIS_CONTAINER(node, struct room_affiliate, node);

		if (affiliate->affiliation >= ROOM_ADMIN && count < ADMINS_MAX)
			to[count++] = affiliate->jid;
	}
	message = registration_form(room, bare, nick);
	route_many(&message, to, count, NULL);
}

static enum iris_condition
pass_registration(struct passing *passing, const char **text_r)
{
	struct room *room = passing->room;
	struct iris_str nick = form_value(passing->payload, "muc#register_roomnick");
	struct iris_jid jid, bare;
	enum iris_condition condition;

	if (room_affiliation(room, &passing->bare) < ROOM_ADMIN)
		return IRIS_FORBIDDEN;
	if (!form_value_is_true(form_value(passing->payload, "muc#register_allow")))
		return IRIS_NO_ERROR;
	if (!jid_parse(passing->arena, form_value(passing->payload, "muc#jid"), &jid))
		return IRIS_JID_MALFORMED;
	bare = jid_with_resource(passing->arena, &jid, IRIS_STR_NONE);
	condition = register_check_nick(room, nick, &bare, passing->arena, &nick);
	return condition == IRIS_NO_ERROR ?
		       register_member(room, &passing->bare, &bare, nick, text_r) :
		       condition;
}

/* --- a message to the room --- */

static void
passing_run(void *arg)
{
	struct passing *passing = arg;
	const char *text = NULL;
	enum iris_condition condition = IRIS_ITEM_NOT_FOUND;

	if (discovery_may_know(passing->room, &passing->stanza->from))
		condition = passing->run(passing, &text);
	if (condition != IRIS_NO_ERROR)
		room_refuse(passing->stanza, condition, text);
	place_release(&passing->room->place);
	stanza_unref(&passing->stanza);
	ticket_unref(&passing->ticket);
	arena_unref(&passing->arena);
	free(passing);
}

static void
passing_start(struct room *room, struct iris_stanza *stanza, struct iris_ticket *ticket,
	      const struct passing *what)
{
	struct passing *passing = iris_malloc(sizeof(*passing));

	*passing = *what;
	passing->room = room;
	passing->stanza = stanza_ref(stanza);
	passing->ticket = ticket_ref(ticket);
	passing->arena = arena_new();
	passing->bare = jid_with_resource(passing->arena, &stanza->from, IRIS_STR_NONE);
	place_hold(&room->place);
	if (fiber_start_spare("room: invitation", passing_run, passing))
		return;
	room_refuse(stanza, IRIS_RESOURCE_CONSTRAINT, NULL);
	place_release(&room->place);
	stanza_unref(&passing->stanza);
	ticket_unref(&passing->ticket);
	arena_unref(&passing->arena);
	free(passing);
}

/* What the message is; run NULL: nothing of these. */
static struct passing
passing_of(const struct iris_stanza *stanza)
{
	struct iris_element *x = element_child(stanza->root, "x", NS_MUC_USER);
	struct iris_element *form = form_find(stanza->root, "submit");

	if (x && element_child(x, "invite", NULL))
		return (struct passing){ .run = pass_invitations, .payload = x };
	if (x && element_child(x, "decline", NULL))
		return (struct passing){ .run = pass_decline, .payload = x };
	if (form && form_is_type(form, NS_MUC_REGISTER))
		return (struct passing){ .run = pass_registration, .payload = form };
	if (form && form_is_type(form, NS_MUC_REQUEST) &&
	    str_is_none(form_value(form, "muc#request_allow")))
		return (struct passing){ .run = pass_voice_request, .payload = form };
	if (form && form_is_type(form, NS_MUC_REQUEST))
		return (struct passing){ .run = pass_voice_approval, .payload = form };
	return (struct passing){ .run = NULL };
}

bool
invite_take(struct room *room, const struct iris_delivery *delivery, struct iris_ticket *ticket)
{
	struct iris_stanza *stanza = delivery->stanza;
	struct passing passing;

	if (stanza->type == IRIS_ERROR || stanza->type == IRIS_GROUPCHAT)
		return false;
	passing = passing_of(stanza);
	if (passing.run)
		passing_start(room, stanza, ticket, &passing);
	return passing.run != NULL;
}
