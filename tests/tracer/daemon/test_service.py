# SPDX-License-Identifier: GPL-2.0-only
"""The systemd unit, alert rules and dashboard: printed, and installed with the wheel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.cli import main
from tracer.daemon import service
from tracer.daemon.service import SERVICE_FILES

_ROOT = Path(__file__).parents[3]
_FOLDER = Path(service.__file__).parent
_BEGINNINGS = {
    "unit": "[Unit]\nDescription=",
    "rules": "groups:\n  - name: ptescope\n",
    "dashboard": '"title": "ptescope"',
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which a wheel of this tree is installed, without what it depends on."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    for command in (
        # hatchling is in the extra "dev".
        [
            *pip,
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "--wheel-dir",
            str(wheels),
            str(_ROOT),
        ],
        [*pip, "install", "--no-deps", "--target", str(target), "--find-links", str(wheels)],
    ):
        last = [str(next(wheels.glob("*.whl")))] if "install" in command else []
        done = subprocess.run([*command, *last], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.mark.parametrize("name", SERVICE_FILES)
def test_the_daemon_prints_each_file_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "--print", name]) == 0
    text = capsys.readouterr().out
    assert _BEGINNINGS[name] in text
    assert text in [path.read_text() for path in _FOLDER.iterdir() if path.is_file()]


def test_the_dashboard_is_json() -> None:
    assert json.loads(service.service_file("dashboard"))["panels"]


def test_every_file_of_the_folder_can_be_printed() -> None:
    files = {path.name for path in _FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    printed = [service.service_file(name) for name in SERVICE_FILES]
    assert len(files) == len(set(printed)) == len(SERVICE_FILES)


@pytest.mark.parametrize("name", SERVICE_FILES)
def test_an_installed_wheel_prints_the_same(name: str, installed: Path) -> None:
    code = (
        "import sys, tracer; from tracer.cli import main; print(tracer.__file__, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit(main(['daemon', '--print', '{name}']))"],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stderr.splitlines()[0]).is_relative_to(installed)
    assert done.stdout == service.service_file(name) + "\n"


def test_an_installed_wheel_has_neither_tools_nor_tests(installed: Path) -> None:
    assert not {"tools", "tests"} & {path.name for path in installed.iterdir()}
