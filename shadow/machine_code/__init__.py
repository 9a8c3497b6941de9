# SPDX-License-Identifier: GPL-2.0-only
"""The machine code of the compiled functions: made once, kept in a file, mapped at every start.

A process that only uses it imports `image` and `place`; the compiler (`compiler`, `linker`,
`state_type`) runs in a process of its own, since numba and LLVM take hundreds of MiB.
"""
