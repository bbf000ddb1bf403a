-- SPDX-License-Identifier: Apache-2.0
-- XEP-0441: what an account wants kept of its conversations. No row: everything.
CREATE TABLE archive_prefs (
	account {id},
	value {bytes} NOT NULL
) {table};
