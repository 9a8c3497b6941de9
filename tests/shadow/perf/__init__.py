"""Texts of other tools as records."""
