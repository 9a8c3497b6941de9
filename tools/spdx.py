# SPDX-License-Identifier: GPL-2.0-only
"""Add the SPDX line to every source file that lacks it.

    python -m tools.spdx            # add it
    python -m tools.spdx --check    # list the files that lack it; status 1 if there are any

The line is the first, or the second after a shebang.
"""

import subprocess
import sys
from pathlib import Path

__all__ = ("IDENTIFIER", "lacking", "with_line")

IDENTIFIER = "SPDX-License-Identifier: GPL-2.0-only"
_ROOT = Path(__file__).parent.parent
_COMMENTS = {".py": "# ", ".sh": "# ", ".toml": "# ", ".yml": "# ", ".yaml": "# ", ".service": "# "}
_COMMENTS |= {".c": "// ", ".h": "// ", ".js": "// "}
_DATA = ("tests/shadow/screens/", "shadow/report/page/static/libraries/")
"""Folders in which files with these suffixes are data, or the sources of others."""


def _comment(path: Path, text: str) -> str | None:
    """The comment sign of this file; None: it is not a source file."""
    if path.suffix in _COMMENTS:
        return _COMMENTS[path.suffix]
    return "# " if not path.suffix and text.startswith("#!") else None


def with_line(path: Path, text: str) -> str:
    """Add the line to the text of a file: first, or second after a shebang."""
    comment = _comment(path, text)
    if comment is None or IDENTIFIER in "".join(text.splitlines(keepends=True)[:2]):
        return text
    line = f"{comment}{IDENTIFIER}\n"
    if not text.startswith("#!"):
        return line + text
    shebang, _, rest = text.partition("\n")
    return f"{shebang}\n{line}{rest}"


def lacking() -> dict[Path, str]:
    """The tracked files that lack the line, each with its text including the line."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = _ROOT / name
        if name.startswith(_DATA) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if (changed := with_line(path, text)) != text:
            found[path] = changed
    return found


def main() -> int:
    """Returns the exit status."""
    found = lacking()
    if sys.argv[1:] == ["--check"]:
        for path in found:
            print(f"{path.relative_to(_ROOT)} has no SPDX line: run python -m tools.spdx")
        return int(bool(found))
    for path, text in found.items():
        path.write_text(text)
    print(f"{len(found)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
