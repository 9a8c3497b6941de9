# SPDX-License-Identifier: GPL-2.0-only
"""Runs of one kernel: the workloads with ptescope, and the cost of calls without it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.vm_guests.guest import Guest, GuestError
from tools.vm_guests.own_kernels import built_kernel
from tools.zero_kernel.programs import prepare_programs

__all__ = ("Cost", "Outcome", "costs_of", "outcomes_of")

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 3600.0
_ROUNDS = 300
Outcome = dict[str, dict[str, Any]]
"""What `tools.zero_kernel.guest` said of each workload, and of the kernel."""


@dataclass(frozen=True)
class Cost:
    """What a MADV_DONTNEED and the next fault cost, in instructions."""

    call: int
    fault: int


def _share(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    prepare_programs(folder)
    return folder


def outcomes_of(variant: str, folder: Path, wanted: str = "") -> Outcome:
    """Run the workloads whose name contains `wanted`.

    Raises:
        KernelError: the kernel is not built.
        GuestError: the run failed.
    """
    guest = Guest(
        built_kernel(variant),
        memory="4G",
        share=_share(folder),
    )
    command = [sys.executable, "-m", "tools.zero_kernel.guest", str(folder), wanted]
    done = guest.run(command, _ROOT, timeout=_TIMEOUT)
    if done.status:
        raise GuestError(f"The workloads failed on {variant}: {done.err}")
    lines = [json.loads(line) for line in done.out.splitlines()]
    return {line.pop("name"): line for line in lines}


def costs_of(variant: str, folder: Path) -> dict[tuple[int, int], Cost]:
    """The cost by pages of the call, and the entry that remains (-1: none).

    The clock of the guest counts instructions, so the result does not depend on the host.

    Raises:
        KernelError: the kernel is not built.
        GuestError: the run failed.
    """
    guest = Guest(built_kernel(variant), share=_share(folder), counts=True)
    done = guest.run([str(folder / "look"), str(_ROUNDS)], _ROOT, timeout=_TIMEOUT)
    if done.status:
        raise GuestError(f"The measurement failed on {variant}: {done.err}")
    rows = (tuple(map(int, line.split())) for line in done.out.splitlines())
    return {(pages, remains): Cost(call, fault) for pages, remains, call, fault in rows}
