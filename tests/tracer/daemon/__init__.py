"""Tests of what watches a whole host, without BPF."""
