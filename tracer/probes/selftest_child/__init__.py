# SPDX-License-Identifier: GPL-2.0-only
"""The child of the self-test: a program that provokes one event of each source.

It imports nothing but the standard library and `shadow.uapi`, so that it starts quickly and
does little besides what it is for. `__main__` describes what it prints.
"""

__all__ = ()
