# SPDX-License-Identifier: GPL-2.0-only
"""Every source file states its licence."""

import shutil
from pathlib import Path

import pytest

from tools.spdx import IDENTIFIER, lacking, with_line

_ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not (_ROOT / ".git").exists() or not shutil.which("git"), reason="not a git checkout"
)
def test_every_source_file_has_the_line() -> None:
    assert not [str(path) for path in lacking()], "run: python -m tools.spdx"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.py", '"""A."""\n', f'# {IDENTIFIER}\n"""A."""\n'),
        ("a.py", "", f"# {IDENTIFIER}\n"),
        ("a.c", "int a;\n", f"// {IDENTIFIER}\nint a;\n"),
        ("a", "#!/bin/sh\ntrue\n", f"#!/bin/sh\n# {IDENTIFIER}\ntrue\n"),
        ("a", "no script\n", "no script\n"),
        ("a.md", "# A\n", "# A\n"),
    ],
)
def test_the_line_is_inserted_in_the_right_place(name: str, before: str, after: str) -> None:
    assert with_line(Path(name), before) == after
    assert with_line(Path(name), after) == after
