# SPDX-License-Identifier: GPL-2.0-only
"""The docs match the code: citations, generated parts, figures, examples."""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow import errors
from shadow.events import Kind
from tests.shadow.trace.traces import write_trace
from tools.figures import FOLDER, run
from tools.reference import PARTS, fill
from tracer.cli import whole_parser

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_SECTION = r"[A-H]\d?"
_CITED = re.compile(
    rf"\bsemantics(?:\.md)?,?\s+({_SECTION})(?:\s+(to|and)\s+({_SECTION}))?"
    r"((?:,\s*|-|\s+and\s+)\d+b?(?:(?:,\s*|-|\s+and\s+)\d+b?)*)?",
    re.I,
)
_FACT = re.compile(r"\banchors,?\s+(\d+)\.(\d+)", re.I)
_MATRIX = re.compile(r"\bvm-matrix,?\s+(\d+)", re.I)


def _sources() -> Iterator[tuple[Path, str]]:
    """The code; comment signs and line breaks are replaced by spaces."""
    for folder in ("shadow", "tracer", "tools", "tests"):
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".c", ".h") and path != Path(__file__):
                yield path, re.sub(r"\s+(?:[#*]|//)?\s*", " ", path.read_text())


def _anchors(page: str) -> set[str]:
    return set(re.findall(r"\{#([\w-]+)\}", (_DOCS / "reference" / page).read_text()))


def _rows(section: str) -> set[str]:
    """The numbers of all experiments in a section."""
    text = (_DOCS / "reference" / "semantics.md").read_text()
    body = text.partition(f"{{#{section.lower()}}}")[2].partition("\n###")[0]
    cells = re.findall(r"^\| ([\d, b]+) \|", body, re.M)
    return {number for cell in cells for number in re.findall(r"\d+b?", cell)}


def test_every_citation_has_a_target() -> None:
    semantics, facts, matrix = map(_anchors, ("semantics.md", "anchors.md", "vm-matrix.md"))
    found, lost = 0, []
    for path, text in _sources():
        for match in _CITED.finditer(text):
            found += 1
            sections = [match[1], *([match[3]] if match[3] else [])]
            lost += [f"{path}: {match[0]}" for name in sections if name.lower() not in semantics]
            cited = re.findall(r"\d+b?", match[4] or "")
            ends = re.findall(r"(\d+)-(\d+)", match[4] or "")
            known = _rows(sections[-1])
            lost += [f"{path}: {match[0]} row {row}" for row in cited if row not in known]
            lost += [f"{path}: {match[0]} range" for low, high in ends if int(low) > int(high)]
        for match in _FACT.finditer(text):
            found += 1
            lost += [] if f"fact-{match[1]}-{match[2]}" in facts else [f"{path}: {match[0]}"]
        for match in _MATRIX.finditer(text):
            found += 1
            lost += [] if f"section-{match[1]}" in matrix else [f"{path}: {match[0]}"]
    assert not lost
    assert found > 10


def test_cited_files_exist() -> None:
    lost = [
        f"{path}: {name}"
        for path, text in _sources()
        for name in re.findall(r"(?<![\w/])(?:docs/)?reference/[\w.-]+\.md", text)
        if not (_ROOT / name).exists()
    ]
    assert not lost


def test_every_generated_part_exists_and_is_used() -> None:
    used = set()
    for page in _DOCS.rglob("*.md"):
        text = page.read_text()
        used |= set(re.findall(r"<!-- generated: ([\w-]+) -->", text))
        assert "<!-- generated" not in fill(text)
    assert used == set(PARTS)


def test_all_commands_options_kinds_and_errors_are_in_the_reference() -> None:
    commands = PARTS["commands"]()
    (subparsers,) = (
        a for a in whole_parser()._actions if isinstance(a, argparse._SubParsersAction)
    )
    for name, parser in subparsers.choices.items():
        assert f"\n## {name}\n" in f"\n{commands}"
        for action in parser._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert f"`{option}" in commands
    kinds = PARTS["event-kinds"]()
    for kind in Kind:
        assert re.search(rf"^\| {kind.value} \| `{kind.name.lower()}` \| \w", kinds, re.M), kind
    statuses = PARTS["exit-statuses"]()
    for error in vars(errors).values():
        if not (isinstance(error, type) and issubclass(error, errors.PtescopeError)):
            continue
        assert f"| {error.status} | `{error.__name__}` |" in statuses


def test_every_figure_states_date_machine_and_command() -> None:
    figures = list(FOLDER.glob("*.md"))
    assert figures
    included = "".join(page.read_text() for page in _DOCS.rglob("*.md"))
    for figure in figures:
        first = figure.read_text().splitlines()[0]
        assert re.fullmatch(r"Measured \d{4}-\d\d-\d\d on .+, by `.+`:", first), figure
        assert f'"figures/{figure.name}"' in included, figure


def test_a_figure_has_the_output_of_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.figures.FOLDER", tmp_path)
    assert run("f", ["echo", "1 ns"]) == 0
    text = (tmp_path / "f.md").read_text()
    assert text.endswith("by `echo '1 ns'`:\n\n```text\n1 ns\n```\n")
    assert run("t", ["printf", "2 s each\\n\\n| a |\\n"]) == 0
    assert (tmp_path / "t.md").read_text().endswith("`:\n\n2 s each\n\n| a |\n")
    assert run("g", ["false"]) == 1
    assert not (tmp_path / "g.md").exists()


@pytest.mark.parametrize("block", [0, 1])
def test_the_examples_that_read_a_trace_run(block: int, tmp_path: Path) -> None:
    write_trace(tmp_path / "redis.arrows")
    text = (_DOCS / "how-to" / "read-a-trace.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.S)[block]
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert re.search(r"len|calls", said.stdout)


def _typed(text: str) -> Iterator[list[str]]:
    """The ptescope command lines of a page, with placeholders filled in."""
    for line in re.findall(r"^(?:[#$] |    )(ptescope .*)$", text, re.M):
        line = re.sub(r"\$\([^)]*\)|\bPID\b", "1", line.replace(" ...", ""))
        _, *arguments = shlex.split(line.removesuffix("&"), comments=True)
        yield [each for each in arguments if not each.startswith(">")]


@pytest.mark.parametrize(
    "page", [_ROOT / "README.md", *sorted(_DOCS.rglob("*.md"))], ids=lambda page: page.name
)
def test_the_command_lines_of_a_page_parse(page: Path) -> None:
    for arguments in _typed(page.read_text()):
        whole_parser().parse_args(arguments)


def test_pages_have_command_lines() -> None:
    """The pattern that finds command lines still works."""
    assert sum(len(list(_typed(page.read_text()))) for page in _DOCS.rglob("*.md")) > 20


def test_readme_has_at_most_150_lines() -> None:
    assert len((_ROOT / "README.md").read_text().splitlines()) <= 150


def test_links_have_targets() -> None:
    """Check the links of files that mkdocs does not check."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)", (_ROOT / name).read_text()):
            assert link.startswith("https://") or (_ROOT / link).exists(), (name, link)
