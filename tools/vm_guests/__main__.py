# SPDX-License-Identifier: GPL-2.0-only
"""./tools/vm KERNEL [OPTIONS] -- COMMAND: run a command under another kernel.

The guest sees the host's files, including this checkout, at the same paths; one of another
architecture has a root of its own, and sees only this checkout. Its writes are
discarded when it ends, except those to --share. The exit status is that of the command, or 125 if
there is no such kernel or the guest dies. `./tools/vm --build zero` builds a kernel of our own (10
minutes of one core, 2 GB in .kernels); afterwards its name stands for it.
"""

import argparse
import os
import sys
from pathlib import Path

from shadow.errors import PtescopeError
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel
from tools.vm_guests.machines import AMD64, MACHINES
from tools.vm_guests.own_kernels import VARIANTS, build_kernel, built_kernel

_NO_STATUS = 125  # as env(1) and docker-run(1) say "I failed, not the command"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/vm", description=__doc__)
    parser.add_argument(
        "kernel",
        nargs="?",
        help=f"a series such as 6.1, 7.x for the newest 7, or {', '.join(VARIANTS)}",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="the command to run")
    parser.add_argument("--build", choices=VARIANTS, help="build this kernel and end")
    parser.add_argument(
        "--levels", type=int, choices=(4, 5), default=4, help="levels of page tables (default: 4)"
    )
    parser.add_argument(
        "--cpus", type=int, default=1, metavar="N", help="processors of the guest (default: 1)"
    )
    parser.add_argument(
        "--arch",
        choices=MACHINES,
        default=AMD64.flavour,
        help="the architecture, and for arm64 the pages (default: %(default)s)",
    )
    parser.add_argument("--memory", default="2G", help="memory of the guest (default: 2G)")
    parser.add_argument(
        "--share", type=Path, metavar="DIR", help="a folder that the guest may write to"
    )
    parser.add_argument("--append", default="", help="more options for the kernel's command line")
    parser.add_argument(
        "--timeout",
        type=float,
        default=300,
        metavar="SECONDS",
        help="end the guest after this time (default: 300)",
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Run one command; returns its exit status."""
    parser = _parser()
    args = parser.parse_args()
    if not args.build and not args.command:
        parser.error("give a kernel and a command, or --build")
    try:
        if args.build:
            print(build_kernel(args.build).image)
            return 0
        if args.share and not args.share.is_dir():
            raise PtescopeError(f"--share: {args.share} is not a folder.")
        guest = Guest(
            built_kernel(args.kernel)
            if args.kernel in VARIANTS
            else get_kernel(args.kernel, MACHINES[args.arch]),
            machine=MACHINES[args.arch],
            levels=args.levels,
            cpus=args.cpus,
            memory=args.memory,
            share=args.share and args.share.resolve(),
            environment={n: v for n, v in os.environ.items() if n.startswith("PYTHON")},
            append=args.append,
        )
        outcome = guest.run(args.command, args.folder, timeout=args.timeout, stream=True)
    except PtescopeError as error:
        print(f"tools/vm: {error}", file=sys.stderr)
        return _NO_STATUS
    print(
        f"tools/vm: {guest.kernel.release}, {guest.levels} levels: status {outcome.status} "
        f"after {outcome.seconds:.1f} s",
        file=sys.stderr,
    )
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
