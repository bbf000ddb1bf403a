-- SPDX-License-Identifier: Apache-2.0
-- Rosters (RFC 6121 §2). peer: the keyed hash of the contact's bare JID. Sealed: jid, contact_name,
-- contact_groups (names, a NUL behind each), request (the children of a subscription request that
-- waits). state: subscription (1 to, 2 from), 4 asked, 8 approved, 16 asked by the contact, 32 in the roster.
CREATE TABLE roster (
	account {int} NOT NULL,
	peer {int} NOT NULL,
	state {int} NOT NULL,
	jid {bytes} NOT NULL,
	contact_name {bytes},
	contact_groups {bytes},
	request {bytes},
	PRIMARY KEY (account, peer)
) {table};

-- Rises with every change that clients see (§2.6).
CREATE TABLE roster_version (
	account {id},
	version {int} NOT NULL
) {table};
