-- SPDX-License-Identifier: Apache-2.0
-- XEP-0401: invitations that were not used yet. token: SHA-256 of what is in the link. account: who
-- invites. rights: 1 be a contact, 2 register, 4 be in each other's rosters. name_key: the keyed hash of
-- the address that is reserved, or 0. Sealed: inviter (its address), name (of the account to be, or its domain).
CREATE TABLE invitations (
	token TEXT NOT NULL,
	owner {int} NOT NULL,
	account {int} NOT NULL,
	rights {int} NOT NULL,
	created_ms {int} NOT NULL,
	expires_ms {int} NOT NULL,
	name_key {int} NOT NULL,
	inviter {bytes} NOT NULL,
	name {bytes},
	PRIMARY KEY (token)
) {table};
CREATE INDEX invitations_by_account ON invitations (account);
CREATE INDEX invitations_by_age ON invitations (expires_ms);
CREATE INDEX invitations_by_name ON invitations (name_key);
