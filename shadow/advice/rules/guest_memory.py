# SPDX-License-Identifier: GPL-2.0-only
"""What rules know of virtual machines: which process is one, and where its guest's memory is."""

from shadow.advice.evidence import Evidence
from shadow.mapping_names import MappingKind
from shadow.mappings import MappingUse

__all__ = ("guest_memory",)

_KINDS = (
    *(MappingKind.ANONYMOUS, MappingKind.MEMFD, MappingKind.POSIX_SHM),
    *(MappingKind.SHARED_ANONYMOUS, MappingKind.FILE),
)
"""What QEMU can take the memory of a guest from, reserved huge pages apart."""


def guest_memory(evidence: Evidence) -> MappingUse | None:
    """What owns most page tables of a QEMU, which is the memory of its guest.

    None for another program, and where its mappings are not known. Anonymous memory is one row,
    in which the memory of QEMU itself is included.
    """
    program = evidence.program
    if program is None or program.name != "QEMU":
        return None
    found = [use for use in evidence.uses if use.kind in _KINDS]
    return max(found, key=lambda use: use.bytes, default=None)
