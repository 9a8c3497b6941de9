# SPDX-License-Identifier: GPL-2.0-only
"""What rules could not judge, and why: a trace may lack what a live process shows."""

from shadow.advice.evidence import Evidence
from shadow.advice.rules.jemalloc import decay_ms, oversize_bytes

__all__ = ("limits",)


def limits(evidence: Evidence) -> list[str]:
    """Sentences on what was not tried, where something is not known."""
    found = []
    if evidence.ended:
        found.append("The process has ended: all this is how it was.")
    if not evidence.seeded:
        found.append(
            "Page tables from before the window are not known: nothing is predicted, and what is "
            "empty is what was emptied since."
        )
    if evidence.late:
        found.append(
            "Most of what is empty was empty before the window, which cannot tell what left it so: "
            "begin before the load."
        )
    if evidence.slots is None:
        found.append(
            "Where empty PTE pages lie, and under which mappings, is not known: calls of the "
            "program's own, mappings that divide slots and blocked huge pages are not judged."
        )
    return found + _of_allocator(evidence)


def _of_allocator(evidence: Evidence) -> list[str]:
    if evidence.allocator is None:
        return ["Which allocator it runs is not known: no rule about allocators was tried."]
    found = []
    if evidence.redacted:
        found.append(
            "Settings were left out of this trace (--redact): what is advised goes beside what "
            "is set, and addresses are not those of the process."
        )
    if not evidence.runs("jemalloc"):
        return found
    if decay_ms(evidence) is None or oversize_bytes(evidence) is None:
        found.append(
            "How long this jemalloc holds free memory, or up to which size, is not known: rules "
            "about that were not tried, or predict nothing."
        )
    if evidence.host.max_map_count is None:
        found.append(
            "vm.max_map_count is not known: whether retain:false makes too many mappings is for "
            "you to look up."
        )
    return found
