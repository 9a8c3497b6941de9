# SPDX-License-Identifier: GPL-2.0-only
"""Write the man page and shell completions of ptescope from its argument parsers.

    python -m tools.shell PREFIX

writes PREFIX/share/man/man1/ptescope.1, and completions where bash and zsh look for them below
PREFIX. Packages have the files in scripts/: write them again after a change of an option, with
Python 3.11, because later ones lay out help in another way.
"""

import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from shadow.version import VERSION
from tracer.cli import whole_parser

__all__ = ("texts", "write")


def _man_page() -> str:
    page = Manpage(whole_parser())
    page.description = "which PTE pages of a process map nothing, and what to do"
    page.manual = "ptescope manual"
    page.source, page.date = f"ptescope {VERSION}", ""  # the same files whenever they are written
    return str(page)


def texts() -> dict[str, str]:
    """The text of each file, by its path below a prefix."""
    return {
        "share/man/man1/ptescope.1": _man_page(),
        "share/bash-completion/completions/ptescope": shtab.complete(whole_parser(), "bash"),
        "share/zsh/site-functions/_ptescope": shtab.complete(whole_parser(), "zsh"),
    }


def write(prefix: Path) -> list[Path]:
    """Write all files below `prefix`; returns their paths."""
    files = []
    for name, text in texts().items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        files.append(path)
    return files


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.shell PREFIX")
    for written in write(Path(sys.argv[1])):
        print(written)
