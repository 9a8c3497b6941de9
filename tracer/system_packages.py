# SPDX-License-Identifier: GPL-2.0-only
"""The packages of distributions that have what Python packages cannot bring."""

import platform

__all__ = ("how_to_install",)

_INSTALL = {
    "debian": "apt-get install",
    "ubuntu": "apt-get install",
    "fedora": "dnf install",
    "arch": "pacman -S",
}
_PACKAGES = {
    "bcc": ("python3-bpfcc", "python3-bpfcc", "python3-bcc", "python-bcc"),
    "headers": ("linux-libc-dev", "linux-libc-dev", "kernel-headers", "linux-api-headers"),
    "libdw": ("libdw1", "libdw1", "elfutils-libs", "libelf"),
}
_NAMES = {"debian": "Debian", "ubuntu": "Ubuntu", "fedora": "Fedora", "arch": "Arch"}


def _distribution() -> str | None:
    """The distribution of this host, or the one that it derives from; None: another one."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return None
    like = (release.get("ID", ""), *release.get("ID_LIKE", "").split())
    return next((name for name in like if name in _INSTALL), None)


def how_to_install(what: str) -> str:
    """The command that installs something here, or those of all known distributions.

    Args:
        what: "bcc", "headers" (the kernel's UAPI headers) or "libdw".
    """
    commands = {
        name: f"{install} {package}"
        for (name, install), package in zip(_INSTALL.items(), _PACKAGES[what], strict=True)
    }
    here = _distribution()
    if here:
        return commands[here]
    by_command: dict[str, list[str]] = {}
    for name, command in commands.items():
        by_command.setdefault(command, []).append(_NAMES[name])
    return "; ".join(f"{' and '.join(names)}: {command}" for command, names in by_command.items())
