-- SPDX-License-Identifier: Apache-2.0
-- XEP-0357: whose service it is can be found by the account's address, without its account: the keyed hash
-- of its bare JID. 0: enabled before this was written; filled in when the account is loaded.
ALTER TABLE push_services ADD COLUMN address {int} NOT NULL DEFAULT 0;
CREATE INDEX push_services_by_address ON push_services (address);
