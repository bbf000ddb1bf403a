-- SPDX-License-Identifier: Apache-2.0
-- Shared files (modules/files). The id is a keyed hash of the token in the link; the bytes lie in the store.
CREATE TABLE files (
	id {int} PRIMARY KEY,
	owner {int} NOT NULL,
	account {int} NOT NULL,
	state {int} NOT NULL,
	purpose {int} NOT NULL,
	size {int} NOT NULL,
	segment {int} NOT NULL,
	created {int} NOT NULL,
	expires {int} NOT NULL,
	scanned {int} NOT NULL,
	until {int} NOT NULL,
	token {bytes} NOT NULL,
	name {bytes} NOT NULL,
	type {bytes} NOT NULL,
	file_key {bytes}
) {table};
CREATE INDEX files_account ON files (account, created);
CREATE INDEX files_expires ON files (expires);
CREATE INDEX files_scanned ON files (state, scanned, id);

-- What accounts have; account 0: their company together.
CREATE TABLE file_usage (
	owner {int} NOT NULL,
	account {int} NOT NULL,
	bytes {int} NOT NULL,
	files {int} NOT NULL,
	PRIMARY KEY (owner, account)
) {narrow};

-- Sets of virus signatures that were in use: a file is clean by one of them.
CREATE TABLE file_signatures (
	print {int} PRIMARY KEY,
	number {int} NOT NULL
) {table};
