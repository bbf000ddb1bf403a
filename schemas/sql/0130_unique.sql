-- SPDX-License-Identifier: Apache-2.0
-- E-mail addresses of accounts (P3.1), one each. hash: the name that the address has for other
-- regions (P2.6), under the key `key_id`; no two accounts have the same. Names of an older key are
-- made anew from the address when there is another.
CREATE TABLE emails (
	account {int} NOT NULL PRIMARY KEY,
	owner {int} NOT NULL,
	hash TEXT NOT NULL UNIQUE,
	key_id TEXT NOT NULL,
	address {bytes} NOT NULL
) {table};

CREATE INDEX emails_by_key ON emails (key_id);
