# SPDX-License-Identifier: GPL-2.0-only
"""The version of ptescope: the one place that has it.

pyproject.toml takes it from here, so no program reads the metadata of the installation.
"""

__all__ = ("VERSION",)

VERSION = "0.2.0"
