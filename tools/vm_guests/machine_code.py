# SPDX-License-Identifier: GPL-2.0-only
"""The machine code of the shadow table for a guest of another architecture, made on this host.

An emulated processor would compile it for ten minutes; the host's compiler knows all processors.
"""

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

from shadow.geometry import entries_of_page
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

    Args:
        cache: the folder that PTESCOPE_CACHE names in the guest.
        machine: the architecture of the guest.
    """
    place = Path(digest()) / image_name(entries_of_page(machine.page), machine.uname)
    with open(cache / "machine-code.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (cache / place).exists():
            return
        with tempfile.TemporaryDirectory(dir=cache, prefix=".") as made:
            command = [sys.executable, "-c", _SHIP, made, machine.uname, str(machine.page)]
            subprocess.run(command, check=True)
            (cache / place).parent.mkdir(mode=0o700, exist_ok=True)
            (Path(made) / place).rename(cache / place)
