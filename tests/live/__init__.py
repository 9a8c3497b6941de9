"""Tests on the running kernel; they need root."""
