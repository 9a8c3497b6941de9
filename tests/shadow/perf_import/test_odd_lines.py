# SPDX-License-Identifier: GPL-2.0-only
"""The import counts lines that no kernel prints; hostile lines take no memory."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.errors import PtescopeError
from shadow.perf_import import PerfScript, read_recording
from shadow.precompile import prepare
from tests.shadow.trace.crafted import replayed
from tracer.cli import main

_GOLDEN = Path(__file__).with_name("golden")
_PERF = "  srv  7/7  [000]  1.000000001: "
_FAULT = _PERF + "exceptions:page_fault_user: address=0x7000 ip=0x1 error_code=0x6"
_FTRACE = "  srv-7  (  7) [000] .....  2462.951266: "
_TOUCHED = _FTRACE + "page_fault_user: address=0x7000 ip=0x1 error_code=0x6"
_TRACE = "     0.247 ( 0.016 ms): srv/7 "
_MAPPED = _TRACE + "mmap(len: 8192, prot: READ, flags: PRIVATE) = 0x7fedc2525000"
_HUGE = 1 << 46


@pytest.mark.parametrize(
    "event",
    [
        "syscalls:sys_enter_munmap: ",
        "syscalls:sys_enter_munmap: addr: 0x7f3b97a00000",
        "syscalls:sys_enter_munmap: addr: 0x" + "f" * 40 + ", len: 0x1000",
        "syscalls:sys_enter_mremap: addr: 0x1000, old_len: 0x1000, new_len: 0x1000",
        "syscalls:sys_exit_munmap: ",
        "syscalls:sys_exit_munmap: nothing",
        "syscalls:sys_exit_mmap: 0x" + "f" * 400,
        "exceptions:page_fault_user: no address",
        "exceptions:page_fault_user: address=0x" + "f" * 17 + " ip=0x1 error_code=0x6",
        "exceptions:page_fault_user: address=0x7000 ip=0x1 error_code=0x" + "f" * 20,
        "task:task_newtask: pid=x",
    ],
)
def test_odd_lines_of_perf_script_are_counted(event: str) -> None:
    script = PerfScript([_FAULT, _PERF + event])
    assert script.strange == 1
    assert len(list(script.records())) == 3


@pytest.mark.parametrize(
    "line",
    [
        _FAULT.replace("7/7", "99999999/7"),
        _FAULT.replace("7/7", "7/999999999999"),
        _FAULT.replace("[000]", "[99999]"),
        _FAULT.replace("[000]", "[9999999]"),
        _FAULT.replace("1.000000001", "9" * 12 + ".5"),
        _FAULT.replace("1.000000001", "9" * 300 + ".5"),
        _FAULT.replace("1.000000001", "1"),
        _FAULT.replace("srv", "s" * 200),
        _FAULT.replace("7/7", "\u0667/\u0667\u0667"),
        " " * 2000,
        "x" * 100_000,
        "\x00\udcff",
    ],
)
def test_odd_parts_of_a_line_are_counted(line: str) -> None:
    script = PerfScript([_FAULT, line])
    assert script.strange == bool(line.strip())
    list(script.records())


@pytest.mark.parametrize("process", ["-1/-1", "0/0", "7/-1"])
def test_lines_of_no_process_are_passed_over(process: str) -> None:
    assert PerfScript([_FAULT, _FAULT.replace("7/7", process)]).strange == 0


@pytest.mark.parametrize(
    ("first", "line"),
    [
        (_TOUCHED, _FTRACE + "sys_munmap(addr: 0x7f)"),
        (_TOUCHED, _FTRACE + "sys_munmap(addr: 0x7f, len: y)"),
        (_TOUCHED, _FTRACE + "sys_munmap -> x"),
        (_TOUCHED, _FTRACE.replace("2462.951266", "9" * 40) + "sys_munmap -> 0x0"),
        (_TOUCHED, _FTRACE.replace("[000]", "[000000000000]") + "sys_munmap -> 0x0"),
        (_TOUCHED, "no line of it"),
        (_MAPPED, _TRACE + "munmap(addr: 0x" + "f" * 30 + ", len: 1) = 0"),
        (_MAPPED, _TRACE + "munmap(addr: x, len: 1) = 0"),
        (_MAPPED, _TRACE + "munmap(addr: 0x7fedc2525000, len: 1) = zero"),
        (_MAPPED, _TRACE + "... [continued]: munmap()) = 0"),
        (_MAPPED, _TRACE.replace("0.016", "0.0.1") + "brk() = 0x7fedc2525000"),
        (_MAPPED, "no line of it"),
    ],
)
def test_odd_lines_of_others_are_counted(first: str, line: str) -> None:
    recording = read_recording([first, line])
    assert recording.strange == 1
    list(recording.records())


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    prepare()


def _call(name: str, arguments: str, result: str) -> list[str]:
    return [
        f"{_PERF}syscalls:sys_enter_{name}: {arguments}",
        f"{_PERF}syscalls:sys_exit_{name}: {result}",
    ]


_MAP = _call("mmap", f"addr: 0x0, len: {_HUGE:#x}, prot: 0x3, flags: 0x22", "0x200000")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (_call("mmap", f"addr: 0x0, len: {_HUGE:#x}, prot: 0x3, flags: 0x8022", "0x200000"), 5),
        (_MAP + _call("madvise", f"start: 0x200000, len: {_HUGE:#x}, behavior: 0x17", "0x0"), 5),
        (_MAP + _call("mlock", f"start: 0x200000, len: {_HUGE:#x}", "0x0"), 5),
        (_MAP + _call("mlockall", "flags: 0x1", "0x0"), 5),
        (_MAP + _call("mremap", f"addr: 0x200000, old_len: {1 << 59:#x}, new_len: {1 << 59:#x}, "
                      "flags: 0x1", "0x400000"), 0),
        (_MAP + _call("munmap", "addr: 0xffffffffffffffff, len: 0xffffffffffffffff",
                      "0xffffffffffffffea"), 0),
        (_MAP + _call("madvise", "start: 0xfffffffffffff000, len: 0x1000, behavior: 0x4",
                      "0xfffffffffffffff4"), 0),
        ([_FAULT.replace("0x7000", "0x7fffffffffffffff")], 0),
    ],
    ids=["mmap", "madvise", "mlock", "mlockall", "mremap", "munmap", "kernel address", "fault"],
)  # fmt: skip
def test_a_short_text_takes_little_memory_and_no_time(
    lines: list[str], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, trace = tmp_path / "perf.txt", tmp_path / "t.arrows"
    text.write_text("\n".join([_FAULT, *lines]))
    begin = time.monotonic()
    assert main(["import", str(text), "-o", str(trace)]) == 0
    assert main(["replay", str(trace)]) == status
    assert time.monotonic() - begin < 5
    out, _ = capsys.readouterr()
    assert "srv (pid 7)" in out


_LINES = [
    line for path in sorted(_GOLDEN.glob("*.txt")) for line in path.read_text().splitlines()[::7]
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_LINES), st.integers(0, 200), st.integers(0, 20),
            st.one_of(st.text(max_size=12), st.sampled_from(["0x" + "f" * 16, "-1", "("])),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_no_change_to_real_lines_stops_an_import(
    changes: list[tuple[str, int, int, str]],
) -> None:
    lines = [line[:at] + put + line[at + length :] for line, at, length, put in changes]
    try:
        recording = read_recording(lines)
    except PtescopeError:
        return
    replayed(recording).snapshots()
