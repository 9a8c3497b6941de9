# SPDX-License-Identifier: GPL-2.0-only
"""Run code of ours in another Python, which finds the same modules.

`-I` keeps out the current folder and the environment: root may run ptescope in a folder where
others can write.
"""

import sys

__all__ = ("isolated_python",)


def isolated_python(code: str, *options: str) -> list[str]:
    """The words of a command; arguments of the program may follow them.

    Args:
        code: the program.
        options: more options of the interpreter.
    """
    paths = [path for path in sys.path if path]  # "" is the current folder
    return [sys.executable, "-I", *options, "-c", f"import sys; sys.path[:] = {paths!r}\n{code}"]
