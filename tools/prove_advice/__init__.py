# SPDX-License-Identifier: GPL-2.0-only
"""Proof of advice: take it, run again, compare what it predicted with what is measured."""
