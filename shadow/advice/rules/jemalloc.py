"""What the rules about jemalloc have in common."""

from shadow.advice.evidence import Evidence

__all__ = (
    "DEFAULT_DECAY_MS",
    "SHORT_DECAY_MS",
    "decay_ms",
    "oversize_bytes",
    "setting",
    "waiting",
    "waiting_risks",
)

DEFAULT_DECAY_MS = 10_000
SHORT_DECAY_MS = 1000
"""Below this hardly anything merges before it is purged."""


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def decay_ms(evidence: Evidence, kind: str = "dirty") -> int | None:
    """How long freed memory waits, or None where that or jemalloc is not known."""
    if not evidence.runs("jemalloc") or evidence.allocator is None:
        return None
    live = _number(evidence.allocator.option(f"arenas.{kind}_decay_ms"))
    return _number(evidence.allocator.option(f"{kind}_decay_ms")) if live is None else live


def oversize_bytes(evidence: Evidence) -> int | None:
    """The size at which a free extent is purged at once; 0: never; None: not known."""
    return _number(evidence.allocator.option("oversize_threshold")) if evidence.allocator else None


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
    risks = ["Freed memory stays in RSS for up to that time."]
    if evidence.allocator and evidence.allocator.option("background_thread") != "true":
        risks.append(
            "background_thread:true makes a thread of jemalloc's own, or several. Where there is "
            "none (musl; a worker that was forked off, for it does not outlive a fork) a process "
            "that rests keeps in RSS what it freed last."
        )
    return risks


def setting(evidence: Evidence, *options: str) -> str:
    """The setting as this very build takes it, with what is set there already."""
    allocator = evidence.allocator
    assert allocator is not None
    variable = allocator.variable or "MALLOC_CONF"
    names = {option.partition(":")[0] for option in options}
    kept = [
        pair
        for pair in allocator.settings.get(variable, "").split(",")
        if pair and pair.partition(":")[0].strip() not in names
    ]
    return f"{variable}={','.join([*kept, *options])}"
