# SPDX-License-Identifier: GPL-2.0-only
"""Runs a command as systemd would run the service: python -m tests.live.confined COMMAND.

The command has the capabilities of the unit, its filter of system calls, and no memory that is
both writable and executable. systemd-analyze says which calls are in a group.
"""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterable

from tracer.daemon.service import service_file

__all__ = ("capabilities", "refused_calls")

_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_ALLOW, _EPERM = 0x7FFF0000, 0x00050001
_NO_SUCH_CALL = -1


def _values(setting: str) -> list[str]:
    return re.findall(rf"^{setting}=(.*)$", service_file("unit"), re.M)


def capabilities() -> set[str]:
    """The capabilities of the unit, as setpriv names them."""
    (line,) = _values("CapabilityBoundingSet")
    return {name.removeprefix("CAP_").lower() for name in line.split()}


def _calls(names: Iterable[str]) -> set[str]:
    """The system calls with these names, and those in these groups."""
    calls = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        said = subprocess.run(
            ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
        )
        lines = [line.strip() for line in said.stdout.splitlines()[1:]]
        calls |= _calls(line for line in lines if line and not line.startswith("#"))
    return calls


def refused_calls() -> set[str]:
    """The system calls that the unit refuses: groups after ~, less those that it gives back."""
    refused: set[str] = set()
    for line in _values("SystemCallFilter"):
        if line.startswith("~"):
            refused |= _calls(line[1:].split())
        else:
            refused -= _calls(line.split())
    return refused


def _refuse(calls: set[str]) -> None:
    """Let these calls of this process fail with EPERM."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ALLOW))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number > _NO_SUCH_CALL and seccomp.seccomp_rule_add(context, _EPERM, number, 0):
            sys.exit(f"seccomp does not take {call}")
    if seccomp.seccomp_load(context):
        sys.exit("seccomp is not available")


def main() -> None:
    """Confine this process, and become the command."""
    calls = refused_calls()
    if ctypes.CDLL(None).prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        print("memory may be executable: that needs Linux 6.3", file=sys.stderr)
    _refuse(calls)
    kept = "".join(f",+{name}" for name in sorted(capabilities()))
    privileges = ["--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all{kept}"]
    os.execvp("setpriv", ["setpriv", *privileges, *sys.argv[1:]])


if __name__ == "__main__":
    main()
