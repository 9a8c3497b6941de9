# SPDX-License-Identifier: GPL-2.0-only
"""What an administrator does with the installed package, in a guest whose first process is systemd.

Run by the distribution's Python, since the guest has no clone of this repository. It prints a line
of JSON for each check.
"""

import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

_UNIT = "ptescope"
_CONFIG = Path("/etc/ptescope/daemon.toml")
_DROP_INS = Path(f"/etc/systemd/system/{_UNIT}.service.d")
_ADDRESS = "http://127.0.0.1:9467"
_KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
_MEMBER, _STRANGER = "member", "stranger"
_OTHERS = (
    *("/root", "/mnt", "/tmp", "/run", "/var/log/apt*", "/var/log/dpkg.log", "/var/lib/apt*"),
    *("/var/lib/dpkg*", "/var/cache/apt*", "/usr/*/python3*__pycache__*", "/etc/sub?id*"),
    *("/var/log/journal*", "/var/tmp/systemd-private*", "/var/lib/redis*"),
)
_ALTERNATIVES = [word for path in _OTHERS for word in ("-o", "-path", path)][1:]
FILES = ["find", "/", "-xdev", "(", *_ALTERNATIVES, ")", "-prune", "-o", "-print"]
"""Lists all files but those of the package manager, of other services, and of other folders."""
_PATIENCE = 900.0
"""Longest wait in seconds; the guest is emulated, and ten times slower than a machine."""


def _say(check: str, **facts: object) -> None:
    print(json.dumps({"check": check, **facts}), flush=True)


def _run(*words: str, **environment: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return (done.stdout + done.stderr).strip()


def _unit(name: str) -> str:
    return _run("systemctl", "show", _UNIT, "--property", name, "--value")


def _get(path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(_ADDRESS + path, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def _wait(until: Callable[[], bool]) -> float:
    """Wait; returns the seconds, or -1 if it took too long."""
    begin = time.monotonic()
    while time.monotonic() - begin < _PATIENCE:
        if until():
            return round(time.monotonic() - begin, 1)
        time.sleep(0.5)
    return -1


def _healthy() -> bool:
    return _get("/healthz")[0] == 200


def _configure(**options: str) -> None:
    """Set options by lines of their own at the end of the installed file."""
    plain = [line for line in _CONFIG.read_text().splitlines() if line.startswith("#") or not line]
    lines = [f'{name.replace("_", "-")} = "{value}"' for name, value in options.items()]
    _CONFIG.write_text("\n".join([*plain, *lines]) + "\n")


def _drop_in(settings: Mapping[str, str]) -> None:
    _DROP_INS.mkdir(exist_ok=True)
    lines = [f"{name}={value}" for name, value in settings.items()]
    (_DROP_INS / "test.conf").write_text("\n".join(["[Service]", *lines]) + "\n")
    _run("systemctl", "daemon-reload")


def _top(user: str) -> tuple[bool, int, str]:
    """Run `ptescope top` on a terminal: whether it shows Redis, its status, and its last line."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("runuser", ["runuser", "-u", user, "--", "ptescope", "top"])
    seen, typed, deadline = "", False, time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 1 << 16).decode(errors="replace")
            except OSError:  # it has ended
                break
        if "redis-server" in seen and not typed:
            os.write(terminal, b"q")
            typed = True
    _, status = os.waitpid(pid, 0)
    lines = seen.strip().splitlines() or [""]
    return "redis-server" in seen, os.waitstatus_to_exitcode(status), lines[-1][-300:]


def _waste() -> None:
    """A Redis that leaves PTE pages empty: jemalloc purges each large value at once."""
    environment = os.environ | {"MALLOC_CONF": "dirty_decay_ms:0"}
    _run("systemctl", "stop", "redis-server")  # that of the package, with other settings
    subprocess.Popen(
        ["redis-server", "--save", "", "--enable-debug-command", "yes"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _wait(lambda: _run("redis-cli", "ping") == "PONG")
    _run("redis-cli", "debug", "populate", "5000", "key", "60000")
    _run("redis-cli", "flushall")


def _empty_of_redis() -> float:
    text = _get("/metrics")[1]
    found = re.search(r'process_empty_pte_pages\{[^}]*name="redis-server"[^}]*\} (\S+)', text)
    return float(found[1]) if found else 0


def _journal() -> list[str]:
    """What the daemon itself has written."""
    return _run("journalctl", "-q", "-o", "cat", "_COMM=ptescope").splitlines()


def _main_pid() -> int:
    return int(_unit("MainPID"))


def _check_start() -> None:
    _say("before", enabled=_run("systemctl", "is-enabled", _UNIT), active=_unit("ActiveState"))
    said = _run("systemctl", "enable", "--now", _UNIT)
    if _unit("ActiveState") != "active":
        _say("failed", whole=_run("journalctl", "-q", "-u", _UNIT))
    _say("enabled", said=said, state=_unit("ActiveState"), health=_wait(_healthy))
    _say("redis", seconds=_wait(lambda: _empty_of_redis() > 10), empty=_empty_of_redis())
    _say("journal", lines=_journal(), whole=_run("journalctl", "-q", "-u", _UNIT, "-o", "cat"))


def _check_limits() -> None:
    group = Path("/sys/fs/cgroup") / _unit("ControlGroup").lstrip("/")
    names = ("memory.max", "memory.peak", "memory.events", "cpu.max", "pids.max", "pids.peak")
    found = {name: (group / name).read_text() for name in names if (group / name).exists()}
    security = _run("systemd-analyze", "security", f"{_UNIT}.service", "--no-pager")
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", security)
    refused = _unit("MemoryDenyWriteExecute")
    _say("limits", security=score and float(score[1]), **found, **{"writes code": refused})


def _check_groups() -> None:
    for user in (_MEMBER, _STRANGER):
        _run("useradd", "--create-home", user)
    _run("usermod", "-aG", "ptescope", _MEMBER)
    socket = Path("/run/ptescope/daemon.sock")
    _say("socket", mode=oct(socket.stat().st_mode & 0o777), group=socket.group())
    for user in (_MEMBER, _STRANGER):
        shows, status, last = _top(user)
        _say("top", user=user, shows=shows, status=status, last=last)


def _check_kill() -> None:
    before = _main_pid()
    os.kill(before, 9)
    seconds = _wait(lambda: _main_pid() not in (0, before) and _healthy())
    _say("killed", seconds=seconds, restarts=_unit("NRestarts"))


def _check_stop() -> None:
    begin = time.monotonic()
    said = _run("systemctl", "stop", _UNIT)
    seconds = round(time.monotonic() - begin, 2)
    _say("stopped", seconds=seconds, said=said, result=_unit("Result"), state=_unit("ActiveState"))


def _check_watchdog() -> None:
    """Without tracefs, and with kprobes, which can be turned off from outside."""
    _configure(min_vmpte="128K", backend="kprobe")
    for mount in ("/sys/kernel/debug/tracing", "/sys/kernel/tracing"):
        _run("umount", mount)
    mounted = "tracefs" in Path("/proc/mounts").read_text()
    _run("systemctl", "start", _UNIT)
    _say("without tracefs", mounted=mounted, health=_wait(_healthy))
    before = _main_pid()
    _run("mount", "-t", "debugfs", "debug", "/sys/kernel/debug")
    _KPROBES.write_text("0")
    seconds = _wait(lambda: _main_pid() not in (0, before))
    _KPROBES.write_text("1")  # before the new daemon tests its probes
    health = _wait(_healthy)
    said = _run("journalctl", "-q", "-u", _UNIT, "-o", "cat")
    _say("watchdog", seconds=seconds, health=health, said=re.findall(r".*atchdog.*", said))


def _files() -> set[str]:
    return set(_run(*FILES).splitlines())


def _listed(name: str) -> set[str]:
    """The lines of a file that the installation left in /root."""
    return set(Path("/root", name).read_text().splitlines())


def _check_upgrade() -> None:
    _configure(min_vmpte="128K")
    before, config = _main_pid(), _CONFIG.read_text()
    done = subprocess.run(
        ["dpkg", "--force-confold,unsafe-io", "-i", "/root/later.deb"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
    _say(
        "upgraded",
        status=done.returncode,
        said=done.stdout + done.stderr,
        version=_run("dpkg-query", "-W", "-f", "${Version}", "ptescope"),
        kept=_CONFIG.read_text() == config,
        gone=not Path("/usr/share/ptescope/ptescope.rules.yml").exists(),
        restarted=_wait(lambda: _main_pid() not in (0, before)),
        health=_wait(_healthy),
    )


def _check_purge(booted: set[str]) -> None:
    """What a purge leaves of the package and of its service, which ran.

    Args:
        booted: the files when the machine had booted.
    """
    done = subprocess.run(
        ["dpkg", "--purge", "ptescope"], capture_output=True, text=True, check=False
    )
    _run("rm", "-r", str(_DROP_INS))
    for user in (_MEMBER, _STRANGER):
        _run("userdel", "--remove", user)
    others = _listed("before") | (booted - _listed("installed"))
    accounts = set(_run("cat", "/etc/passwd", "/etc/group").splitlines())
    _say(
        "purged",
        status=done.returncode,
        said=done.stdout + done.stderr,
        left=sorted(_files() - others),
        accounts=sorted(accounts - _listed("accounts")),
    )


def main() -> None:
    """Run all checks."""
    booted = _files()
    _drop_in({"WatchdogSec": "20s", "TimeoutStartSec": "15min"})
    _configure(min_vmpte="128K")
    _waste()
    _check_start()
    _check_limits()
    _check_kill()
    _check_stop()
    _check_watchdog()
    _check_groups()
    _check_upgrade()
    _check_purge(booted)
    _say("end", traceback="Traceback" in _run("journalctl", "-q", "-u", _UNIT, "-o", "cat"))


if __name__ == "__main__":
    main()
