# SPDX-License-Identifier: GPL-2.0-only
"""The man page and completions, generated from the parsers."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.shell import texts, write

_SCRIPTS = Path(__file__).parents[2] / "scripts"
_COMMANDS = ("attach", "census", "record", "replay", "advise", "daemon", "top", "doctor")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    assert len(write(folder)) == 3
    return folder


def test_the_man_page_has_all_commands(prefix: Path) -> None:
    page = (prefix / "share/man/man1/ptescope.1").read_text()
    assert page.startswith('.TH PTESCOPE "1"')
    for command in _COMMANDS:
        assert f"ptescope {command}" in page
    assert r"\-\-audit" in page


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("att",), "attach"),
        (("attach", "--au"), "--audit"),
        (("replay", "--policy", "pt_"), "pt_r"),
    ],
)
def test_bash_completes(typed: tuple[str, ...], offered: str, prefix: Path) -> None:
    script = prefix / "share/bash-completion/completions/ptescope"
    words = ("ptescope", *typed)
    ask = (
        f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(typed)}; "
        f"COMP_LINE='{' '.join(words)}'; COMP_POINT=${{#COMP_LINE}}; "
        "$(complete -p ptescope | grep -o '_[a-z_]*ptescope[a-z_]*'); echo \"${COMPREPLY[@]}\""
    )
    said = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert offered in said.stdout, said


def test_zsh_gets_all_commands(prefix: Path) -> None:
    text = (prefix / "share/zsh/site-functions/_ptescope").read_text()
    assert text.startswith("#compdef ptescope")
    for command in _COMMANDS:
        assert f"{command}:'" in text


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later versions lay out help differently")
def test_the_files_that_packages_have_are_current() -> None:
    for name, text in texts().items():
        assert (_SCRIPTS / name).read_text() == text, "run: nox -s shell"
