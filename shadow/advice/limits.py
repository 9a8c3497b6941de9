# SPDX-License-Identifier: GPL-2.0-only
"""The rules that could not be evaluated, and why: a trace may lack facts of a live process."""

from shadow.advice.evidence import Evidence
from shadow.advice.rules.jemalloc import decay_ms, oversize_bytes

__all__ = ("limits",)


def limits(evidence: Evidence) -> list[str]:
    """Sentences about the rules that were not evaluated because a fact is unknown."""
    found = []
    if evidence.ended:
        found.append("The process has ended: the findings describe its state at the end.")
    if not evidence.seeded:
        found.append(
            "The page tables at the beginning of the window are unknown: nothing is predicted, "
            "and only PTE pages emptied in the window count as empty."
        )
    if evidence.late:
        found.append(
            "Most of the empty PTE pages were empty before the window, so their cause is unknown: "
            "start ptescope before the load."
        )
    if evidence.slots is None:
        found.append(
            "The addresses and mappings of the empty PTE pages are unknown: the rules about the "
            "program's own calls, divided slots and blocked huge pages were not evaluated."
        )
    return found + _of_allocator(evidence)


def _of_allocator(evidence: Evidence) -> list[str]:
    if evidence.allocator is None:
        return ["The allocator of the process is unknown: no rule about allocators was evaluated."]
    found = []
    if evidence.redacted:
        found.append(
            "This trace has no settings (--redact): add the advised options to the existing ones. "
            "The addresses are not those of the process."
        )
    if not evidence.runs("jemalloc"):
        return found
    if decay_ms(evidence) is None or oversize_bytes(evidence) is None:
        found.append(
            "The decay time or the oversize threshold of this jemalloc is unknown: the rules about "
            "it were not evaluated, or give no prediction."
        )
    if evidence.host.max_map_count is None:
        found.append(
            "vm.max_map_count is unknown: check yourself whether retain:false would create too "
            "many mappings."
        )
    return found
