# SPDX-License-Identifier: GPL-2.0-only
"""One run of a guest: QEMU without KVM, one command, its output and its status.

Emulation uses a core and is about ten times slower than the host, so measurements in a guest say
nothing about the cost of ptescope. The guest has one virtual CPU unless the caller asks for more:
with two that run at once, 6.18 died at boot in 2 of 35 tries under QEMU 7.2 (text patching).
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from shadow.errors import PtescopeError, UnsupportedHostError
from tools.vm_guests.initramfs import CONTROL, UNIT, build
from tools.vm_guests.kernels import KERNELS, GuestKernel
from tools.vm_guests.machine_code import put_machine_code
from tools.vm_guests.machines import AMD64, Machine
from tools.vm_guests.root import get_root

__all__ = ("Guest", "GuestError", "GuestResult")

_POLL_SECONDS = 0.1
_CONSOLE_LINES = 30
# The guest has its own /run and /dev/shm, because the host's belong to the host's processes.
_STAGE = """
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
for folder in /dev/shm /run; do mount -t tmpfs tmp $folder; done
mount -t tracefs trace /sys/kernel/tracing; mount -t debugfs debug /sys/kernel/debug
mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security
ln -sf /proc/self/fd /dev/fd
busybox ip link set lo up
{mounts}
: >{control}/started
( cd {folder} && exec env -i {environment} {command} ) \\
    </dev/null >{control}/out 2>{control}/err
echo $? >{control}/status.new; mv {control}/status.new {control}/status
sync
echo o >/proc/sysrq-trigger; sleep 60
"""
_MOUNT = """
mkdir -p {path}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,{options} {tag} {path}
"""
_CHECKOUT = Path(__file__).parents[2]


_SYSTEMD_STAGE = """
: >{control}/started
( cd {folder} && exec env -i {environment} {command} ) \\
    </dev/null >{control}/out 2>{control}/err
echo $? >{control}/status.new; mv {control}/status.new {control}/status
sync
echo o >/proc/sysrq-trigger
"""
_SYSTEMD_UNIT = f"""
[Unit]
Description=the command of the guest
After=basic.target
[Service]
Type=simple
ExecStart=/bin/sh {CONTROL}/stage
TimeoutSec=infinity
"""


class GuestError(PtescopeError):
    """A guest ended without the status of its command; the message has the end of its console."""


@dataclass(frozen=True)
class GuestResult:
    """What a command in a guest did.

    Attributes:
        status: its exit status.
        out: its standard output.
        err: its standard error.
        seconds: the time from the start of QEMU to its end.
    """

    status: int
    out: str
    err: str
    seconds: float


class _Tail:
    """Copies a growing file to another as it grows."""

    def __init__(self, path: Path, to: BinaryIO | None) -> None:
        self._path, self._to = path, to
        self._copied = 0

    def follow(self) -> None:
        if self._to is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._copied)
            self._copied += self._to.write(file.read())
        self._to.flush()


@dataclass(frozen=True)
class Guest:
    """A machine with the files of the host, or of a root folder.

    Attributes:
        kernel: the kernel to boot.
        machine: its architecture; with a root of its own, the guest sees this checkout and
            `share`, and nothing else of the host.
        levels: levels of its page tables, 4 or 5, on x86-64.
        cpus: number of its CPUs.
        memory: memory size, in QEMU's notation.
        share: a folder of the host that the guest may write to, at the same path.
        environment: environment of the command.
        append: more options for the kernel's command line.
        root: the folder of the host that is the guest's root; the guest sees no other files.
        systemd: whether systemd of that root is the first process, and starts the command.
        counts: whether the clock of the guest counts instructions, a ns each.
    """

    kernel: GuestKernel
    machine: Machine = AMD64
    levels: int = 4
    cpus: int = 1
    memory: str = "2G"
    share: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    append: str = ""
    root: Path = Path("/")
    systemd: bool = False
    counts: bool = False

    def _arguments(self, control: Path) -> list[str]:
        root = get_root(KERNELS, self.machine) if self.machine.root else self.root
        folders = {"root": (root, ",readonly=on,multidevs=remap"), "control": (control, "")}
        folders |= {tag: (path, ",multidevs=remap") for tag, (path, _) in self._mounts().items()}
        shared = []
        for tag, (path, options) in folders.items():
            shared += ["-fsdev", f"local,id={tag},path={path},security_model=none{options}"]
            shared += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        machine = self.machine
        line = f"console={machine.console} panic=-1 mitigations=off quiet {self.append}"
        return [
            *(machine.qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", machine.board, "-accel", "tcg,tb-size=512", "-smp", str(self.cpus)),
            *("-cpu", machine.cpu_with(self.levels)),
            *("-m", self.memory, "-serial", f"file:{control / 'console'}"),
            *("-kernel", str(self.kernel.image), "-initrd", str(control / "initramfs")),
            *("-append", line, *shared),
            *(["-icount", "shift=0,sleep=off"] if self.counts else []),
        ]

    def _mounts(self) -> dict[str, tuple[Path, str]]:
        """The folders of the host to mount at the same paths, and their options."""
        mounts = {"share": (self.share, "cache=none")} if self.share else {}
        if self.machine.root:
            mounts["checkout"] = _CHECKOUT, "ro,cache=loose"
            mounts["cache"] = self._cache(), "cache=none"
        return mounts

    def _cache(self) -> Path:
        """A folder of the host for compiled code, which guests of one architecture share."""
        cache = KERNELS / f"cache-{self.machine.debian}"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_machine_code(cache, self.machine)
        return cache.resolve()

    def _stage(self, command: list[str], folder: Path) -> str:
        variables = {"HOME": str(Path.home()), "LANG": "C.UTF-8", "TERM": "dumb"}
        if self.machine.root:
            variables |= {"PYTHONPATH": str(_CHECKOUT), "PTESCOPE_CACHE": str(self._cache())}
        variables |= dict(self.machine.environment) | dict(self.environment)
        mounts = "".join(
            _MOUNT.format(tag=tag, path=shlex.quote(str(path)), options=options)
            for tag, (path, options) in self._mounts().items()
        )
        stage = _SYSTEMD_STAGE if self.systemd else _STAGE
        return f"PATH={shlex.quote(variables['PATH'])}" + stage.format(
            control=CONTROL,
            folder=shlex.quote(str(folder)),
            environment=shlex.join(f"{name}={value}" for name, value in variables.items()),
            command=shlex.join(command),
            mounts=mounts,
        )

    def run(
        self, command: list[str], folder: Path, *, timeout: float, stream: bool = False
    ) -> GuestResult:
        """Boot, run a command as root, and power off.

        Args:
            command: its words; no shell interprets them.
            folder: its working folder, a folder of the host.
            timeout: end QEMU after this number of seconds.
            stream: whether to copy its output to stdout and stderr as it arrives.

        Raises:
            GuestError: the command did not end in time, or the guest died.
            UnsupportedHostError: QEMU or busybox is missing.
        """
        machine = self.machine
        if shutil.which(machine.qemu) is None:
            raise UnsupportedHostError(
                f"{machine.qemu} is missing: apt-get install {machine.package}."
            )
        with tempfile.TemporaryDirectory(prefix="ptescope-vm-") as name:
            control = Path(name)
            (control / "initramfs").write_bytes(build(self.kernel.modules, self._busybox()))
            (control / "stage").write_text(self._stage(command, folder))
            if self.systemd:
                (control / UNIT).write_text(_SYSTEMD_UNIT)
            tails = [
                _Tail(control / "out", sys.stdout.buffer if stream else None),
                _Tail(control / "err", sys.stderr.buffer if stream else None),
            ]

            def follow() -> None:
                for tail in tails:
                    tail.follow()

            seconds = self._boot(control, timeout, follow)
            status = control / "status"
            if not status.exists():
                raise GuestError(self._last_words(control, seconds, timeout))
            out, err = ((control / one).read_text(errors="replace") for one in ("out", "err"))
            return GuestResult(int(status.read_text()), out, err, seconds)

    def _busybox(self) -> Path | None:
        """A busybox for the guest's architecture."""
        if self.machine.root:
            return get_root(KERNELS, self.machine) / "bin" / "busybox"
        found = shutil.which("busybox")
        return Path(found) if found else None

    def _boot(self, control: Path, timeout: float, follow: Callable[[], None]) -> float:
        """Boot; returns the seconds until QEMU ended or was ended."""
        begin = time.monotonic()
        qemu = subprocess.Popen(self._arguments(control), stdin=subprocess.DEVNULL)
        try:
            while qemu.poll() is None and time.monotonic() - begin < timeout:
                follow()
                time.sleep(_POLL_SECONDS)
        finally:
            qemu.kill()
            qemu.wait()
        follow()
        return time.monotonic() - begin

    def _last_words(self, control: Path, seconds: float, timeout: float) -> str:
        console = control / "console"
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        where = "while its command ran" if (control / "started").exists() else "at boot"
        what = f"did not end in {timeout:.0f} s" if seconds >= timeout else "died"
        said = "\n".join(lines[-_CONSOLE_LINES:]) or "nothing"
        return f"The guest with kernel {self.kernel.release} {what}, {where}. Its console:\n{said}"
