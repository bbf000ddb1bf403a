-- SPDX-License-Identifier: Apache-2.0
-- XEP-0484: tokens of client installations, two for each at most (slot 0: in use, 1: given but not yet
-- used). client: a keyed hash of the installation's id. count: the last one seen.
CREATE TABLE fast_tokens (
	account {int} NOT NULL,
	client {int} NOT NULL,
	slot {int} NOT NULL,
	mechanism TEXT NOT NULL,
	token {bytes} NOT NULL,
	issued_ms {int} NOT NULL,
	expiry_ms {int} NOT NULL,
	count {int} NOT NULL,
	PRIMARY KEY (account, client, slot)
) {narrow};
