# SPDX-License-Identifier: GPL-2.0-only
"""A reader of file mappings: maps files, reads parts of them, unmaps some.

    python -m tools.workloads.reader FOLDER SECONDS

Prints "done" when the time is over, then waits for a line on stdin.
"""

import mmap
import random
import sys
import time
from pathlib import Path

_HELD = 16


def main() -> None:
    """Run the load, print "done", and wait."""
    chance = random.Random(1)
    deadline = time.monotonic() + float(sys.argv[2])
    files = [path for path in Path(sys.argv[1]).rglob("*.so*") if path.stat().st_size > 1 << 16]
    held: list[mmap.mmap] = []
    while time.monotonic() < deadline:
        with chance.choice(files).open("rb") as file:
            area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for _ in range(100):
            area.seek(chance.randrange(len(area)))
            area.read(1 << 14)
        held.append(area)
        if len(held) > _HELD:
            held.pop(chance.randrange(_HELD)).close()
        time.sleep(0.002)
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
