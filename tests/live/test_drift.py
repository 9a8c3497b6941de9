# SPDX-License-Identifier: GPL-2.0-only
"""Changes of page tables without events show in VmPTE and RSS, and lead to a reading.

Another process makes the changes through /proc/PID/mem and the mapped file, so the followed
process has no events of them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shadow.precompile import prepare
from shadow.snapshot import Snapshot
from tests.live.actor import SLOT
from tests.live.attached import attached, truth
from tools.workloads.victim import SLOTS, Victim, victim
from tracer.census import open_reader
from tracer.daemon.discovery import Selection
from tracer.daemon.host import Host
from tracer.daemon.limits import Limits
from tracer.kernel import kernel_facts
from tracer.probes.stream import Probes
from tracer.procfs import vm_pte_kib

pytestmark = pytest.mark.alone

_PTESCOPE = str(Path(sys.executable).parent / "ptescope")
_SECONDS = 8.0
"""Long enough for a busy machine; `tools.bench.drift` checks the limit of 2 s."""


@pytest.fixture(params=[False, True], ids=["idle", "busy"], name="victim")
def _victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    with victim(busy=request.param) as process:
        yield process


def _until(
    step: Callable[[], object], known: Callable[[], bool], seconds: float = _SECONDS
) -> float:
    """Seconds until the condition is true.

    Raises:
        AssertionError: the condition stays false for too long.
    """
    begin = time.monotonic()
    while not known():
        assert time.monotonic() - begin < seconds
        step()
        time.sleep(0.02)
    return time.monotonic() - begin


def _for(step: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()
        time.sleep(0.02)


def _slots(found: Snapshot, victim: Victim) -> int:
    """Number of slots of the mapping with an empty PTE page."""
    assert found.empty_slots is not None
    inside = range(victim.address, victim.address + SLOTS * SLOT)
    return sum(slot in inside for slot in found.empty_slots)


@pytest.mark.parametrize("exact", [True, False])
def test_a_session_reads_again_within_two_seconds(victim: Victim, exact: bool) -> None:
    with attached(victim.pid, exact=exact) as session:
        _for(session.pump, 1.0)
        before = session.pte_pages, session.empty
        victim.populate(range(SLOTS))
        _until(session.pump, lambda: session.pte_pages >= before[0] + SLOTS - 1)
        _for(session.pump, 1.0)
        victim.empty()
        _until(session.pump, lambda: session.empty >= before[1] + SLOTS - 1)
        assert session.audits.runs == 0
        if exact:
            assert "unknown" not in session.audits.empty_causes
            assert session.audits.empty_causes["shared file mapping"] >= SLOTS - 1


def test_drift_of_vm_pte_alone_leads_to_a_reading(victim: Victim) -> None:
    """Memory is populated and emptied between two looks, so RSS is unchanged."""
    with attached(victim.pid) as session:
        _for(session.pump, 1.0)
        victim.populate(range(SLOTS))
        victim.empty()
        _until(session.pump, lambda: _slots(session.snapshot(slots=True), victim) >= SLOTS - 1)


def test_drift_of_a_few_entries_leads_to_a_reading_of_an_idle_process(victim: Victim) -> None:
    with attached(victim.pid) as session:
        victim.populate(range(SLOTS))
        _for(session.pump, 2.0)
        quiet = session.events
        hole = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
        subprocess.run(
            ["fallocate", "-p", "-o", "0", "-l", str(4 * SLOT), str(victim.path)], check=True
        )
        assert hole
        _for(session.pump, _SECONDS)
        if session.events == quiet:
            assert _slots(session.snapshot(slots=True), victim) >= 3


def test_the_daemon_shows_current_numbers(victim: Victim) -> None:
    kernel = kernel_facts()
    prepare()
    probes, reader = Probes(geometry=kernel.geometry), open_reader(kernel.geometry)
    selection = Selection(min_vmpte_kib=16, names=("drift-victim",))
    host = Host(probes, kernel, reader, selection=selection, limits=Limits(8 << 30, 2.0))
    try:
        _until(host.step, lambda: victim.pid in host.sessions, 60)
        _for(host.step, 3.0)
        session = host.sessions[victim.pid]
        before = session.pte_pages
        victim.populate(range(SLOTS))
        shown = {process.pid: process for process in host.view().processes}[victim.pid]
        # A busy victim frees a PTE page and makes it again, so the two readings may differ by it.
        assert abs(shown.vm_pte_kib - vm_pte_kib(victim.pid)) <= 4
        assert shown.snapshot is not None
        assert shown.snapshot.now.vm_pte_kib == shown.vm_pte_kib
        _until(host.step, lambda: session.pte_pages >= before + SLOTS - 1)
        _for(host.step, 1.0)
        victim.empty()
        _until(host.step, lambda: session.empty >= SLOTS - 1)
    finally:
        host.close()
        reader.close()
        probes.close()


@pytest.mark.parametrize("command", ["attach", "record", "advise"])
def test_commands_notice_drift_before_they_end(
    victim: Victim, command: str, tmp_path: Path
) -> None:
    """They end two seconds after the change; the trace has the time of the reading."""
    trace = tmp_path / "drift.arrows"
    arguments = [_PTESCOPE, command, "-p", str(victim.pid), "-d", "6"]
    arguments += [] if command == "advise" else ["-o", str(trace)]
    with subprocess.Popen(
        [*arguments, *["--json"] * (command != "record")], stdout=subprocess.PIPE, text=True
    ) as program:
        time.sleep(3)
        victim.populate(range(SLOTS))
        time.sleep(1)
        victim.empty()
        program.wait(30)
        assert program.stdout
        out = program.stdout.read()
    assert program.returncode == 0
    if command != "record":
        (process,) = json.loads(out)["processes"]
        assert process["audit"]["empty_causes"].get("unknown", 0) == 0
        assert process["now"]["empty"] >= SLOTS - 1
    if command != "advise":
        done = subprocess.run(
            [_PTESCOPE, "replay", "--json", "--at", "5.5", str(trace)],
            capture_output=True,
            text=True,
            check=True,
        )
        (process,) = json.loads(done.stdout)["processes"]
        assert process["now"]["empty"] >= SLOTS - 1
        assert process["now"]["vm_pte_kib"] == process["now"]["vm_pte_predicted_kib"]
        assert process["audit"]["runs"] == 0


def test_the_shadow_equals_the_page_tables_after_the_reading(victim: Victim) -> None:
    with attached(victim.pid) as session:
        victim.populate(range(0, SLOTS, 2), pages=3)
        _for(session.pump, _SECONDS)
        known = truth(victim.pid)
        found = session.snapshot(slots=True)
        inside = range(victim.address, victim.address + SLOTS * SLOT)
        pages = session.table.pages().entries_by_slot()
        assert sum(refs for slot, refs in pages.items() if slot in inside) >= 3 * SLOTS // 2 - 3
        assert abs(found.now.pte_pages - known.pte_pages) <= 2  # the process faults there meanwhile
