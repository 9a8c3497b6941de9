# SPDX-License-Identifier: GPL-2.0-only
"""Files for `ptescope daemon` as a service, which are installed with the package.

`ptescope daemon --print NAME` prints one of them.
"""

from importlib.resources import files

__all__ = ("SERVICE_FILES", "service_file")

_NAMES = {
    "unit": "ptescope.service",
    "rules": "ptescope.rules.yml",
    "dashboard": "ptescope.dashboard.json",
}
SERVICE_FILES = tuple(_NAMES)
"""The files by name: the systemd unit, the Prometheus alert rules, the Grafana dashboard."""


def service_file(name: str) -> str:
    """The text of one of `SERVICE_FILES`, without its last line break."""
    return files(__name__).joinpath(_NAMES[name]).read_text().removesuffix("\n")
