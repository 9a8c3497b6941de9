# SPDX-License-Identifier: GPL-2.0-only
"""docs/how-to/install.md, followed as printed in fresh roots of Debian 12 and 13, and Ubuntu 24.04.

This builds packages and downloads Python libraries, so it runs only with --package.
"""

import os
import re
import shlex
from pathlib import Path

import pytest

from shadow.version import VERSION
from tests.install.package import kept_root, package
from tests.vm.service_guest import FILES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

_DOCS = Path(__file__).parents[2] / "docs/how-to"
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.M | re.S)
_QUIETLY = """
export DEBIAN_FRONTEND=noninteractive
echo 'APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";' >/etc/apt/apt.conf.d/99test
apt-get update -qq
"""
_FILES = f"{shlex.join(FILES)} | grep -Ev '^/(etc|var/backups)/(g?shadow|group|passwd)' | sort"


def _blocks(page: str, section: str) -> list[str]:
    """The commands of each block in a section of a page, down to the next of its level."""
    level = section.partition(" ")[0]
    text = (_DOCS / page).read_text().partition(f"\n{section}\n")[2]
    text = re.split(rf"^{level} ", text, maxsplit=1, flags=re.M)[0]
    blocks = [re.findall(r"^# (.*)$", block, re.M) for block in _BLOCK.findall(text)]
    assert all(blocks), section
    return ["\n".join(commands) for commands in blocks]


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "noble"])
def test_the_section_on_the_package_holds(suite: str) -> None:
    (block,) = _blocks("install.md", "## Debian package")
    build, *rest = block.replace(
        "debian12", package(suite).split("~")[1].split("_")[0]
    ).splitlines()
    assert build == "./tools/build-deb"
    script = [_QUIETLY, "ln -s /mnt dist", *rest, "ptescope --version; apt-get purge ptescope"]
    with kept_root(suite, "\n".join(script)) as (_, said):
        assert "ok       bcc" in said
        assert f"\nptescope {VERSION}\n" in said


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "noble"])
def test_the_section_on_virtual_environments_holds(suite: str) -> None:
    install, by_uv, links, compiled, upgrade, remove = _blocks(
        "install.md", "## Virtual environment"
    )
    _, service, _ = _blocks("daemon.md", "## As a service")
    packages, venv, pip, doctor = install.splitlines()
    script = f"""
{_QUIETLY}
systemctl() {{ echo "ran: systemctl $*"; }} # a root has no systemd; tests/vm/test_service.py has
{packages}
# For uv, and for what Python and Debian's tools write when they first run.
python3 -m venv /root/uv; /root/uv/bin/pip install -q uv; PATH=$PATH:/root/uv/bin
[ -z "${{PIP_INDEX_URL:-}}" ] || export UV_DEFAULT_INDEX=$PIP_INDEX_URL
mkdir -p /usr/local/share/man/man1 /etc/bash_completion.d /etc/systemd/system
{_FILES} >/root/before
{venv}
{pip}
{doctor}
{links}
{compiled}
ptescope --version
bash -c '. /etc/bash_completion.d/ptescope; complete -p ptescope'
{service}
ptescope daemon -d 1 --json --listen 127.0.0.1:0 --min-vmpte 1G
sed -i 's/"{VERSION}"/"{VERSION}.1"/' shadow/version.py
{upgrade}
ptescope --version
{remove}
{_FILES} >/root/after
diff /root/before /root/after && echo removed
{by_uv}
/opt/ptescope/bin/ptescope --version
{by_uv.splitlines()[1]}
"""
    with kept_root(suite, script) as (_, said):
        assert "ok       bcc" in said
        assert f"\nptescope {VERSION}\n" in said
        assert f"\nptescope {VERSION}.1\n" in said
        assert "complete -F" in said or "complete -o" in said
        assert '"schema"' in said
        assert re.findall(r"^systemctl ([\w-]+)", said, re.M) == [
            "enable",
            "try-restart",
            "disable",
        ]
        assert "\nremoved\n" in said
        assert "looking at multiple versions" not in said, "pip tries one version after another"
