-- SPDX-License-Identifier: Apache-2.0
-- XEP-0357: where an account wants to be told of what waits. service: the keyed hash of jid and node.
-- Sealed: jid, node, options (a form, serialised). failures: in a row.
CREATE TABLE push_services (
	account {int} NOT NULL,
	service {int} NOT NULL,
	jid {bytes} NOT NULL,
	node {bytes} NOT NULL,
	options {bytes},
	failures {int} NOT NULL,
	PRIMARY KEY (account, service)
) {table};
