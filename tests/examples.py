# SPDX-License-Identifier: GPL-2.0-only
"""Examples in docstrings, run as they stand."""

import doctest
from types import ModuleType

__all__ = ("run_examples",)


def run_examples(module: ModuleType, names: set[str], **known: object) -> int:
    """Run the examples of some docstrings.

    Args:
        module: where they are.
        names: of the functions and classes, without the module's.
        known: names that the examples may use, in addition to the module's own.

    Returns:
        How many examples were run.

    Raises:
        AssertionError: one gives something else than it says.
    """
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    known[module.__name__] = module
    report: list[str] = []
    for test in doctest.DocTestFinder().find(module, extraglobs=known):
        if test.name.removeprefix(f"{module.__name__}.") in names:
            runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    return runner.tries
