# SPDX-License-Identifier: GPL-2.0-only
"""BPF: the C sources, what compiles, loads and attaches them, and the kernel's BTF."""
