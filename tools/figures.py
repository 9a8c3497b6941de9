# SPDX-License-Identifier: GPL-2.0-only
"""Run a command that measures something, and keep its output for the docs.

    python -m tools.figures NAME COMMAND ...

writes docs/figures/NAME.md with the date, the machine, the command, and its output. The pages of
docs/ include these files, so each figure is in one place and states its origin.
"""

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

__all__ = ("FOLDER", "figure", "machine", "run")

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
"""The folder of the figures."""


def machine() -> str:
    """The processor, the number of CPUs, and the kernel."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    model = models[0].strip() if models else platform.machine()
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def figure(output: str, *, date: str, where: str, command: str) -> str:
    """The text of a figure: Markdown tables unchanged, other output as a code block.

    Args:
        output: the output of the command.
        date: the date, YYYY-MM-DD.
        where: the machine.
        command: the command.
    """
    body = output.strip("\n")
    if "\n|" not in f"\n{body}":
        body = f"```text\n{body}\n```"
    return f"Measured {date} on {where}, by `{command}`:\n\n{body}\n"


def run(name: str, command: list[str]) -> int:
    """Run a command and write its figure if it succeeds; returns its exit status."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        text = figure(
            done.stdout,
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            where=machine(),
            command=shlex.join(command),
        )
        (FOLDER / f"{name}.md").write_text(text)
    return done.returncode


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m tools.figures NAME COMMAND ...")
    sys.exit(run(sys.argv[1], sys.argv[2:]))
