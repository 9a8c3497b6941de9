# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs of a guest: busybox, and the modules that mount the host's root.

It mounts the host's root read-only under a tmpfs, so that no write of a guest reaches the host, and
then starts the script that runs the command, or systemd, which starts it.
"""

import lzma
import stat
from collections.abc import Iterable
from pathlib import Path

from shadow.errors import UnsupportedHostError

__all__ = ("CONTROL", "UNIT", "build")

CONTROL = "/mnt"
"""Where the guest mounts the folder with its script and its results."""

UNIT = "guest.service"
"""The unit that runs the script, if systemd is to be the first process."""

_APPLETS = ("sh", "mount", "mkdir", "cat", "cp", "insmod", "ln", "poweroff", "switch_root", "echo")
_INIT = f"""#!/bin/sh
export PATH=/bin
end() {{ echo "vm: $1"; poweroff -f; }}
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
for module in $(cat /modules/order); do insmod /modules/$module || end "no module $module"; done
mkdir -p /lower /upper /new
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose root /lower \\
    || end "no root"
mount -t tmpfs upper /upper; mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new \\
    || end "no overlay"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none control /new{CONTROL} \\
    || end "no control folder"
for folder in dev proc sys; do mount --move /$folder /new/$folder; done
if [ -e /new{CONTROL}/{UNIT} ]; then
    units=/new/etc/systemd/system; mkdir -p $units/multi-user.target.wants
    cp /new{CONTROL}/{UNIT} $units/; ln -s ../{UNIT} $units/multi-user.target.wants/{UNIT}
    exec switch_root /new /lib/systemd/systemd
fi
exec switch_root /new /bin/sh {CONTROL}/stage
"""
_FOLDER, _FILE, _LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777


def _cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in the "newc" format (Documentation/driver-api/early-userspace)."""
    archive = bytearray()
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % number for number in numbers)
        for part in (path, data):
            archive += part
            archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _module(file: Path) -> bytes:
    data = file.read_bytes()
    return lzma.decompress(data) if file.suffix == ".xz" else data


def build(modules: tuple[Path, ...], busybox: Path | None) -> bytes:
    """Build the archive that the kernel unpacks as its initramfs.

    Args:
        modules: the modules, in load order.
        busybox: a static busybox for the guest; None: there is none.

    Raises:
        UnsupportedHostError: there is no busybox.
    """
    if busybox is None:
        raise UnsupportedHostError("busybox is missing: apt-get install busybox-static.")
    entries = [(name, _FOLDER, b"") for name in ("bin", "modules", "dev", "proc", "sys")]
    entries.append(("bin/busybox", _FILE, busybox.read_bytes()))
    entries += [(f"bin/{applet}", _LINK, b"busybox") for applet in _APPLETS]
    names = [file.name.removesuffix(".xz") for file in modules]
    entries += [
        (f"modules/{name}", _FILE, _module(file)) for name, file in zip(names, modules, strict=True)
    ]
    entries.append(("modules/order", _FILE, "\n".join(names).encode()))
    entries.append(("init", _FILE, _INIT.encode()))
    return _cpio(entries)
