# SPDX-License-Identifier: GPL-2.0-only
"""Open files as numbers: by what they are told apart in events and in VMAs.

Two VMAs of a file merge only if they were mapped through the same open file (mm/vma.c,
is_mergeable_vma compares `vm_file`). Its kernel address stands for it, hashed with a secret
of this run, because addresses of kernel objects are nobody's business who reads a trace.
"""

import re
import secrets
import struct

import numpy as np
import numpy.typing as npt

from shadow.events import NAME_BITS, POLICY_BITS, USERFAULT_BITS
from shadow.table import KNOWN_FILE

__all__ = ("SALT", "identities", "label_of", "name_hash", "policy_hash", "userfaultfd_hash")

SALT = secrets.randbits(62)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(34)
_WORD = (1 << 64) - 1
_NAME_BYTES = 80
_ANON = re.compile(r"\[anon:(.*)\]")


def identities(files: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """What `file` of a VMA is, as the probes tell it; 0 where there is no file."""
    hashed = ((files ^ np.uint64(SALT)) * _MULTIPLIER >> _SHIFT).astype(np.int64)
    return np.where(files == 0, 0, hashed | KNOWN_FILE)


def _mixed(value: int, bits: int) -> int:
    """As `mixed` of the BPF C: so many bits, and never 0."""
    return (value * int(_MULTIPLIER) & _WORD) >> 64 - bits or 1


def name_hash(name: bytes) -> int:
    """What a LABEL event says of a name."""
    value = 0
    for (word,) in struct.iter_unpack("<Q", name.ljust(_NAME_BYTES, b"\0")[:_NAME_BYTES]):
        value = (value ^ word) * int(_MULTIPLIER) & _WORD
    return _mixed(value, NAME_BITS)


def label_of(name: str) -> int:
    """The same of a name as /proc/PID/maps has it; 0: it is none of anonymous memory."""
    found = _ANON.fullmatch(name)
    return name_hash(found[1].encode()) if found else 0


def policy_hash(mode: int, nodes: int) -> int:
    """What a LABEL event says of a memory policy that is not the default one."""
    return _mixed((nodes << 16 & _WORD) ^ mode, POLICY_BITS)


def userfaultfd_hash(context: int) -> int:
    """What a LABEL event says of a userfaultfd."""
    return _mixed(context, USERFAULT_BITS)
