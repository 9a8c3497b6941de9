# SPDX-License-Identifier: GPL-2.0-only
"""bcc missing, or another project's module in its place."""

import sys
from types import ModuleType

import pytest

from shadow.errors import UnsupportedHostError
from tracer.bpf.compiler import import_bcc


def test_the_unrelated_bcc_of_pypi_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    impostor = ModuleType("bcc")
    impostor.__file__ = "/somewhere/bcc/__init__.py"
    monkeypatch.setitem(sys.modules, "bcc", impostor)
    with pytest.raises(UnsupportedHostError, match=r"pip uninstall bcc.*python3-bpfcc"):
        import_bcc()


def test_a_missing_bcc_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(UnsupportedHostError, match=r"apt-get install python3-bpfcc"):
        import_bcc()
