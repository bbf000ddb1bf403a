-- SPDX-License-Identifier: Apache-2.0
-- Accounts whose rows are being removed, from before the first goes until after the last: what a
-- crash cuts short is finished at the next start.
CREATE TABLE erasures (
	account {id},
	jid TEXT NOT NULL,
	owner {int} NOT NULL,
	begun {int} NOT NULL
) {table};
