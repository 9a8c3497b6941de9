# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that never frees an empty PTE page before munmap or exit."""

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Change, Effect, Finding
from shadow.pt_reclaim import reclaims_since

__all__ = ("kernel_frees_none",)

_LOW, _HIGH = 0.9, 1.1


def kernel_frees_none(evidence: Evidence) -> Finding | None:
    """Predict the effect of a newer kernel: the same events under pt_reclaim."""
    snapshot = evidence.snapshot
    if snapshot.kernel.policy != "none" or not snapshot.now.empty:
        return None
    since = "{}.{}".format(*reclaims_since(evidence.geometry.arch))
    effect, numbers = None, {"empty": snapshot.now.empty}
    if snapshot.policies:
        freed = snapshot.policies["none"].pte_pages - snapshot.policies["pt_reclaim"].pte_pages
        if freed > 0:
            basis = (
                f"the same events under the rule of Linux {since}, without PTE pages that were "
                "empty before the window"
            )
            effect = Effect(round(freed * _LOW), round(freed * _HIGH), basis)
        numbers["freed_by_pt_reclaim"] = freed
    return Finding(
        rule="kernel_frees_none",
        title="this kernel keeps every empty PTE page until munmap or exit",
        why=f"{snapshot.now.empty:,} of {snapshot.now.pte_pages:,} PTE pages map nothing.",
        numbers=dict(numbers),
        change=Change(
            f"Run Linux {since} or later, built with CONFIG_PT_RECLAIM.",
            ["zgrep PT_RECLAIM /proc/config.gz || grep PT_RECLAIM /boot/config-$(uname -r)"],
        ),
        effect=effect,
        risks=[
            "Do not use 7.0 to 7.1.8: CVE-2026-74674.",
            "The new kernel affects the whole machine.",
        ],
        verify="ptescope doctor reports when the kernel frees; attach shows its policy.",
        source='Linux commits 6375e95f381e "mm: pgtable: reclaim empty PTE page in '
        'madvise(MADV_DONTNEED)" (v6.14, x86-64) and "mm: make PT_RECLAIM depends on '
        'MMU_GATHER_RCU_TABLE_FREE" (v7.0, arm64 and others)',
    )
