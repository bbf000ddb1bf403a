-- SPDX-License-Identifier: Apache-2.0
-- Accounts (RFC 6120 §13.9: what signs in), by bare JID. role: enum iris_role.
CREATE TABLE accounts (
	id {id},
	jid TEXT NOT NULL UNIQUE,
	owner {int} NOT NULL,
	role {int} NOT NULL,
	locked {int} NOT NULL,
	created_ms {int} NOT NULL,
	last_logout_ms {int} NOT NULL,
	last_status {bytes}
) {table};

-- What passwords are verified against: one sealed SCRAM verifier for each hash, never a password.
CREATE TABLE credentials (
	account {int} NOT NULL,
	mechanism TEXT NOT NULL,
	verifier {bytes} NOT NULL,
	PRIMARY KEY (account, mechanism)
) {narrow};
