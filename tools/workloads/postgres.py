# SPDX-License-Identifier: GPL-2.0-only
"""A private PostgreSQL on a Unix socket, under load of pgbench."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("Postgres", "private_postgres")

_START_SECONDS = 30.0
_USER = "postgres"
_AS_USER = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")


def _binaries() -> Path:
    """The folder of the programs: Debian has one for each version, outside PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1].parent


class Postgres:
    """A running server.

    Args:
        pid: the pid of its postmaster.
        binaries: the folder of its programs.
        folder: the folder of its socket.
    """

    def __init__(self, pid: int, binaries: Path, folder: Path) -> None:
        self.pid = pid
        self._binaries, self._folder = binaries, folder

    def _pgbench(self, *arguments: str) -> list[str]:
        return [
            str(self._binaries / "pgbench"), "-h", str(self._folder), "-U", _USER, *arguments,
            "postgres",
        ]  # fmt: skip

    @contextmanager
    def session(self) -> Iterator[subprocess.Popen[str]]:
        """A psql that prints values only, a line each; its backend lives as long."""
        command = [
            str(self._binaries / "psql"),
            *("-h", str(self._folder), "-U", _USER, "-qAtX", "postgres"),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as psql:
            try:
                yield psql
            finally:
                psql.kill()

    def load(self, clients: int, seconds: int) -> subprocess.Popen[bytes]:
        """Start pgbench with this number of clients."""
        subprocess.run(self._pgbench("-i", "-q", "-s", "2"), check=True, capture_output=True)
        return subprocess.Popen(
            self._pgbench("-c", str(clients), "-T", str(seconds)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def private_postgres(**settings: str) -> Iterator[Postgres]:
    """Run a private server for the block. It runs as postgres, since it refuses to run as root.

    Args:
        settings: of the server, by their names.

    Raises:
        RuntimeError: PostgreSQL is not installed or does not start.
    """
    binaries, user = _binaries(), pwd.getpwnam(_USER)
    folder = Path(tempfile.mkdtemp(prefix="ptescope-postgres-"))
    try:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        subprocess.run(
            [*_AS_USER, binaries / "initdb", "-A", "trust", "-N", "-D", data],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        given = {"shared_buffers": "64MB"} | settings
        server = subprocess.Popen(
            [
                *(*_AS_USER, binaries / "postgres", "-D", data, "-k", folder),
                *("-c", "listen_addresses=", "-c", "fsync=off"),
                *(f"--{name}={value}" for name, value in given.items()),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            # The socket is there before the server accepts connections.
            while subprocess.run(
                [binaries / "pg_isready", "-q", "-h", folder], check=False
            ).returncode:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("PostgreSQL did not start")
                time.sleep(0.05)
            yield Postgres(server.pid, binaries, folder)
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
