# SPDX-License-Identifier: GPL-2.0-only
"""The RFC "Try to free user PTE page table pages" as an executable specification.

The specification is small, slow and obviously correct. `helpers` has the ten helpers of
the RFC, `mm` the data that they work on, and `races` the races. `shadow.table` is the
fast implementation; tests compare it with this specification.
"""

from shadow.pte_ref.errors import KernelBugError
from shadow.pte_ref.helpers import (
    alone,
    free_user_pte,
    pte_put,
    pte_ref_free,
    pte_ref_init,
    pte_tryget,
    pte_tryget_map,
    pte_tryget_map_lock,
    track_pte_clear,
    track_pte_set,
    try_to_free_user_pte,
)
from shadow.pte_ref.mm import LEAF, Entry, Leaf, Mm, PtePage
from shadow.pte_ref.percpu_ref import Mode, PercpuRef

__all__ = (
    "LEAF",
    "Entry",
    "KernelBugError",
    "Leaf",
    "Mm",
    "Mode",
    "PercpuRef",
    "PtePage",
    "alone",
    "free_user_pte",
    "pte_put",
    "pte_ref_free",
    "pte_ref_init",
    "pte_tryget",
    "pte_tryget_map",
    "pte_tryget_map_lock",
    "track_pte_clear",
    "track_pte_set",
    "try_to_free_user_pte",
)
