# SPDX-License-Identifier: GPL-2.0-only
"""A wheel has the machine code of the shadow table, so an installation compiles nothing.

It is made where the build environment has the compiler: `python -m build --no-isolation` with
ptescope's dependencies installed. Otherwise the wheel has none, and the first start compiles.
"""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ("MachineCodeHook",)

_NEEDED = ("numba", "llvmlite", "numpy", "elftools")
_SHIP = "import sys; from shadow.machine_code.make import ship; ship(sys.argv[1])"
_PLACE = "shadow/machine_code/images"


class MachineCodeHook(BuildHookInterface[Any]):
    """Adds the machine code to a wheel, whose name then has the architecture."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make it, unless the installation is editable: its sources change."""
        self._folder = tempfile.mkdtemp(prefix="ptescope-wheel-")
        if version == "editable" or not all(map(importlib.util.find_spec, _NEEDED)):
            return
        subprocess.run([sys.executable, "-c", _SHIP, self._folder], cwd=self.root, check=True)
        build_data["force_include"][self._folder] = _PLACE
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has now."""
        del version, build_data, artifact_path
        shutil.rmtree(Path(self._folder))
