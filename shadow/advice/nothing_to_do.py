# SPDX-License-Identifier: GPL-2.0-only
"""Where there is nothing to do, or little to save: say so, and why, in the words that apply."""

from collections.abc import Sequence

from shadow.advice.evidence import FEW_BYTES, Evidence
from shadow.advice.finding import Change, Finding

__all__ = ("worth_saying",)

_SMALL = 1 << 20
_SHARE = 0.001
_FULL = 0.1
"""Tables of which fewer are empty are called full."""


def worth_saying(evidence: Evidence, found: Sequence[Finding]) -> list[Finding]:
    """The findings that save enough, the weightiest first; before them that little is at stake."""
    kept = [one for one in found if one.effect is None or one.effect.bytes >= FEW_BYTES]
    kept.sort(key=lambda finding: finding.weight, reverse=True)
    little = _little_to_do(evidence, kept)
    return [little, *kept] if little else kept


def _little_to_do(evidence: Evidence, found: Sequence[Finding]) -> Finding | None:
    """What to say first where nothing is urgent and little is at stake.

    Little is less than 1 MiB, or less than a thousandth of what the process has resident: with
    pages of 4 KiB, a PTE page is a 512th of what it maps, so page tables of twice the necessary
    size are 0.2 % of RSS.
    With other findings it says how little they save; "nothing to do" is for none.
    """
    if not evidence.seeded or any(one.urgent for one in found):
        return None
    idle = _idle(evidence)
    saved = max((one.effect.bytes for one in found if one.effect), default=0)
    if max(idle, saved) >= max(_SMALL, _SHARE * evidence.host.resident):
        return None
    return _little(evidence, idle, saved) if found else _nothing(evidence, idle)


def _idle(evidence: Evidence) -> int:
    """Bytes of PTE pages without an entry that is needed."""
    now = evidence.snapshot.now
    return (now.empty + (now.lazyfree_only or 0)) * evidence.geometry.page


def _of(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "less than 0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def _resident(evidence: Evidence) -> str:
    return f"{evidence.host.resident >> 20:,} MiB are resident"


def _numbers(evidence: Evidence, idle: int) -> dict[str, int | float | str]:
    return {
        "idle_bytes": idle,
        "pte_bytes": evidence.snapshot.now.pte_pages * evidence.geometry.page,
        "resident_bytes": evidence.host.resident,
    }


def _at_stake(evidence: Evidence, stake: int) -> str:
    """Why so many bytes are little: an amount, or a share."""
    if stake < _SMALL:
        return f"too little to matter: {stake >> 10:,} KiB"
    share = _of(stake, evidence.host.resident)
    return f"a small share: {stake >> 20:,} MiB, {share} of what is resident"


def _little(evidence: Evidence, idle: int, saved: int) -> Finding:
    return Finding(
        rule="little_to_save",
        title=_at_stake(evidence, max(idle, saved)),
        why=f"PTE pages that are empty take {idle >> 10:,} KiB, and no change saves more than "
        f"{saved >> 10:,} KiB; {_resident(evidence)}.",
        numbers={**_numbers(evidence, idle), "saved_bytes": saved},
    )


def _nothing(evidence: Evidence, idle: int) -> Finding:
    now = evidence.snapshot.now
    tables = now.pte_pages * evidence.geometry.page
    numbers = _numbers(evidence, idle)
    if tables >= _SMALL and idle < _FULL * tables:
        program = evidence.program
        setting = program.private if program else None
        return Finding(
            rule="nothing_to_do",
            title="nothing to do about empty PTE pages: the tables are full",
            why=f"{_of(tables - idle, tables)} of {tables >> 20:,} MiB of PTE pages hold entries, "
            f"and {idle >> 10:,} KiB are empty; {_resident(evidence)}. Only huge "
            "pages, or fewer processes, would need fewer.",
            numbers=numbers,
            change=Change(setting.what, list(setting.how)) if setting else None,
            verify="ptescope census: fewer PTE pages." if setting else "",
            source=setting.source if setting else "",
        )
    stake = f"what is empty is {_at_stake(evidence, idle)}" if idle else "no PTE page is empty"
    return Finding(
        rule="nothing_to_do",
        title=f"nothing to do: {stake}",
        why=f"Empty PTE pages take {idle >> 10:,} KiB, {_of(idle, tables)} of the "
        f"{tables >> 10:,} KiB of PTE pages; {_resident(evidence)}.",
        numbers=numbers,
    )
