# SPDX-License-Identifier: GPL-2.0-only
"""The rules, one per file: each takes evidence and returns a finding or None."""

from collections.abc import Callable

from shadow.advice.evidence import Evidence
from shadow.advice.finding import Finding
from shadow.advice.rules.aggressive_decommit import aggressive_decommit
from shadow.advice.rules.empty_on_fork import empty_on_fork
from shadow.advice.rules.free_page_reporting import free_page_reporting
from shadow.advice.rules.guest_huge_pages import guest_huge_pages
from shadow.advice.rules.huge_pages_blocked import huge_pages_blocked
from shadow.advice.rules.immediate_purge import immediate_purge
from shadow.advice.rules.kernel_flushes_wrong import kernel_flushes_wrong
from shadow.advice.rules.kernel_frees_none import kernel_frees_none
from shadow.advice.rules.lazy_free import lazy_free
from shadow.advice.rules.longer_decay import longer_decay
from shadow.advice.rules.other_allocator import other_allocator
from shadow.advice.rules.oversize import oversize
from shadow.advice.rules.own_call import own_call
from shadow.advice.rules.remedy import remedy
from shadow.advice.rules.retain import retain
from shadow.advice.rules.sanitizer import sanitizer
from shadow.advice.rules.shared_emptied import shared_emptied
from shadow.advice.rules.shared_memory import shared_memory
from shadow.advice.rules.small_purges import small_purges
from shadow.advice.rules.sparse import sparse
from shadow.advice.rules.sparse_reservations import sparse_reservations
from shadow.advice.rules.split_slots import split_slots
from shadow.advice.rules.without_effect import without_effect

__all__ = ("RULES",)

RULES: tuple[Callable[[Evidence], Finding | None], ...] = (
    kernel_flushes_wrong,
    kernel_frees_none,
    immediate_purge,
    longer_decay,
    oversize,
    remedy,
    retain,
    lazy_free,
    aggressive_decommit,
    other_allocator,
    own_call,
    shared_emptied,
    shared_memory,
    free_page_reporting,
    guest_huge_pages,
    sanitizer,
    small_purges,
    split_slots,
    sparse,
    sparse_reservations,
    empty_on_fork,
    huge_pages_blocked,
    without_effect,
)
