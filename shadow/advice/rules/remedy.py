# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc: extent hooks that sweep the slots which its purges leave empty."""

import re

from shadow.advice.evidence import FEW, Evidence
from shadow.advice.finding import Change, Effect, Finding
from shadow.advice.rules.jemalloc import decay_ms
from shadow.advice.rules.kernel_flushes_wrong import kernel_flushes_wrong

__all__ = ("remedy",)

_PREFIX = re.compile(r"calls of ([a-z_]{1,16})\*")
_JEMALLOC_5 = re.compile(r"5\.")
_GONE = 0.95
"""Least share of such empty PTE pages that the remedy frees."""
_RUNS_DIFFER = 0.1
"""By this share of all PTE pages two runs of the same load differ."""
_PRELOAD = "LD_PRELOAD=libptescope-remedy.so"


def _fits(evidence: Evidence) -> bool:
    """Whether the process runs a jemalloc that the remedy supports, and not the remedy."""
    allocator = evidence.allocator
    if not evidence.runs("jemalloc") or allocator is None or evidence.snapshot.process.remedy:
        return False
    if allocator.version and not _JEMALLOC_5.match(allocator.version):
        return False
    if allocator.option("retain") == "false" or allocator.option("hpa") == "true":
        return False
    guards = any("san_guard" in value for value in allocator.settings.values())
    never = decay_ms(evidence) == -1  # it purges nothing, so what is empty has other reasons
    return not guards and not never and kernel_flushes_wrong(evidence) is None


def _change(evidence: Evidence, *, remap: bool) -> Change:
    allocator = evidence.allocator
    assert allocator is not None
    options = ["PTESCOPE_REMEDY=remap"] if remap else []
    prefix = _PREFIX.fullmatch(allocator.serves or "")
    if prefix:
        return Change(
            "Link the remedy into the program or library that has this jemalloc, and have it "
            f"call ptescope_remedy_start; its jemalloc answers to {prefix[1]}mallctl.",
            [f"make -C tools/remedy libptescope-remedy.a PREFIX={prefix[1]}", *options],
        )
    preloaded = (allocator.linked or "").startswith("preloaded")
    inside = (allocator.linked or "").startswith(("in the executable", "inside"))
    return Change(
        "Preload the remedy, which a clone of ptescope has: jemalloc then frees the PTE pages of "
        "its free memory itself."
        + (" The image with jemalloc has to export mallctl; else link it in." if inside else ""),
        [
            "make -C tools/remedy install",
            f"{_PRELOAD}:libjemalloc.so.2" if preloaded else _PRELOAD,
            *options,
        ],
    )


def _effect(evidence: Evidence, whole: int) -> Effect:
    basis = (
        "counted: nearly all empty slots that lie whole in one private anonymous mapping; those "
        "that are not free memory of jemalloc stay, and the tables of another run differ by a "
        "tenth"
    )
    others = {one.serves for one in evidence.snapshot.process.other_allocators}
    sure = evidence.kernel_frees and others <= {"not malloc"}
    apart = _RUNS_DIFFER * evidence.snapshot.now.pte_pages
    least, most = round(_GONE * whole - apart), round(whole + apart)
    if not sure or most > 2 * least:  # what other runs differ by is as much as what is saved
        least = 0
    return Effect(least, most, basis)


def remedy(evidence: Evidence) -> Finding | None:
    """Offer the remedy for the empty slots of a process on jemalloc."""
    slots, now = evidence.slots, evidence.snapshot.now
    if slots is None or not _fits(evidence) or len(slots.whole) < evidence.enough(FEW):
        return None
    remap = not evidence.kernel_frees
    return Finding(
        rule="remedy",
        title="jemalloc can free these PTE pages itself: extent hooks, loaded by you",
        why=f"{len(slots.whole):,} of {now.empty:,} empty PTE pages lie whole in anonymous memory; "
        "no single purge covered their slots.",
        numbers={"whole": len(slots.whole), "empty": now.empty},
        change=_change(evidence, remap=remap),
        effect=_effect(evidence, len(slots.whole)),
        risks=[
            "The hooks run inside the program; they are GPL-2.0, which matters if you pass on a "
            "program that is linked with them.",
            "A merge that completes a slot costs one more system call, about 1 us, and the next "
            "use of the slot a new PTE page. PTESCOPE_REMEDY=rate=N limits them to N a second.",
            "With any extent hooks jemalloc clears large callocs by writing zeros, and hpa and "
            "san_guard_* do not work; the remedy does nothing under these two.",
            *(
                ["Huge pages are set to always: a swept slot may get one at its next use."]
                if evidence.host.thp == "always"
                else []
            ),
            *(
                [
                    "On this kernel the slot is mapped again: that takes the mmap lock for "
                    "writing, and loses the NUMA policy and madvise flags of the slot."
                ]
                if remap
                else []
            ),
        ],
        verify="Restart with it, run the same load: ptescope top shows empty fall, and attach has "
        "a line on the remedy.",
        source="jemalloc(3), arena.<i>.extent_hooks; tools/remedy/hooks.c names what each hook "
        "relies on",
    )
