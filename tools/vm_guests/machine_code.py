# SPDX-License-Identifier: GPL-2.0-only
"""The machine code of the shadow table for a guest of another architecture, made on this host.

An emulated processor would compile it for ten minutes; the host's compiler knows all processors.
"""

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

from shadow.geometry import X86_64, entries_of_page
from shadow.machine_code.place import digest, image_name
from tools.vm_guests.machines import Machine

__all__ = ("put_machine_code",)

_SHIP = """
import sys
from shadow.machine_code.make import ship
ship(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def put_machine_code(cache: Path, machine: Machine) -> None:
    """Put it where ptescope in the guest looks for it, if it is not there yet.

    It is for the pages of the guest and, to replay their traces there, for those of x86-64.

    Args:
        cache: the folder that PTESCOPE_CACHE names in the guest.
        machine: the architecture of the guest.
    """
    with open(cache / "machine-code.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for page in {machine.page, X86_64.page}:
            place = Path(digest()) / image_name(entries_of_page(page), machine.uname)
            if not (cache / place).exists():
                _make(cache, place, machine, page)


def _make(cache: Path, place: Path, machine: Machine, page: int) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as made:
        command = [sys.executable, "-c", _SHIP, made, machine.uname, str(page)]
        subprocess.run(command, check=True)
        (cache / place).parent.mkdir(mode=0o700, exist_ok=True)
        (Path(made) / place).rename(cache / place)
