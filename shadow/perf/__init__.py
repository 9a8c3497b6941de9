"""Other people's recordings: what perf recorded, as records of a trace."""

from shadow.perf.script import PerfScript

__all__ = ("PerfScript",)
