# SPDX-License-Identifier: GPL-2.0-only
"""Drop capabilities once the probes are attached.

ptescope keeps CAP_BPF to read open maps, and CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH to read
/proc of the target again after an execve. Capabilities belong to a thread, so
`drop_capabilities` must run before other threads start.
"""

import ctypes
import os
from collections.abc import Sequence

from shadow.errors import NotPermittedError

__all__ = ("drop_capabilities", "has_sys_admin", "missing_capabilities")

_CAP_DAC_READ_SEARCH, _CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_BPF = 2, 19, 21, 39
_NUMBERS = {
    "CAP_DAC_READ_SEARCH": _CAP_DAC_READ_SEARCH,
    "CAP_SYS_PTRACE": _CAP_SYS_PTRACE,
    "CAP_PERFMON": 38,
    "CAP_BPF": _CAP_BPF,
    "CAP_CHECKPOINT_RESTORE": 40,
}
_KEPT = ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_BPF")
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, include/uapi/linux/capability.h
_PR_SET_NO_NEW_PRIVS = 38


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _has(capability: int) -> bool:
    """Whether this thread has the capability now."""
    data = (_CapabilitySet * 2)()
    ctypes.CDLL(None).capget(ctypes.byref(_Header(_VERSION_3, 0)), data)
    return bool(data[capability // 32].effective >> capability % 32 & 1)


def has_sys_admin() -> bool:
    """Whether this thread has CAP_SYS_ADMIN. If it has, a refusal is a matter of policy."""
    return _has(_CAP_SYS_ADMIN)


def missing_capabilities(*capabilities: str) -> str:
    """The end of a message: why the kernel refused something that needs these."""
    names = " and ".join(capabilities)
    missing = [name for name in capabilities if not _has(_NUMBERS[name])]
    if not missing:
        return f"a policy of this kernel or container refuses it in spite of {names}"
    if os.geteuid() == 0:
        return f"root lacks {' and '.join(missing)} here; grant it to the container"
    return f"this needs root, or {names}"


def drop_capabilities(kept: Sequence[str] = _KEPT) -> None:
    """Drop all capabilities but these.

    Args:
        kept: their names; the default is what following a process needs.

    Raises:
        NotPermittedError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = _Header(_VERSION_3, 0)
    data = (_CapabilitySet * 2)()
    numbers = [_NUMBERS[name] for name in kept]
    failed = libc.capget(ctypes.byref(header), data)
    for word in range(2):
        keep = sum(1 << (number - 32 * word) for number in numbers if number // 32 == word)
        data[word].permitted &= keep
        data[word].effective = data[word].permitted
        data[word].inheritable = 0
    failed = failed or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    failed = failed or libc.capset(ctypes.byref(header), data)
    if failed:
        raise NotPermittedError(
            f"Capabilities cannot be dropped: {os.strerror(ctypes.get_errno())}."
        )
