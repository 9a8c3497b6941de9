# SPDX-License-Identifier: GPL-2.0-only
"""Who can follow a finding: who runs a known program cannot change its code."""

from dataclasses import replace

from shadow.advice.finding import MAKERS, Finding
from shadow.advice.programs import Program

__all__ = ("addressed",)

_CODE = {"own_call", "shared_emptied", "small_purges", "split_slots", "sparse_reservations"}
"""Rules whose changes are to the code of a program."""


def addressed(finding: Finding, program: Program | None) -> Finding:
    """The finding as the reader of a report needs it.

    Args:
        finding: of any rule.
        program: which the reader runs and did not write; None: not known to be one.
    """
    change = finding.change
    in_code = finding.rule in _CODE or (finding.rule == "lazy_free" and change and not change.how)
    if program is None or change is None or not in_code:
        return finding
    what = (
        f"This is for the makers of {program.name}, and no setting of it does the same. An "
        f"operator can restart it. For its makers: {change.what}"
    )
    return replace(finding, change=replace(change, what=what), audience=MAKERS)
