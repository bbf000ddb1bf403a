-- SPDX-License-Identifier: Apache-2.0
-- XEP-0486: pictures of rooms. Sealed: value (the vCard, serialised), hashes (of its pictures, a line for each).
CREATE TABLE room_vcards (
	room {int} PRIMARY KEY,
	owner {int} NOT NULL,
	value {bytes} NOT NULL,
	hashes {bytes}
) {table};
