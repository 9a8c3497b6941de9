# SPDX-License-Identifier: GPL-2.0-only
"""The specification, helper by helper and race by race."""
