# SPDX-License-Identifier: GPL-2.0-only
"""Linux 7.0 to 7.1.8 free PTE pages and flush the wrong slot (CVE-2026-74674)."""

import re

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Finding

__all__ = ("kernel_flushes_wrong",)

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_FIRST, _FIXED = (7, 0, 0), (7, 1, 9)


def kernel_flushes_wrong(evidence: Evidence) -> Finding | None:
    """Judge by the release number; a distribution may have the fix under an affected number."""
    release = evidence.snapshot.kernel.release
    match = _RELEASE.match(release)
    if match is None or not evidence.kernel_frees:
        return None
    if not _FIRST <= tuple(int(part or 0) for part in match.groups()) < _FIXED:
        return None
    return Finding(
        rule="kernel_flushes_wrong",
        title="this kernel can corrupt memory when it frees a PTE page (CVE-2026-74674)",
        why=f"{release} is in the range 7.0 to 7.1.8, and it frees PTE pages on MADV_DONTNEED.",
        numbers={"release": release},
        change=Change("Run 7.1.9, 7.2 or later, or a vendor kernel with the fix."),
        risks=[
            "Until then, do not sweep: more purges of whole slots make the corruption more likely.",
            "ptescope checks only the release number; a vendor kernel may have the fix.",
        ],
        verify="Check uname -r, and the vendor's changelog for CVE-2026-74674.",
        source="CVE-2026-74674: 7.0 flushed the paging-structure cache of the end address.",
        urgent=True,
    )
