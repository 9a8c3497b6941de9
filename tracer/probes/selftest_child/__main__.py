# SPDX-License-Identifier: GPL-2.0-only
"""Provoke one event of each source, and print the expected events.

The program prints `ready`, waits for a line, acts, and prints JSON: for each source of events
(`tracer.probes.sources`) the events that must arrive, or why it could not act. Then it executes
`true`, which provokes the events of exec and exit.
"""

import json
import os
import sys
from pathlib import Path

from shadow.uapi import MADV_NOHUGEPAGE
from tracer.probes.selftest_child.calls import AREA, BASE, Seen, call, map_area
from tracer.probes.selftest_child.files import FILE_ACTS
from tracer.probes.selftest_child.memory import MEMORY_ACTS
from tracer.probes.selftest_child.page_tables import PAGE_TABLE_ACTS
from tracer.probes.selftest_child.rare import RARE_ACTS

__all__ = ("main",)


def main() -> None:
    """Wait for a line, act, print the expected events, and execute `true`."""
    acts = MEMORY_ACTS | RARE_ACTS | FILE_ACTS | PAGE_TABLE_ACTS
    print("ready", flush=True)
    sys.stdin.readline()
    seen: dict[str, Seen] = {}
    failed: dict[str, str] = {}
    for number, (name, act) in enumerate(acts.items()):
        at = BASE + number * 2 * AREA
        try:
            map_area(at)
            call("madvise", at, AREA, MADV_NOHUGEPAGE)
            seen[name] = act(at)
        except OSError as error:
            failed[name] = f"{error.strerror}"
    program = next((path for path in ("/bin/true", "/usr/bin/true") if Path(path).exists()), None)
    if program:
        seen |= {"exec": [("EXEC", 0)], "exit": [("EXIT", 0)]}
    print(json.dumps({"seen": seen, "failed": failed}), flush=True)
    if program:
        os.execv(program, [program])


if __name__ == "__main__":
    main()
