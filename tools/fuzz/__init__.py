"""Fuzzers: run by hand, on demand."""
