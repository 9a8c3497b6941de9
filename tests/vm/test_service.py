# SPDX-License-Identifier: GPL-2.0-only
"""The Debian package under a real systemd: a guest whose first process it is.

This takes a quarter of an hour, because it builds the package in a bare root, installs it in
another, and starts the daemon four times in an emulated machine. So it runs only with --package;
`./tools/test --package` passes that on.
"""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shadow.version import VERSION
from tests.install.package import kept_root, package
from tests.vm.service_guest import FILES
from tools.vm_guests.guest import Guest
from tools.vm_guests.kernels import get_kernel

_TIMEOUT = 3000.0
_NEEDED = "systemd systemd-sysv redis-server libjemalloc2 libdw1"
_LOWEST_EXPOSURE = 3.0
Said = dict[str, list[dict[str, Any]]]
_INSTALL = f"""
export DEBIAN_FRONTEND=noninteractive
package=$(echo /mnt/ptescope_*~debian12_amd64.deb)
outside() {{ {shlex.join(FILES)} | sort; }}
apt-get update -qq
apt-get install -qq -y --no-install-recommends {_NEEDED}
apt-get install -qq -y --no-install-recommends $(dpkg-deb -f $package Depends |
    tr , '\\n' | sed 's/[(|].*//')
outside >/root/before
cat /etc/passwd /etc/group >/root/accounts
apt-get install -qq -y --no-install-recommends $package
ptescope --version
stat -c '%n %U:%G %a' /var/cache/ptescope /var/lib/ptescope /var/log/ptescope
su -s /bin/sh nobody -c 'cd /; HOME=/nonexistent /usr/lib/ptescope/bin/python -I -c "
from shadow.geometry import X86_64
from shadow.precompile import Preparation
print(\\"compiled:\\", Preparation(X86_64).done())"'
apt-get purge -qq -y ptescope
outside >/root/after
diff /root/before /root/after && echo purged
cat /etc/passwd /etc/group | diff /root/accounts - && echo no account
apt-get install -qq -y --no-install-recommends $package
outside >/root/installed

# Another version: with another configuration, and without a file that this one has.
dpkg-deb -R $package /root/new
sed -i 's/^Version: .*/Version: {VERSION}+later/' /root/new/DEBIAN/control
echo '# A new default.' >>/root/new/etc/ptescope/daemon.toml
rm /root/new/usr/share/ptescope/ptescope.rules.yml
dpkg-deb -Znone -b /root/new /root/later.deb
rm -r /root/new
cp tests/vm/service_guest.py /root/service_guest.py
"""


@pytest.fixture(scope="module")
def installed() -> Iterator[tuple[Path, list[str]]]:
    """A root with the package, and what its installation printed."""
    package("bookworm")
    with kept_root("bookworm", _INSTALL) as (root, printed):
        yield root, printed.splitlines()


@pytest.fixture(scope="module")
def said(installed: tuple[Path, list[str]]) -> Said:
    """What the guest printed, by check."""
    guest = Guest(get_kernel("6.1"), memory="4G", root=installed[0], systemd=True)
    command = ["/usr/bin/python3", "/root/service_guest.py"]
    outcome = guest.run(command, Path("/root"), timeout=_TIMEOUT)
    assert outcome.status == 0, outcome.err
    checks: Said = {}
    for line in outcome.out.splitlines():
        each = json.loads(line)
        checks.setdefault(each.pop("check"), []).append(each)
    return checks


def test_the_package_installs_and_leaves_nothing(installed: tuple[Path, list[str]]) -> None:
    lines = installed[1]
    for line in (
        f"ptescope {VERSION}",
        "/var/cache/ptescope root:root 755",
        "/var/lib/ptescope root:ptescope 700",
        "/var/log/ptescope root:ptescope 750",
        "compiled: True",
        "purged",
        "no account",
    ):
        assert line in lines, line


def test_the_service_is_off_until_it_is_enabled_and_names_a_wasteful_redis(said: Said) -> None:
    assert said["before"] == [{"enabled": "disabled", "active": "inactive"}]
    assert said["enabled"][0]["state"] == "active"
    assert said["enabled"][0]["health"] >= 0
    assert said["redis"][0]["empty"] > 10


def test_the_journal_has_one_line_of_the_start_and_no_traceback(said: Said) -> None:
    (line,) = said["journal"][0]["lines"]
    assert line.startswith(f"ptescope {VERSION} follows the host; live page on http://127.0.0.1:")
    assert said["end"] == [{"traceback": False}]


def test_the_unit_is_hardened_and_limits_memory_and_cpu(said: Said) -> None:
    (limits,) = said["limits"]
    assert limits["security"] <= _LOWEST_EXPOSURE
    assert int(limits["memory.peak"]) <= int(limits["memory.max"]) == 1 << 30
    assert limits["cpu.max"].split() == ["100000", "100000"]
    assert int(limits["pids.peak"]) <= int(limits["pids.max"]) == 64
    assert "oom_kill 0" in limits["memory.events"].splitlines()
    assert limits["writes code"] == "yes"


def test_it_comes_back_after_a_kill_and_stops_at_once(said: Said) -> None:
    assert said["killed"][0]["seconds"] >= 0
    assert said["killed"][0]["restarts"] == "1"
    (stopped,) = said["stopped"]
    assert stopped["seconds"] <= 2
    assert (stopped["result"], stopped["state"]) == ("success", "inactive")


def test_it_works_without_tracefs_and_restarts_when_its_probes_are_gone(said: Said) -> None:
    assert said["without tracefs"][0]["mounted"] is False
    assert said["without tracefs"][0]["health"] >= 0
    (watchdog,) = said["watchdog"]
    assert watchdog["seconds"] >= 0
    assert watchdog["health"] >= 0
    assert any("Watchdog timeout" in line for line in watchdog["said"])


def test_top_is_for_root_and_the_group(said: Said) -> None:
    assert said["socket"] == [{"mode": "0o660", "group": "ptescope"}]
    member, stranger = said["top"]
    assert (member["shows"], member["status"]) == (True, os.EX_OK)
    assert (stranger["shows"], stranger["status"]) == (False, 4)
    assert "Join the group" in stranger["last"]


def test_an_upgrade_keeps_the_configuration_and_restarts_the_daemon(said: Said) -> None:
    (upgraded,) = said["upgraded"]
    assert (upgraded["status"], upgraded["version"]) == (0, f"{VERSION}+later")
    assert upgraded["kept"]
    assert upgraded["gone"]
    assert upgraded["restarted"] >= 0
    assert upgraded["health"] >= 0


def test_purging_a_service_that_ran_leaves_nothing(said: Said) -> None:
    (purged,) = said["purged"]
    assert purged["status"] == 0
    assert purged["left"] == []
    assert purged["accounts"] == []
