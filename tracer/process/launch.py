# SPDX-License-Identifier: GPL-2.0-only
"""Start a program that ptescope follows from its first instruction on.

The child requests tracing (PTRACE_TRACEME), so the kernel stops it after execve has built the new
address space and before the program runs. ptescope seeds the shadow at that moment, then
releases the program and never stops it again.
"""

import ctypes
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from shadow.errors import UsageError

__all__ = ("Launched",)

_PTRACE_TRACEME, _PTRACE_DETACH = 0, 17
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _environment() -> dict[bytes, bytes]:
    """The environment with which ptescope was started; it has set variables for itself since."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except PermissionError:  # the program has capabilities of its own
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}


def _trace_me() -> None:
    _libc.ptrace(_PTRACE_TRACEME, 0, None, None)


class Launched:
    """A program that waits at its first instruction until it is released.

    Args:
        command: program and arguments.

    Raises:
        UsageError: the program cannot be started.
    """

    def __init__(self, command: list[str]) -> None:
        try:
            self._process = subprocess.Popen(command, preexec_fn=_trace_me, env=_environment())
        except OSError as error:
            raise UsageError(f"{command[0]} cannot be started: {error.strerror}.") from error
        self.pid = self._process.pid
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise UsageError(f"{command[0]} ended before its first instruction.")

    def release(self) -> None:
        """Let the program run without a tracer."""
        _libc.ptrace(_PTRACE_DETACH, self.pid, None, None)

    def ended(self) -> bool:
        """Whether the program has ended and is reaped."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Interrupt the program, as Ctrl-C would."""
        if not self.ended():
            # The program may have changed its user, so that this process may no longer signal it.
            with suppress(PermissionError):
                self._process.send_signal(signal.SIGINT)
