# SPDX-License-Identifier: Apache-2.0
"""The machinery behind the plays: see ../README.md."""
