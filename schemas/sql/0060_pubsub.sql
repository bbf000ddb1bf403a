-- SPDX-License-Identifier: Apache-2.0
-- XEP-0060: nodes, their items, who may what, who is subscribed. `service` is the keyed hash of the
-- service's address, the *_key the keyed hash of what is sealed beside it; `account` owns the row
-- (0: a host's). Ids rise with time.

CREATE TABLE pubsub_node (
	id {id},
	service {int} NOT NULL,
	account {int} NOT NULL,
	node_key {int} NOT NULL,
	name {bytes} NOT NULL,
	config {bytes} NOT NULL,
	created {int} NOT NULL
) {table};
CREATE UNIQUE INDEX pubsub_node_by_name ON pubsub_node (service, node_key);
CREATE INDEX pubsub_node_by_account ON pubsub_node (account);

CREATE TABLE pubsub_item (
	id {id},
	node {int} NOT NULL,
	account {int} NOT NULL,
	item_key {int} NOT NULL,
	published {int} NOT NULL,
	value {bytes} NOT NULL
) {table};
CREATE UNIQUE INDEX pubsub_item_by_key ON pubsub_item (node, item_key);
CREATE INDEX pubsub_item_by_node ON pubsub_item (node, id);

CREATE TABLE pubsub_affiliation (
	node {int} NOT NULL,
	account {int} NOT NULL,
	jid_key {int} NOT NULL,
	jid {bytes} NOT NULL,
	affiliation {int} NOT NULL,
	PRIMARY KEY (node, jid_key)
) {table};

CREATE TABLE pubsub_subscription (
	node {int} NOT NULL,
	account {int} NOT NULL,
	jid_key {int} NOT NULL,
	jid {bytes} NOT NULL,
	state {int} NOT NULL,
	options {int} NOT NULL,
	PRIMARY KEY (node, jid_key)
) {table};
