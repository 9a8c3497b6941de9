"""Accuracy on real programs: the shadow against the page tables, while they run."""
