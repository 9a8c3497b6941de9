# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tracer`: the same as the program `ptescope` (scripts/ptescope)."""

import sys

from tracer import cli, standard_streams

__all__ = ("main",)


def main() -> int:
    """Run the command that the arguments name; returns its exit status."""
    standard_streams.secure()
    try:
        status = cli.main(sys.argv[1:])
    except SystemExit as error:  # argparse, SIGTERM, or a second Ctrl-C
        status = error.code if isinstance(error.code, int) else 0
    return standard_streams.finish(status)


if __name__ == "__main__":
    sys.exit(main())
