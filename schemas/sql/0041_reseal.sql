-- SPDX-License-Identifier: Apache-2.0
-- One row. Nothing is sealed with a key that was replaced by key `upto` or an older one.
CREATE TABLE vault_reseal (
	id {id},
	upto {int} NOT NULL
) {table};
INSERT INTO vault_reseal (id, upto) VALUES (1, 0);
