-- SPDX-License-Identifier: Apache-2.0
-- One row in a store that is being filled from another engine's (irisctl db copy) and is not
-- complete: nobody serves from it. name, key_check, created: as in the source's vault_region.
CREATE TABLE vault_copy (
	id {id},
	source TEXT NOT NULL,
	begun {int} NOT NULL,
	name TEXT NOT NULL,
	key_check {bytes} NOT NULL,
	created {int} NOT NULL
) {table};
