# SPDX-License-Identifier: GPL-2.0-only
"""The child of the self-test: a program that provokes one event of each source.

It imports only the standard library and `shadow.uapi`, so that it starts quickly and makes few
other events. `__main__` describes its output.
"""

__all__ = ()
