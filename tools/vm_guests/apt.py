# SPDX-License-Identifier: GPL-2.0-only
"""apt, for packages that are unpacked and never installed."""

import subprocess
from pathlib import Path

from shadow.errors import PtescopeError

__all__ = ("Apt", "KernelError")

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_FOLDERS = ("lists/partial", "cache/archives/partial", "sources")


class KernelError(PtescopeError):
    """A requested kernel or its root is not available; the message names it."""


class Apt:
    """apt's programs.

    Args:
        options: options of every call; none: the host's own lists.
    """

    def __init__(self, options: tuple[str, ...] = ()) -> None:
        self._options = options

    @classmethod
    def of_suite(cls, suite: str, folder: Path, architecture: str) -> "Apt":
        """apt for another suite on the host's mirror; this does not change the host's lists."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
            capture_output=True,
            text=True,
            check=True,
        )
        mirrors = [line for line in listed.stdout.split() if line.rstrip("/").endswith("/debian")]
        if not mirrors:
            raise KernelError("apt has no Debian mirror here; add one to fetch kernels.")
        for part in _FOLDERS:
            (folder / part).mkdir(parents=True, exist_ok=True)
        source = f"deb [signed-by={_KEYRING}] {mirrors[0]} {suite} main\n"
        (folder / "sources" / "suite.list").write_text(source)
        (folder / "status").touch()  # nothing is installed there
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": folder / "sources",
            "Debug::NoLocking": "1",
        }
        apt = cls(tuple(f"-o{name}={value}" for name, value in settings.items()))
        apt.run("apt-get", "update", "-qq")
        return apt

    def run(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        """Run one of apt's programs; returns its output."""
        command = [program, *self._options, "-oAPT::Sandbox::User=root", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise KernelError(f"{program} {' '.join(arguments)}: {said[0]}")
        return done.stdout
