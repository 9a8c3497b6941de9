# SPDX-License-Identifier: GPL-2.0-only
"""Does the remedy ever lose a byte? tools/workloads/patterns.c under many settings of jemalloc.

    python -m tools.remedy.stress [SECONDS] [JEMALLOC]

The time is for all settings together; an hour is 3600. JEMALLOC is the library to preload.
"""

import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from tools.remedy.build import built_patterns, built_remedy

__all__ = ("DECAYS", "SETTINGS", "run_patterns")

_THREADS = 8
_SECONDS, _JEMALLOC = 36.0, "libjemalloc.so.2"
DECAYS = ("dirty_decay_ms:0", "dirty_decay_ms:10000", "dirty_decay_ms:-1")
SETTINGS = [
    *(f"{decay},background_thread:{on}" for decay, on in product(DECAYS, ("true", "false"))),
    "dirty_decay_ms:100,muzzy_decay_ms:100,background_thread:true",
    "dirty_decay_ms:0,percpu_arena:percpu",
    "dirty_decay_ms:0,oversize_threshold:2097152,narenas:1",
]


def run_patterns(
    patterns: str, remedy: str, settings: str, seconds: int, jemalloc: str = _JEMALLOC
) -> "subprocess.CompletedProcess[str]":
    """Run the program under the remedy; it prints the first wrong byte and aborts."""
    # A decay of -1 means that jemalloc never purges, so nothing else may ask for it.
    purge = "no" if "decay_ms:-1" in settings else "yes"
    environment = {"LD_PRELOAD": f"{remedy}:{jemalloc}", "MALLOC_CONF": settings, "PURGE": purge}
    return subprocess.run(
        [patterns, str(_THREADS), str(seconds)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> None:
    """Run all settings, one after the other."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else _SECONDS
    jemalloc = sys.argv[2] if len(sys.argv) > 2 else _JEMALLOC
    each = max(round(seconds / len(SETTINGS)), 1)
    with tempfile.TemporaryDirectory() as folder:
        patterns, remedy = built_patterns(Path(folder)), built_remedy(Path(folder))
        for settings in SETTINGS:
            done = run_patterns(patterns, remedy, settings, each, jemalloc)
            print(f"{settings}: {(done.stdout + done.stderr).strip()}", flush=True)
            if done.returncode:
                sys.exit(f"status {done.returncode}")


if __name__ == "__main__":
    main()
