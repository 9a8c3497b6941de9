# SPDX-License-Identifier: GPL-2.0-only
"""Popular settings that have no measurable effect on PTE pages."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Finding

__all__ = ("without_effect",)

_MEASURED = {"narenas": "1", "hpa": "true"}


def without_effect(evidence: Evidence) -> Finding | None:
    """Report such settings if the process has them."""
    allocator = evidence.allocator
    if not evidence.runs("jemalloc") or allocator is None or not evidence.snapshot.now.empty:
        return None
    tried = [
        f"{name}:{value}"
        for name, value in _MEASURED.items()
        if allocator.option(name) == value and allocator.options[name].source in allocator.settings
    ]
    if not tried:
        return None
    return Finding(
        rule="without_effect",
        title=f"{' and '.join(tried)} does nothing for PTE pages",
        why="After 2 GiB of buffers were freed, 304 PTE pages remained with neither setting, 304 "
        "with narenas:1 and 305 with hpa:true.",
        numbers={
            name: allocator.options[name].value for name in _MEASURED if name in allocator.options
        },
        risks=[],
        source="measured with jemalloc 5.3.0 on Linux 6.18, dirty_decay_ms:1000",
    )
