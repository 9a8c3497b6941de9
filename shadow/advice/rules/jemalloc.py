# SPDX-License-Identifier: GPL-2.0-only
"""What the rules about jemalloc have in common."""

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
"""Below this hardly anything merges before it is purged."""

_MILLISECONDS = re.compile(r"-?[0-9]{1,12}")
"""Up to 31 years: what is more is nonsense, or meant to overflow."""
_BYTES = re.compile(r"[0-9]{1,20}")
_MOST_BYTES = 1 << 62
_VARIABLE = re.compile(r"([A-Z_][A-Z0-9_]{0,40})?MALLOC_CONF")


def _number(text: str | None, pattern: re.Pattern[str] = _MILLISECONDS) -> int | None:
    return int(text) if text is not None and pattern.fullmatch(text) else None


def decay_ms(evidence: Evidence, kind: str = "dirty") -> int | None:
    """How long freed memory waits, or None where that or jemalloc is not known."""
    if not evidence.runs("jemalloc") or evidence.allocator is None:
        return None
    live = _number(evidence.allocator.option(f"arenas.{kind}_decay_ms"))
    return _number(evidence.allocator.option(f"{kind}_decay_ms")) if live is None else live


def oversize_bytes(evidence: Evidence) -> int | None:
    """The size at which a free extent is purged at once; 0: never; None: not known."""
    if evidence.allocator is None:
        return None
    size = _number(evidence.allocator.option("oversize_threshold"), _BYTES)
    return None if size is None else min(size, _MOST_BYTES)


def waiting(evidence: Evidence, *options: str) -> list[str]:
    """Settings under which free memory waits, and is purged once its time is over.

    Without a thread that does so jemalloc purges only while the program allocates and
    frees: one that is idle keeps what it has freed (seen with a Varnish at rest).
    """
    allocator = evidence.allocator
    runs = allocator is not None and allocator.option("background_thread") == "true"
    return [setting(evidence, *options, *([] if runs else ["background_thread:true"]))]


def waiting_risks(evidence: Evidence) -> list[str]:
    """What that costs."""
    risks = ["Freed memory stays in RSS for up to that time.", *left_out(evidence)]
    if evidence.allocator and evidence.allocator.option("background_thread") != "true":
        risks.append(
            "background_thread:true makes a thread of jemalloc's own, or several. Where there is "
            "none (musl; a worker that was forked off, for it does not outlive a fork) a process "
            "that rests keeps in RSS what it freed last."
        )
    return risks


def _variable(evidence: Evidence) -> str:
    """The variable that this build reads, which its image or a trace names."""
    named = evidence.allocator.variable if evidence.allocator else None
    return named if named and _VARIABLE.fullmatch(named) else "MALLOC_CONF"


def _set_already(evidence: Evidence) -> list[str]:
    """What the variable holds, which is up to the process: `name:value`, or anything."""
    assert evidence.allocator is not None
    pairs = evidence.allocator.settings.get(_variable(evidence), "").split(",")
    return [pair.strip() for pair in pairs if pair.strip()]


def setting(evidence: Evidence, *options: str) -> str:
    """The setting as this very build takes it, to be pasted into a shell.

    What is set already stays where it is an option of jemalloc's with a value that it
    can have. Everything else comes from the process and is left out (`left_out`).
    """
    names = {option.partition(":")[0] for option in options}
    kept = [
        pair
        for pair in _set_already(evidence)
        if sound(pair) and pair.partition(":")[0] not in names
    ]
    return f"{_variable(evidence)}={quote(','.join([*kept, *options]))}"


def left_out(evidence: Evidence) -> list[str]:
    """What `setting` left out, in a sentence, if anything."""
    odd = [pair for pair in _set_already(evidence) if not sound(pair)]
    if not odd:
        return []
    return [
        f"{_variable(evidence)} also holds {len(odd)} settings that are no options of jemalloc's "
        "that ptescope knows, or have values that they cannot have: they are left out here."
    ]
