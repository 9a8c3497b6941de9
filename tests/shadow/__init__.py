"""Tests of the model: no kernel, no root."""
