-- SPDX-License-Identifier: Apache-2.0
-- XEP-0045: rooms, and who belongs to them. The *_key are keyed hashes of what is sealed beside them:
-- of a room's address, of its service's domain, of an affiliate's address.

CREATE TABLE rooms (
	id {int} PRIMARY KEY,
	owner {int} NOT NULL,
	jid_key {int} NOT NULL,
	host_key {int} NOT NULL,
	is_public {int} NOT NULL,
	created {int} NOT NULL,
	version {int} NOT NULL,
	jid {bytes} NOT NULL,
	config {bytes} NOT NULL,
	subject {bytes},
	subject_set {int} NOT NULL
) {table};
CREATE UNIQUE INDEX rooms_by_address ON rooms (jid_key);
CREATE INDEX rooms_by_host ON rooms (host_key, is_public, id);

CREATE TABLE room_affiliations (
	room {int} NOT NULL,
	jid_key {int} NOT NULL,
	owner {int} NOT NULL,
	affiliation {int} NOT NULL,
	version {int} NOT NULL,
	jid {bytes} NOT NULL,
	nick {bytes},
	reason {bytes},
	PRIMARY KEY (room, jid_key)
) {table};
CREATE INDEX room_affiliations_by_address ON room_affiliations (jid_key, affiliation);
