-- SPDX-License-Identifier: Apache-2.0
-- XEP-0153: the hash of the photo in a vCard, for the presence of its owner.
ALTER TABLE vcard ADD COLUMN photo {bytes};
