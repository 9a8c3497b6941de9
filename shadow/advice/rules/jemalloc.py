# SPDX-License-Identifier: GPL-2.0-only
"""Functions that the rules about jemalloc share."""

import re
from shlex import quote

from shadow.advice.evidence import Evidence
from shadow.advice.rules.jemalloc_options import sound

__all__ = (
    "DEFAULT_DECAY_MS",
    "SHORT_DECAY_MS",
    "decay_ms",
    "left_out",
    "oversize_bytes",
    "setting",
    "waiting",
    "waiting_risks",
)

DEFAULT_DECAY_MS = 10_000
SHORT_DECAY_MS = 1000
"""With a shorter decay time, little memory merges before jemalloc purges it."""

_MILLISECONDS = re.compile(r"-?[0-9]{1,12}")
"""Up to 31 years; a larger value is an error or an attempt at an overflow."""
_BYTES = re.compile(r"[0-9]{1,20}")
_MOST_BYTES = 1 << 62
_VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]{0,40})?MALLOC_CONF")


def _number(text: str | None, pattern: re.Pattern[str] = _MILLISECONDS) -> int | None:
    return int(text) if text is not None and pattern.fullmatch(text) else None


def decay_ms(evidence: Evidence, kind: str = "dirty") -> int | None:
    """The decay time of freed memory; None if it is unknown or the process has no jemalloc."""
    if not evidence.runs("jemalloc") or evidence.allocator is None:
        return None
    live = _number(evidence.allocator.option(f"arenas.{kind}_decay_ms"))
    return _number(evidence.allocator.option(f"{kind}_decay_ms")) if live is None else live


def oversize_bytes(evidence: Evidence) -> int | None:
    """The size at which jemalloc purges a free extent at once; 0: never; None: unknown."""
    if evidence.allocator is None:
        return None
    size = _number(evidence.allocator.option("oversize_threshold"), _BYTES)
    return None if size is None else min(size, _MOST_BYTES)


def waiting(evidence: Evidence, *options: str) -> list[str]:
    """The settings under which jemalloc holds free memory, and purges it after the decay time.

    Without a background thread, jemalloc purges only while the program allocates and frees.
    An idle program keeps its freed memory (observed with an idle Varnish).
    """
    allocator = evidence.allocator
    runs = allocator is not None and allocator.option("background_thread") == "true"
    return [setting(evidence, *options, *([] if runs else ["background_thread:true"]))]


def waiting_risks(evidence: Evidence) -> list[str]:
    """The risks of the settings from `waiting`."""
    risks = ["Freed memory stays in RSS for up to that time.", *left_out(evidence)]
    if evidence.allocator and evidence.allocator.option("background_thread") != "true":
        risks.append(
            "background_thread:true starts one or more threads. Without such a thread (musl, or "
            "a forked worker, because threads do not survive a fork) an idle process keeps the "
            "memory it freed last in RSS."
        )
    return risks


def _variable(evidence: Evidence) -> str:
    """The environment variable that this build reads, as its image or the trace states."""
    named = evidence.allocator.variable if evidence.allocator else None
    return named if named and _VARIABLE.fullmatch(named) else "MALLOC_CONF"


def _set_already(evidence: Evidence) -> list[str]:
    """The current parts of the variable; the process controls them, so they are untrusted."""
    assert evidence.allocator is not None
    pairs = evidence.allocator.settings.get(_variable(evidence), "").split(",")
    return [pair.strip() for pair in pairs if pair.strip()]


def setting(evidence: Evidence, *options: str) -> str:
    """The setting in the syntax of this build, safe to paste into a shell.

    It keeps the current options that are valid options of jemalloc with valid values. It
    omits everything else, because that text comes from the process (`left_out`).
    """
    names = {option.partition(":")[0] for option in options}
    kept = [
        pair
        for pair in _set_already(evidence)
        if sound(pair) and pair.partition(":")[0] not in names
    ]
    return f"{_variable(evidence)}={quote(','.join([*kept, *options]))}"


def left_out(evidence: Evidence) -> list[str]:
    """A sentence about what `setting` omits, if anything."""
    odd = [pair for pair in _set_already(evidence) if not sound(pair)]
    if not odd:
        return []
    return [
        f"{_variable(evidence)} also has {len(odd)} settings with names that ptescope does not "
        "know or with invalid values; the advised setting omits them."
    ]
