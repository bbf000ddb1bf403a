-- SPDX-License-Identifier: Apache-2.0
-- XEP-0060 for hosts: nodes of many companies at one service, and what an address has at all of them.
-- `owner` is the company under whose key a host's node is sealed (0: of an account's, that of the
-- account); `listed`: everybody may know of the node; `bare_key` the keyed hash of the bare JID.

ALTER TABLE pubsub_node ADD COLUMN owner {int} NOT NULL DEFAULT 0;
ALTER TABLE pubsub_node ADD COLUMN listed {int} NOT NULL DEFAULT 0;
ALTER TABLE pubsub_subscription ADD COLUMN bare_key {int} NOT NULL DEFAULT 0;
CREATE INDEX pubsub_node_by_listed ON pubsub_node (service, node_key) WHERE listed = 1;
CREATE INDEX pubsub_affiliation_by_address ON pubsub_affiliation (jid_key);
CREATE INDEX pubsub_subscription_by_address ON pubsub_subscription (bare_key, node);
