# SPDX-License-Identifier: GPL-2.0-only
"""Messages name the package of the distribution that ptescope runs on."""

import platform

import pytest

from shadow.errors import UnsupportedHostError
from tracer.bpf import compiler
from tracer.system_packages import how_to_install


@pytest.mark.parametrize(
    ("release", "what", "command"),
    [
        ({"ID": "debian"}, "bcc", "apt-get install python3-bpfcc"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "headers", "apt-get install linux-libc-dev"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "libdw", "apt-get install libdw1"),
        ({"ID": "fedora"}, "bcc", "dnf install python3-bcc"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "libdw", "dnf install elfutils-libs"),
        ({"ID": "arch"}, "bcc", "pacman -S python-bcc"),
        ({"ID": "manjaro", "ID_LIKE": "arch"}, "headers", "pacman -S linux-api-headers"),
    ],
)
def test_the_command_is_that_of_the_distribution(
    release: dict[str, str], what: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert how_to_install(what) == command


@pytest.mark.parametrize("release", [{"ID": "void"}, {}, None])
def test_elsewhere_all_are_named(
    release: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> dict[str, str]:
        if release is None:
            raise OSError("no os-release")
        return release

    monkeypatch.setattr(platform, "freedesktop_os_release", read)
    said = how_to_install("bcc")
    assert said == (
        "Debian and Ubuntu: apt-get install python3-bpfcc; Fedora: dnf install python3-bcc; "
        "Arch: pacman -S python-bcc"
    )


def test_missing_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora"})
    monkeypatch.setattr(compiler, "Path", lambda _: _Nowhere())
    with pytest.raises(UnsupportedHostError, match="dnf install kernel-headers"):
        compiler.uapi_folders()


class _Nowhere:
    """A path at which nothing exists."""

    def __truediv__(self, _: str) -> "_Nowhere":
        return self

    def exists(self) -> bool:
        return False
