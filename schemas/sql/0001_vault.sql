-- SPDX-License-Identifier: Apache-2.0
-- The vault's own tables: region, owners, keys, sequences, and the log (probes: layout X).

-- One row. key_check tells a wrong master key before anything is read with it.
CREATE TABLE vault_region (
	id {id},
	name TEXT NOT NULL,
	key_check {bytes} NOT NULL,
	created {int} NOT NULL
) {table};

-- Companies, as far as the core knows them: whose rows these are.
CREATE TABLE vault_owners (
	owner {id},
	name TEXT NOT NULL,
	created {int} NOT NULL
) {table};

-- Keys wrapped by the region's master key. state: 1 seals and opens, 2 only opens, 3 destroyed.
-- uses: how many records were sealed with it, at least, when it was last written down.
CREATE TABLE vault_keys (
	id {id},
	owner {int} NOT NULL,
	purpose TEXT NOT NULL,
	root {int} NOT NULL,
	state {int} NOT NULL,
	wrapped {bytes} NOT NULL,
	created {int} NOT NULL,
	uses {int} NOT NULL DEFAULT 0
) {table};
CREATE INDEX vault_keys_owner ON vault_keys (owner);

-- The first number that was not reserved yet. Those of the log are times, see below.
CREATE TABLE vault_sequences (
	name TEXT NOT NULL PRIMARY KEY,
	next {int} NOT NULL
) {table};
INSERT INTO vault_sequences (name, next) VALUES ('log', 1);
INSERT INTO vault_sequences (name, next) VALUES ('account', 1);

-- Entries in the order of their arrival, and nothing else: an index entry per insert costs ten
-- times as much once there are many readers. An id is Unix milliseconds, shifted by 21 bits, and a
-- count: it is the entry's time, too.
CREATE TABLE log (
	id {id},
	owner {int} NOT NULL,
	reader {int} NOT NULL,
	peer {int} NOT NULL,
	flags {int} NOT NULL,
	body {bytes} NOT NULL
) {table} {monthly};

-- The log's index, filled in sorted slices long after the insert. What is younger than
-- indexed_upto is in the server's memory, and read from the log again after a crash.
CREATE TABLE log_reader (
	reader {int} NOT NULL,
	id {int} NOT NULL,
	PRIMARY KEY (reader, id)
) {narrow} {monthly};
CREATE TABLE log_peer (
	reader {int} NOT NULL,
	peer {int} NOT NULL,
	id {int} NOT NULL,
	PRIMARY KEY (reader, peer, id)
) {narrow} {monthly};
CREATE TABLE log_state (
	id {id},
	indexed_upto {int} NOT NULL
) {table};
INSERT INTO log_state (id, indexed_upto) VALUES (1, 0);
