# SPDX-License-Identifier: GPL-2.0-only
"""The allocators in the images of real programs; see `tools.corpus`."""

import re

import pytest

from tools.corpus import (
    CORPUS,
    LARGE,
    PROGRAMS,
    UPSTREAM,
    Holds,
    Program,
)
from tracer.allocator.build import Build
from tracer.allocator.elf_image import Image
from tracer.allocator.image_scan import read_facts

_FETCHED = [program for program in LARGE if (CORPUS / program.package).exists()]


def _agrees(build: Build, holds: Holds, program: Program) -> bool:
    if holds.version is None:
        version = build.version is None
    elif holds.version == UPSTREAM:
        version = build.version == program.upstream
    else:
        version = re.fullmatch(holds.version, build.version or "") is not None
    return (
        version
        and build.name == holds.name
        and build.prefix == holds.prefix
        and (not holds.variables or any(name in build.variables for name in holds.variables))
        and (holds.live is None or holds.live in build.places)
    )


@pytest.mark.parametrize("program", [*PROGRAMS, *_FETCHED], ids=lambda program: program.file)
def test_the_allocators_in_a_real_image_are_found(program: Program) -> None:
    folder = CORPUS / program.package
    assert folder.exists(), "the program is missing; run .venv/bin/python -m tools.fetch"
    with Image(str(program.path)) as image:
        builds = read_facts(image).builds
    assert len(builds) == len(program.holds), builds
    for build, holds in zip(builds, program.holds, strict=True):
        assert _agrees(build, holds, program), build


def test_facts_missing_from_a_stripped_image_are_listed_as_unknown() -> None:
    mold = next(program for program in PROGRAMS if program.package == "mold")
    with Image(str(mold.path)) as image:
        (build,) = read_facts(image).builds
    assert build.version is None
    assert any("version" in sentence for sentence in build.unknown)
    assert any("live options" in sentence for sentence in build.unknown)


def test_a_version_is_known_or_listed_as_unknown() -> None:
    for program in PROGRAMS:
        with Image(str(program.path)) as image:
            for build in read_facts(image).builds:
                listed = any("version" in sentence for sentence in build.unknown)
                assert (build.version is None) == listed
