# SPDX-License-Identifier: GPL-2.0-only
"""The finding that there is nothing to do, because empty PTE pages are a small share."""

from collections.abc import Sequence

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Finding
from shadow.geometry import PAGE

__all__ = ("nothing_to_do",)

_SMALL = 1 << 20
_SHARE = 0.001


def nothing_to_do(evidence: Evidence, found: Sequence[Finding]) -> Finding | None:
    """The finding, if nothing is urgent and both the empty pages and the savings are small.

    Small is less than 1 MiB or less than a thousandth of the resident memory: a PTE page has
    a 512th of the size that it maps, so page tables of twice the necessary size are 0.2 % of
    RSS.
    """
    if not evidence.seeded:
        return None
    now = evidence.snapshot.now
    idle = (now.empty + (now.lazyfree_only or 0)) * PAGE
    weighty = max(_SMALL, _SHARE * evidence.host.resident)
    saved = max((one.effect.most * PAGE for one in found if one.effect), default=0)
    if max(idle, saved) >= weighty or any(one.urgent for one in found):
        return None
    return Finding(
        rule="nothing_to_do",
        title="nothing to do: empty PTE pages are a small share",
        why=f"They take {idle >> 10:,} KiB; the process has {evidence.host.resident >> 20:,} MiB "
        f"of resident memory and {now.pte_pages * PAGE >> 10:,} KiB of PTE pages.",
        numbers={"idle_bytes": idle, "resident_bytes": evidence.host.resident},
    )
