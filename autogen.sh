#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes ./configure. Run it after a clone, and after adding or removing a file.
set -e
cd "$(dirname "$0")"
./tools/sources > sources.mk.new
cmp -s sources.mk.new sources.mk 2>/dev/null && rm sources.mk.new || mv sources.mk.new sources.mk
mkdir -p build-aux
autoreconf --install --warnings=all,no-obsolete
