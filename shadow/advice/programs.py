# SPDX-License-Identifier: GPL-2.0-only
"""Programs that most readers run and did not write, and the settings they have.

Advice on one of these names its own settings. Each setting is documented by the program, and
`source` says where. A program that is not here gets the general text.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from shadow.snapshot import Process

__all__ = ("Program", "Setting", "program_of")


@dataclass(frozen=True)
class Setting:
    """What to set: in words, the lines to write, and where it is documented."""

    what: str
    how: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Program:
    """A program and what its operator can set.

    Attributes:
        name: as its makers write it.
        shared: gives its shared memory huge pages.
        private: gives its private memory huge pages.
        survivors: brings scattered objects together.
        fewer: bounds how many processes it runs.
    """

    name: str
    shared: Setting | None = None
    private: Setting | None = None
    survivors: Setting | None = None
    fewer: Setting | None = None


_LARGE_PAGES = Setting(
    "Set large-pages in the section [mysqld] of the option file, for the buffer pool of InnoDB, "
    "and let the kernel keep enough huge pages for innodb_buffer_pool_size.",
    ("large-pages", "sysctl -w vm.nr_hugepages=NUMBER"),
    "MySQL Reference Manual, Enabling Large Page Support; MariaDB documentation, large_pages",
)
_ACTIVEDEFRAG = Setting(
    "Switch active defragmentation on; it needs the jemalloc that comes with the server.",
    ("CONFIG SET activedefrag yes",),
    "redis.conf, ACTIVE DEFRAGMENTATION",
)
_JAVA = Setting(
    "Let the heap take transparent huge pages. The heap of ZGC is shared memory: there "
    "/sys/kernel/mm/transparent_hugepage/shmem_enabled has to be advise as well.",
    ("-XX:+UseTransparentHugePages",),
    "java(1), -XX:+UseTransparentHugePages; OpenJDK wiki, ZGC, on transparent huge pages",
)
_POSTGRES = Program(
    "PostgreSQL",
    shared=Setting(
        "Set huge_pages in postgresql.conf and let the kernel keep enough huge pages: from "
        "version 15 on, `postgres -D DATA -C shared_memory_size_in_huge_pages` prints how many, "
        "while the server is stopped.",
        ("huge_pages = on", "sysctl -w vm.nr_hugepages=NUMBER"),
        "PostgreSQL manual, Linux Huge Pages; huge_pages; shared_memory_size_in_huge_pages",
    ),
    fewer=Setting(
        "Put a connection pooler such as PgBouncer in front, and lower max_connections.",
        ("max_connections = NUMBER",),
        "PostgreSQL manual, max_connections: each connection is a process",
    ),
)
_MARIADB = Program("MariaDB", shared=_LARGE_PAGES, private=_LARGE_PAGES)
_MYSQL = Program("MySQL", shared=_LARGE_PAGES, private=_LARGE_PAGES)
_APACHE = Program(
    "Apache httpd",
    fewer=Setting(
        "Use the event MPM, whose processes have many threads each, or lower MaxRequestWorkers.",
        ("MaxRequestWorkers NUMBER",),
        "Apache HTTP Server documentation, mpm_common, MaxRequestWorkers; event",
    ),
)
_BY_NAME = {
    "postgres": _POSTGRES,
    "mariadbd": _MARIADB,
    "mysqld": _MYSQL,
    "java": Program("the Java VM", shared=_JAVA, private=_JAVA),
    "redis-server": Program("Redis", survivors=_ACTIVEDEFRAG),
    "valkey-server": Program("Valkey", survivors=_ACTIVEDEFRAG),
    "memcached": Program(
        "memcached",
        private=Setting(
            "Start it with large memory pages.", ("-L",), "memcached(1), -L, --enable-largepages"
        ),
    ),
    "nginx": Program(
        "nginx",
        fewer=Setting(
            "Lower worker_processes.",
            ("worker_processes NUMBER;",),
            "nginx documentation, ngx_core_module, worker_processes",
        ),
    ),
    "apache2": _APACHE,
    "httpd": _APACHE,
    "qemu-kvm": Program("QEMU"),
}
_PREFIXES = {
    "qemu-system-": Program("QEMU"),
    "php-fpm": Program(
        "PHP-FPM",
        fewer=Setting(
            "Lower pm.max_children.",
            ("pm.max_children = NUMBER",),
            "PHP manual, FPM configuration, pm.max_children",
        ),
    ),
}
_REPLACED = " (deleted)"
"""What the kernel appends to the path of a program that was upgraded while it runs."""


def program_of(process: Process) -> Program | None:
    """The program of a process by the file name of its executable, or else by its name."""
    exe = (process.exe or "").removesuffix(_REPLACED)
    name = PurePosixPath(exe).name or process.comm
    for prefix, program in _PREFIXES.items():
        if name.startswith(prefix):
            return program
    return _BY_NAME.get(name)
