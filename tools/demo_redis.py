# SPDX-License-Identifier: GPL-2.0-only
"""Follow a private Redis through fill, flush, delete and refill, print the report, and make a page.

The report comes from `ptescope attach` on the real process, the page from its trace.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.workloads.redis import Redis, private_redis

_FOLDER = Path(__file__).parent.parent / ".demo"
_SECONDS_TO_FOLLOW = 30
"""At a first start, the BPF programs have to be compiled before."""
_DECAY_SECONDS = 12
"""jemalloc returns dirty pages over 10 s (dirty_decay_ms)."""


def _say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def _work(redis: Redis) -> None:
    _say("fill: 3,000,000 keys of 200 bytes")
    redis.fill(3_000_000, 200)
    _say("FLUSHALL")
    redis.flush()
    _say(f"wait {_DECAY_SECONDS} s while jemalloc returns the memory (dirty_decay_ms)")
    time.sleep(_DECAY_SECONDS)
    _say("fill: 400,000 keys of 1,500 bytes, delete all but every 50th")
    redis.fill(400_000, 1500, "second")
    redis.delete_most(400_000, 50, "second")
    time.sleep(_DECAY_SECONDS)
    _say("refill: 100,000 keys of 300 bytes")
    redis.fill(100_000, 300, "third")


def _follows(attached: "subprocess.Popen[bytes]", trace: Path) -> bool:
    """Wait until ptescope follows, which shows in the trace that it begins to write."""
    deadline = time.monotonic() + _SECONDS_TO_FOLLOW
    while attached.poll() is None and not trace.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    return attached.poll() is None


def main() -> int:
    """Returns the exit status of `ptescope attach` or `ptescope report`."""
    ptescope = str(Path(sys.executable).parent / "ptescope")
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    trace, page = _FOLDER / "redis.arrows", _FOLDER / "redis.html"
    trace.unlink(missing_ok=True)
    with private_redis() as redis:
        command = [ptescope, "attach", "-p", str(redis.pid), "-o", str(trace)]
        _say("ptescope attach -p <pid of redis-server> -o redis.arrows")
        attached = subprocess.Popen([*command, *sys.argv[1:]])
        try:
            if _follows(attached, trace):
                _work(redis)
        finally:
            attached.send_signal(signal.SIGINT)
            status = attached.wait()
    if status or not trace.exists():  # another -o was given
        return status
    _say("ptescope report redis.arrows -o redis.html")
    made = subprocess.run([ptescope, "report", str(trace), "-o", str(page), "--force"], check=False)
    if made.returncode == 0:
        _say(f"The page of this run is {page}: open it in a browser")
    return made.returncode


if __name__ == "__main__":
    sys.exit(main())
