"""Tests of shadow.whatif."""
