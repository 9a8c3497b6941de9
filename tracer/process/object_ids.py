# SPDX-License-Identifier: GPL-2.0-only
"""Numbers that identify open files and other kernel objects in events and in VMAs.

Two VMAs of a file merge only if they map the same open file (mm/vma.c, is_mergeable_vma compares
`vm_file`). The number of an open file is its kernel address, hashed with a secret of this run,
because a trace must not disclose addresses of kernel objects.
"""

import re
import secrets
import struct

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS, POLICY_BITS, USERFAULT_BITS
from shadow.table.vma import KNOWN_FILE

__all__ = ("SALT", "identities", "label_of", "name_hash", "policy_hash", "userfaultfd_hash")

SALT = secrets.randbits(62)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(34)
_WORD = (1 << 64) - 1
_NAME_BYTES = 80
_ANON = re.compile(r"\[anon:(.*)\]")


def identities(files: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The values of `file` in VMAs, equal to those in events; 0: no file."""
    hashed = ((files ^ np.uint64(SALT)) * _MULTIPLIER >> _SHIFT).astype(np.int64)
    return np.where(files == 0, 0, hashed | KNOWN_FILE)


def _mixed(value: int, bits: int) -> int:
    """A hash of `bits` bits that is never 0, equal to `mixed` of the BPF C."""
    return (value * int(_MULTIPLIER) & _WORD) >> 64 - bits or 1


def name_hash(name: bytes) -> int:
    """The hash of a name in a LABEL event."""
    value = 0
    for (word,) in struct.iter_unpack("<Q", name.ljust(_NAME_BYTES, b"\0")[:_NAME_BYTES]):
        value = (value ^ word) * int(_MULTIPLIER) & _WORD
    return _mixed(value, NAME_BITS)


def label_of(name: str) -> int:
    """The same of a name as /proc/PID/maps has it; 0: it is none of anonymous memory."""
    found = _ANON.fullmatch(name)
    return name_hash(found[1].encode()) if found else 0


def policy_hash(mode: int, nodes: int) -> int:
    """The hash of a memory policy, other than the default one, in a LABEL event."""
    return _mixed((nodes << 16 & _WORD) ^ mode, POLICY_BITS)


def userfaultfd_hash(context: int) -> int:
    """The hash of a userfaultfd in a LABEL event."""
    return _mixed(context, USERFAULT_BITS)
