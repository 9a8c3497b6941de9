# SPDX-License-Identifier: GPL-2.0-only
"""The remedy for jemalloc, compiled once for all tests of it."""

from pathlib import Path

import pytest

from tools.remedy.build import built_patterns, built_remedy


@pytest.fixture(scope="session")
def remedy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remedy")


@pytest.fixture(scope="session")
def remedy_library(remedy_folder: Path) -> str:
    return built_remedy(remedy_folder)


@pytest.fixture(scope="session")
def patterns(remedy_folder: Path) -> str:
    return built_patterns(remedy_folder)
