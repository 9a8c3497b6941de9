# SPDX-License-Identifier: GPL-2.0-only
"""The remedy sweeps slots of the size that the running kernel has."""

import subprocess
from pathlib import Path

import pytest

from shadow.geometry import MODELLED

_REMEDY = Path(__file__).parents[2] / "tools" / "remedy"
_MAIN = """
#include <stdio.h>
#include "parts.h"
long sysconf(int name) { return name == _SC_PAGESIZE ? {page} : -1; }
int main(void) {
    remedy_measure_pages();
    printf("%zu %zu", remedy_page, remedy_slot);
}
"""


@pytest.mark.parametrize("page", sorted({each.page for each in MODELLED}))
def test_a_slot_is_that_of_the_page_size(page: int, tmp_path: Path) -> None:
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text("#include <unistd.h>" + _MAIN.replace("{page}", str(page)))
    command = ["gcc", f"-I{_REMEDY}", "-o", str(program), str(source), str(_REMEDY / "kernel.c")]
    subprocess.run(command, check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    slots = {each.slot for each in MODELLED if each.page == page}
    assert [int(number) for number in said.split()] == [page, *slots]
