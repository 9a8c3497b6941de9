# SPDX-License-Identifier: GPL-2.0-only
"""Advice on shared memory: what it predicts, against VmPTE before and after it is taken."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MIB, _SLOT_MIB, _WITNESS_MIB = 256, 2, 16
_WITNESSES = _MIB // _WITNESS_MIB


@contextmanager
def _emptied() -> Iterator[subprocess.Popen[str]]:
    """A memfd user whose pages are gone, but for one in each 16 MiB."""
    command = [sys.executable, "-m", "tools.workloads.shared", str(_MIB), "punch"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as program:
        assert program.stdin
        assert program.stdout
        try:
            assert program.stdout.readline() == "ready\n"
            program.stdin.write("begin\n")
            assert program.stdout.readline() == "done\n"
            yield program
        finally:
            program.kill()


def _vm_pte_kib(pid: int) -> int:
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmPTE:")
    )
    return int(line.split()[1])


def _finding(pid: int) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "tracer", "advise", "-p", str(pid), "-d", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    (process,) = json.loads(done.stdout)["processes"]
    return next((each for each in process["advice"] if each["rule"] == "shared_emptied"), None)


def test_one_call_over_empty_shared_memory_saves_what_is_predicted_and_loses_no_data() -> None:
    with _emptied() as program:
        assert program.stdin
        assert program.stdout
        before = _vm_pte_kib(program.pid)
        found = _finding(program.pid)
        assert found is not None
        slots = found["slots"]
        least, most = found["effect"]["pte_pages"]
        assert least == most == len(slots)
        # All slots but those of the witnesses; one at an end may lie in part outside.
        expected = _MIB // _SLOT_MIB - _WITNESSES
        assert expected - 2 <= len(slots) <= expected
        for slot in slots:
            program.stdin.write(f"{slot:#x}\n")
            assert int(program.stdout.readline()) == _WITNESSES
        assert before - _vm_pte_kib(program.pid) == 4 * len(slots)
        assert _finding(program.pid) is None
