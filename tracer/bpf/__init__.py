# SPDX-License-Identifier: GPL-2.0-only
"""BPF: the C sources, the code that compiles, loads and attaches them, and BTF."""
