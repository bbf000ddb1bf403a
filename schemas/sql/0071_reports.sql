-- SPDX-License-Identifier: Apache-2.0
-- XEP-0377: what people report with a block. report: a keyed hash of reporter and reported, so that
-- who reports again replaces it. Sealed: reporter, reported, text (what the person wrote), messages (ids).
CREATE TABLE reports (
	report {int} NOT NULL,
	owner {int} NOT NULL,
	account {int} NOT NULL,
	time_ms {int} NOT NULL,
	reason TEXT NOT NULL,
	reporter {bytes} NOT NULL,
	reported {bytes} NOT NULL,
	comment {bytes},
	messages {bytes},
	PRIMARY KEY (report)
) {table};
CREATE INDEX reports_by_time ON reports (owner, time_ms);
CREATE INDEX reports_by_age ON reports (time_ms);
CREATE INDEX reports_by_account ON reports (account);
