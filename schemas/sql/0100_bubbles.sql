-- SPDX-License-Identifier: Apache-2.0
-- Work that is owed to members of bubbles (modules/bubbles). The *_key are keyed hashes of the addresses
-- that are sealed beside them; member_key 0: to all members. room: the id, 0 while it is being made.
-- kind: 1 deleted, 2 membership, 3 name; the lower one wins. due: Unix milliseconds. outside: whether the
-- member was not in it when it was deleted. Sealed former: the name before a new one, or of a deleted bubble.
CREATE TABLE bubble_notices (
	room_key {int} NOT NULL,
	member_key {int} NOT NULL,
	room {int} NOT NULL,
	owner {int} NOT NULL,
	kind {int} NOT NULL,
	outside {int} NOT NULL,
	due {int} NOT NULL,
	tries {int} NOT NULL,
	generation {int} NOT NULL,
	address {bytes} NOT NULL,
	member {bytes},
	former {bytes},
	PRIMARY KEY (room_key, member_key)
) {table};
CREATE INDEX bubble_notices_by_time ON bubble_notices (due);
CREATE INDEX bubble_notices_by_member ON bubble_notices (member_key);
