-- SPDX-License-Identifier: Apache-2.0
-- Rooms that are gone and whose log is not yet: what a crash cuts short is finished at the next start.
CREATE TABLE room_erasures (
	room {int} PRIMARY KEY,
	owner {int} NOT NULL,
	begun {int} NOT NULL
) {table};
