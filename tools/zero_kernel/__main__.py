# SPDX-License-Identifier: GPL-2.0-only
"""Boot both kernels, run the same programs, and print the tables: python -m tools.zero_kernel.

./tools/vm --build builds the kernels first. The whole run takes half an hour on two cores.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shadow.errors import PtescopeError
from tools.zero_kernel.run import Outcome, costs_of, outcomes_of
from tools.zero_kernel.tables import tables

_VARIANTS = ("plain", "zero")


def main() -> int:
    """Run, and print the tables as Markdown; returns the exit status."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    with (
        tempfile.TemporaryDirectory(prefix="ptescope-zero-") as name,
        ThreadPoolExecutor(2) as pool,
    ):

        def run(variant: str) -> Outcome:
            return outcomes_of(variant, Path(name) / variant, wanted)

        try:
            plain, zero = pool.map(run, _VARIANTS)
            costs = [costs_of(variant, Path(name) / variant) for variant in _VARIANTS]
        except PtescopeError as error:
            print(f"tools.zero_kernel: {error}", file=sys.stderr)
            return 1
    print(tables(plain, zero, costs[0], costs[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
