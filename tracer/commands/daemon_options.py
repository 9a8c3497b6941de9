# SPDX-License-Identifier: GPL-2.0-only
"""The options of `ptescope daemon` that `top` does not share."""

from argparse import ArgumentParser
from pathlib import Path

from tracer.commands.argument_types import address, natural, seconds, size
from tracer.daemon.service import SERVICE_FILES

__all__ = ("CONFIG", "CONFIG_FILE", "NOT_IN_CONFIG", "add_daemon_options")

CONFIG_FILE = Path("/etc/ptescope/daemon.toml")
"""The configuration file, if it exists and no other is named."""
CONFIG = "config"
"""`--print` takes this name in addition to those of `SERVICE_FILES`."""
NOT_IN_CONFIG = ("config", "print")
"""Options that a configuration file may not set."""
_LISTEN = "127.0.0.1:9467"


def add_daemon_options(parser: ArgumentParser) -> None:
    """Declare the options."""
    metrics = parser.add_argument_group("metrics")
    metrics.add_argument(
        "--listen", type=address, default=_LISTEN, metavar="HOST:PORT",
        help=f"serve the live page, /metrics and /healthz here (default: {_LISTEN})",
    )  # fmt: skip
    metrics.add_argument(
        "--top", type=natural, default=20, metavar="N",
        help="serve separate metrics for the N largest processes and cgroups (default: 20)",
    )  # fmt: skip
    metrics.add_argument(
        "--socket", type=Path, metavar="PATH",
        help="serve 'ptescope top' of the daemon's group on this socket (default: of no group)",
    )  # fmt: skip
    traces = parser.add_argument_group("traces and log")
    traces.add_argument(
        "--record-dir", type=Path, metavar="DIR", help="write traces to this folder"
    )
    traces.add_argument(
        "--record-size", type=size, default=256 << 20, metavar="SIZE",
        help="start a new trace once one reaches this size (default: 256M)",
    )  # fmt: skip
    traces.add_argument(
        "--record-keep", type=natural, default=8, metavar="N",
        help="keep N traces, including the current one (default: 8)",
    )  # fmt: skip
    traces.add_argument(
        "--log-file", type=Path, metavar="FILE",
        help="append the log to this file instead of writing it to stderr",
    )  # fmt: skip
    end = parser.add_argument_group("end")
    end.add_argument(
        "-d", "--duration", type=seconds, metavar="SECONDS", help="stop after this time"
    )
    end.add_argument(
        "--json", action="store_true",
        help="audit all processes at the end, and print them as JSON (schema 1)",
    )  # fmt: skip
    service = parser.add_argument_group("service")
    service.add_argument(
        "--config", type=Path, metavar="FILE",
        help="read options from this TOML file; flags win "
        f"(default: {CONFIG_FILE}, if it exists)",
    )  # fmt: skip
    service.add_argument(
        "--print", choices=(*SERVICE_FILES, CONFIG),
        help="print a file for running ptescope as a service, and exit: unit (systemd), "
        "rules (Prometheus alerts), dashboard (Grafana) or config (every option)",
    )  # fmt: skip
