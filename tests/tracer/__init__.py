"""Tests of the live side that need no BPF."""
