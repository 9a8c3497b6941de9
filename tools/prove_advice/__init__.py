# SPDX-License-Identifier: GPL-2.0-only
"""Proof of advice: apply it, run again, and compare the prediction with the measurement."""
