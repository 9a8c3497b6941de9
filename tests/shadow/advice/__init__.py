"""Tests of shadow.advice."""
