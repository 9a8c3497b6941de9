# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc on a kernel that frees no PTE page: nothing, or slots mapped again."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.remedy.build import built_patterns, built_remedy
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 300.0


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each run in the guest printed, by its name."""
    folder = tmp_path_factory.mktemp("remedy")
    library, _ = built_remedy(folder), built_patterns(folder)
    guest = Guest(
        get_kernel("6.1"),
        levels=4,
        share=folder,
        environment={"PTESCOPE_REMEDY": "remap"},
    )
    command = [sys.executable, "-m", "tests.vm.remedy", str(folder), library]
    outcome = guest.run(command, _ROOT, timeout=_TIMEOUT)
    assert outcome.status == 0, outcome.err
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    return {line["name"]: line for line in lines}


def test_without_an_option_it_says_why_and_does_nothing(said: dict[str, dict[str, Any]]) -> None:
    assert said["Redis "]["state"] == "kernel_refuses"
    assert said["Redis "]["swept"] == 0
    assert said["Redis "]["empty"] > 0.9 * said["Redis"]["empty"]


def test_remap_frees_the_pte_pages_and_makes_few_mappings(
    said: dict[str, dict[str, Any]],
) -> None:
    plain, remapped = said["Redis"], said["Redis remap"]
    assert plain["empty"] > 100
    assert remapped["state"] == "remap"
    assert remapped["empty"] <= 0.1 * plain["empty"]
    assert remapped["mappings"] <= plain["mappings"] + 20


@pytest.mark.parametrize("name", ["patterns", "patterns, strict accounting"])
def test_remap_loses_no_byte(said: dict[str, dict[str, Any]], name: str) -> None:
    assert said[name]["status"] == 0, said[name]["said"]
