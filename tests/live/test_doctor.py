"""`ptescope doctor` on this host, where everything is there."""

import subprocess
import sys
from pathlib import Path


def test_everything_is_found_and_tried() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ptescope"), "doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("kernel", "bcc", "BTF", "probes", "reader", "pagemap")
    ]
