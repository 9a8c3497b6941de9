"""Benchmarks: run as modules, print their figures with how they were taken."""
