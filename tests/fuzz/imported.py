# SPDX-License-Identifier: GPL-2.0-only
"""Fuzz import with texts of all formats: python -m tests.fuzz.imported [-max_total_time=60].

The fuzzer cuts, joins, repeats and changes lines of real texts (tests/shadow/perf_import/golden).
It imports each text and replays the trace. That must end within 5 s and 1 GiB, with a trace and a
report, or with a PtescopeError. The import counts invalid lines and continues.

Needs `pip install 'ptescope[fuzz]'`; arguments are those of libFuzzer.
"""

import sys
from pathlib import Path

import atheris

from shadow.precompile import prepare

with atheris.instrument_imports(include=["shadow"]):
    from shadow.errors import PtescopeError
    from shadow.perf_import import read_recording
    from shadow.report.text import render
    from tests.shadow.trace.crafted import replayed
from tests.fuzz.crafted import LIMITS
from tests.shadow.hostile import is_harmless

_GOLDEN = sorted(Path("tests/shadow/perf_import/golden").glob("*.txt"))
_TEXTS = [path.read_text().splitlines() for path in _GOLDEN]
_PIECES = (
    "0x7fffffffffffffff", "0xffffffffffffffff", "-1", "18446744073709551616", "9" * 30, "0x", "?",
    "(", ")", "[", "]", "=", " = ", ", ", ": ", "/", "|", "<", ">", "<unfinished ...>",
    "<... munmap resumed>) = 0", "MADV_DONTNEED", "PROT_READ|", "/* x */", "[pid  7] ", "7/7",
    "1e9", "0.000", "\u0661", "\x00", "\udcff", "\x1b[2J", "strace: Process 7 attached",
    "{iov_base=NULL, iov_len=", "CPU:0 [LOST 99999999999999999 EVENTS]", "# os release : 6.20.1",
    "# captured on : Fri Dec 31 23:59:59 9999", "clone_flags=10000", "-> 0x0", " " * 300,
)  # fmt: skip


def _line(data: atheris.FuzzedDataProvider, lines: list[str]) -> str:
    line = lines[data.ConsumeIntInRange(0, len(lines) - 1)]
    for _ in range(data.ConsumeIntInRange(0, 3)):
        at = data.ConsumeIntInRange(0, len(line))
        until = at + data.ConsumeIntInRange(0, 12)
        if data.ConsumeBool():
            put = _PIECES[data.ConsumeIntInRange(0, len(_PIECES) - 1)]
        else:
            put = data.ConsumeUnicode(6)
        line = line[:at] + put + line[until:]
    times: int = data.PickValueInList([1, 1, 1, 1, 1, 2, 30])
    return str(line * times)


def _text(data: atheris.FuzzedDataProvider) -> list[str]:
    lines = _TEXTS[data.ConsumeIntInRange(0, len(_TEXTS) - 1)]
    found = []
    while data.remaining_bytes():
        if data.ConsumeIntInRange(0, 30) == 0:
            lines = _TEXTS[data.ConsumeIntInRange(0, len(_TEXTS) - 1)]
        line = _line(data, lines)
        found += [line] * data.PickValueInList([1, 1, 1, 1, 1, 1, 100])
    return found


def _test(raw: bytes) -> None:
    lines = _text(atheris.FuzzedDataProvider(raw))
    try:
        recording = read_recording(lines)
    except PtescopeError:
        return
    assert recording.lines + recording.strange <= len(lines)
    for snapshot in replayed(recording).snapshots():
        assert is_harmless(render(snapshot))


if __name__ == "__main__":
    prepare()
    atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[1:]], _test)
    atheris.Fuzz()
