"""Snapshots as text and other forms; a reporter sees snapshots only."""
