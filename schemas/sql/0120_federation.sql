-- SPDX-License-Identifier: Apache-2.0
-- The outbox of modules/federation: stanzas of ours for other servers, until they have arrived there.
-- id: of the log's sequence, so it tells order and time. remote, local: domains. Sealed: the stanza,
-- under its sender's owner.
CREATE TABLE outbox (
	id {int} PRIMARY KEY,
	owner {int} NOT NULL,
	remote TEXT NOT NULL,
	local TEXT NOT NULL,
	until {int} NOT NULL,
	stanza {bytes} NOT NULL
) {table};
CREATE INDEX outbox_by_route ON outbox (remote, local, id);

-- Of the outboxes of others: up to which id all that came for a pair of domains ("theirs ours") is handled.
CREATE TABLE outbox_readers (
	pair TEXT PRIMARY KEY,
	handled {int} NOT NULL
) {narrow};
