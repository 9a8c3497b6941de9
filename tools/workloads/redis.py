# SPDX-License-Identifier: GPL-2.0-only
"""A private redis-server on a Unix socket: started, loaded, ended.

Debian's and Ubuntu's redis-server uses jemalloc.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("Redis", "private_redis")

_START_SECONDS = 20.0
_DELETE = """
for i = ARGV[1], ARGV[2] - 1 do
  if i % ARGV[3] ~= 0 then redis.call('del', KEYS[1] .. ':' .. i) end
end
"""


class Redis:
    """A running server.

    Args:
        pid: its process.
        socket: its Unix socket.
    """

    def __init__(self, pid: int, socket: Path) -> None:
        self.pid = pid
        self.socket = socket

    def command(self, *words: object) -> str:
        """Run one command with redis-cli; returns its output.

        Raises:
            RuntimeError: the server answered with an error.
        """
        done = subprocess.run(
            ["redis-cli", "-e", "-s", str(self.socket), *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"redis-cli {words[0]}: {done.stdout}{done.stderr}".strip())
        return done.stdout.strip()

    def answers(self) -> bool:
        """Whether the server accepts connections and has finished loading."""
        ping = ["redis-cli", "-s", str(self.socket), "PING"]
        return subprocess.run(ping, capture_output=True, check=False).stdout == b"PONG\n"

    def fill(self, keys: int, size: int, prefix: str = "key") -> None:
        """Set `keys` keys to values of `size` bytes."""
        self.command("DEBUG", "POPULATE", keys, prefix, size)

    def delete_most(
        self, keys: int, keep_each: int, prefix: str = "key", step: int = 50000
    ) -> None:
        """Delete all but every `keep_each`-th of the keys that `fill` made."""
        for first in range(0, keys, step):
            last = min(first + step, keys)
            self.command("EVAL", _DELETE, 1, prefix, first, last, keep_each)

    def flush(self) -> None:
        """Delete everything, in the calling thread."""
        self.command("FLUSHALL", "SYNC")


@contextmanager
def private_redis(**environment: str) -> Iterator[Redis]:
    """Run a private redis-server for the block, without persistence.

    Raises:
        RuntimeError: redis-server is not installed or does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="ptescope-redis-") as folder:
        socket = Path(folder) / "socket"
        server = subprocess.Popen(
            [
                program, "--port", "0", "--unixsocket", str(socket), "--dir", folder,
                "--save", "", "--appendonly", "no", "--enable-debug-command", "yes",
            ],
            stdout=subprocess.DEVNULL,
            env=os.environ | environment,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + _START_SECONDS
            redis = Redis(server.pid, socket)
            # The socket is there before the server accepts connections.
            while not redis.answers():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("redis-server did not start")
                time.sleep(0.05)
            yield redis
        finally:
            server.terminate()
            server.wait()
