# SPDX-License-Identifier: GPL-2.0-only
"""The tracepoint back end with tracefs, and without it, as on a freshly booted machine."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

_UNMOUNT = (
    "for at in /sys/kernel/tracing /sys/kernel/debug/tracing; do "
    "while mountpoint -q $at; do umount $at; done; done"
)
_MOUNT = f"{_UNMOUNT}; mount -t tracefs tracefs /sys/kernel/tracing"
_READ_ONLY = f"{_UNMOUNT}; mount -o remount,bind,ro /sys"
_RUN = """
cat /proc/self/mountinfo >"$1"
shift
"$@"
status=$?
cat /proc/self/mountinfo >&2
exit $status
"""


@pytest.mark.parametrize("prepare", [_UNMOUNT, _MOUNT, _READ_ONLY])
def test_tracepoints_are_attached_and_nothing_stays_mounted(
    tmp_path_factory: pytest.TempPathFactory, prepare: str
) -> None:
    before = tmp_path_factory.mktemp("mounts") / "before"
    doctor = (sys.executable, "-m", "tracer", "doctor", "--backend", "tracepoint")
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{prepare}; {_RUN}", "sh", before, *doctor],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    taken = next(line for line in said.stdout.splitlines() if line.split()[0] == "tracepoint")
    assert taken.split(None, 1)[1].split(", ")[0] == "madvise", said.stdout
    assert said.stderr.endswith(before.read_text())
