"""Tests of tracer.allocator."""
