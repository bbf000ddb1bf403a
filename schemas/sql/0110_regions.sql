-- SPDX-License-Identifier: Apache-2.0
-- The region map in force (one row: an older one is refused, also after a restart), and the ledger of
-- what came to the gate (P2.8). Nothing of anybody's is in either.

CREATE TABLE region_map (
	one {int} PRIMARY KEY,
	serial {int} NOT NULL,
	digest TEXT NOT NULL
) {table};

CREATE TABLE gate_ledger (
	sender TEXT NOT NULL,
	receiver TEXT NOT NULL,
	category TEXT NOT NULL,
	verdict TEXT NOT NULL,
	amount {int} NOT NULL,
	since {int} NOT NULL,
	PRIMARY KEY (sender, receiver, category, verdict)
) {table};
