-- SPDX-License-Identifier: Apache-2.0
-- What the small plug-ins keep for an account: XEP-0049, XEP-0054, XEP-0191, XEP-0160.

CREATE TABLE private_xml (
	account {int} NOT NULL,
	name TEXT NOT NULL,
	value {bytes} NOT NULL,
	PRIMARY KEY (account, name)
) {table};

CREATE TABLE vcard (
	account {id},
	value {bytes} NOT NULL
) {table};

-- jid_key is the keyed hash of jid, which is sealed.
CREATE TABLE blocklist (
	account {int} NOT NULL,
	jid_key {int} NOT NULL,
	jid {bytes} NOT NULL,
	PRIMARY KEY (account, jid_key)
) {table};

-- Everything in the account's log up to and including `delivered` has reached a client; behind it,
-- the entries whose ids stand in `beyond`, 8 bytes each.
CREATE TABLE offline_cursor (
	account {id},
	delivered {int} NOT NULL,
	beyond {bytes}
) {table};
