# SPDX-License-Identifier: GPL-2.0-only
"""The remedy in a guest: python -m tests.vm.remedy FOLDER; prints a line of JSON for each run.

FOLDER has the shared object and the program tools/workloads/patterns.c.
"""

import json
import sys
import time
from pathlib import Path

from tools.remedy.stress import run_patterns
from tools.workloads.redis import private_redis
from tracer.allocator.remedy import find_remedy
from tracer.census import open_reader
from tracer.kernel import kernel_facts
from tracer.process.target import open_target

_SETTINGS = "dirty_decay_ms:0"
_OVERCOMMIT = Path("/proc/sys/vm")


def _redis(library: str, options: str) -> None:
    """Fill and flush a Redis; print its page tables."""
    reader = open_reader(kernel_facts().geometry)
    with private_redis(LD_PRELOAD=library, PTESCOPE_REMEDY=options, MALLOC_CONF=_SETTINGS) as redis:
        redis.fill(20_000, 20_000)
        redis.flush()
        time.sleep(1)
        census = reader.census(open_target(redis.pid))
        remedy = find_remedy(redis.pid)
        maps = Path(f"/proc/{redis.pid}/maps").read_text().count("\n")
    reader.close()
    _say(
        name=f"Redis {options}" if library else "Redis",
        pte_pages=census.pte_pages,
        empty=int(census.occupancy[0]),
        mappings=maps,
        state=remedy.state if remedy else None,
        swept=remedy.swept if remedy else 0,
    )


def _patterns(folder: Path, library: str, name: str) -> None:
    done = run_patterns(str(folder / "patterns"), library, _SETTINGS, 4)
    _say(name=name, status=done.returncode, said=done.stdout + done.stderr)


def _say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    """Run everything; the strict accounting of memory comes last, as it stays."""
    folder, library = Path(sys.argv[1]), sys.argv[2]
    for preloaded, options in (("", ""), (library, ""), (library, "remap")):
        _redis(preloaded, options)
    _patterns(folder, library, "patterns")
    (_OVERCOMMIT / "overcommit_ratio").write_text("95")
    (_OVERCOMMIT / "overcommit_memory").write_text("2")
    _patterns(folder, library, "patterns, strict accounting")


if __name__ == "__main__":
    main()
