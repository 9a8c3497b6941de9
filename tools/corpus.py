# SPDX-License-Identifier: GPL-2.0-only
"""Real programs and libraries, and the allocators that they contain.

Each entry was checked by hand (readelf, strings, the build rules of the package).
`tools/fetch.py` downloads and unpacks the packages, without installing them. Debian packages
have the version of the machine's own apt sources; tests expect to find that version in the image.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = (
    "CORPUS",
    "LARGE",
    "OTHER_NAMES",
    "PROGRAMS",
    "STATIC_JEMALLOC",
    "UPSTREAM",
    "VERSION_FILE",
    "Holds",
    "Program",
)

CORPUS = Path(__file__).parents[1] / ".corpus"
"""The folder of unpacked packages, with a folder for each."""
VERSION_FILE = ".version"
"""The file in that folder with the version of the package."""
UPSTREAM = "upstream"
"""Stands for the upstream part of a Debian package's version."""
OTHER_NAMES = {
    "libgoogle-perftools4": ("libgoogle-perftools4t64",),
    "libtcmalloc-minimal4": ("libtcmalloc-minimal4t64",),
    "libmimalloc2.0": ("libmimalloc2", "libmimalloc3"),
}
"""Names of a package in other releases of Debian and Ubuntu."""


@dataclass(frozen=True)
class Holds:
    """An allocator in an image.

    Attributes:
        name: its name in `Build`.
        version: a regular expression, or `UPSTREAM`; None: ptescope cannot find it out.
        prefix: the prefix of its malloc.
        variables: the environment variables that set it, in any version.
        live: an option with a known place in memory.
    """

    name: str
    version: str | None
    prefix: str = ""
    variables: tuple[str, ...] = ()
    live: str | None = None


@dataclass(frozen=True)
class Program:
    """A file of a package.

    Attributes:
        package: a name in Debian, or name==version on PyPI.
        file: its path in the package, a pattern.
        holds: the allocators in it; empty: it uses those of its libraries.
    """

    package: str
    file: str
    holds: tuple[Holds, ...] = ()

    @property
    def path(self) -> Path:
        """The unpacked file; if it does not exist, its expected place."""
        folder = CORPUS / self.package
        # Packages of Debian 13 have files in /usr/lib that were in /lib before.
        found = [*folder.glob(self.file), *folder.glob(f"usr/{self.file}")]
        return found[0] if found else folder / self.file

    @property
    def upstream(self) -> str:
        """The upstream version of its package, such as 5.3.0 for 5.3.0-3."""
        version = (CORPUS / self.package / VERSION_FILE).read_text().strip()
        return re.split(r"[-+]", version.partition(":")[2] or version)[0]


_LIB = "usr/lib/x86_64-linux-gnu"
_GPERFTOOLS = Holds("gperftools", UPSTREAM, "", ("TCMALLOC_RELEASE_RATE",), "release_rate")
_RUST = Holds("jemalloc", r"5\.3\.0-1", "_rjem_", ("_RJEM_MALLOC_CONF",))
_GO = Holds("Go", r"1\.\d+(\.\d+)?", "runtime.", ("GOGC",))
_MIMALLOC = ("MIMALLOC_DECOMMIT_DELAY", "MIMALLOC_PURGE_DELAY")

PROGRAMS = (
    Program(
        "libjemalloc2",
        f"{_LIB}/libjemalloc.so.2",
        (Holds("jemalloc", UPSTREAM, "", ("MALLOC_CONF",)),),
    ),
    Program("libgoogle-perftools4", f"{_LIB}/libtcmalloc.so.4", (_GPERFTOOLS,)),
    Program("libgoogle-perftools4", f"{_LIB}/libtcmalloc_and_profiler.so.4", (_GPERFTOOLS,)),
    Program("libgoogle-perftools4", f"{_LIB}/libprofiler.so.0"),  # no allocator in it
    Program("libtcmalloc-minimal4", f"{_LIB}/libtcmalloc_minimal.so.4", (_GPERFTOOLS,)),
    Program(
        "libmimalloc2.0",
        f"{_LIB}/libmimalloc.so.[23].*",
        (Holds("mimalloc", UPSTREAM, "", _MIMALLOC),),
    ),
    Program(
        "cmeel-mimalloc==3.4.3",
        "cmeel.prefix/lib/libmimalloc.so.3",
        (Holds("mimalloc", r"3\.4\.3", "", _MIMALLOC, "mi_options"),),
    ),
    # Linked in, stripped, serves malloc itself.
    Program("mold", "usr/bin/mold", (Holds("mimalloc", None, "", _MIMALLOC),)),
    Program("ruff==0.17.6", "ruff-0.17.6.data/scripts/ruff", (_RUST,)),
    Program("uv==0.13.9", "uv-0.13.9.data/scripts/uv", (_RUST,)),
    Program(
        "duckdb==2.0.0",
        "_duckdb.*.so",
        (
            Holds(
                "jemalloc",
                r"5\.3\.0-196",
                "duckdb_je_",
                ("DUCKDB_JE_MALLOC_CONF",),
                "opt_dirty_decay_ms",
            ),
        ),
    ),
    # Linked against libjemalloc or libc: they mention an allocator but do not contain it.
    Program("varnish", "usr/sbin/varnishd"),
    Program("knot-resolver", "usr/sbin/kresd"),
    Program("bind9-libs", f"{_LIB}/libisc-9.*-Debian.so"),
    Program("mariadb-server-core", "usr/sbin/mariadbd"),
    Program("memcached", "usr/bin/memcached"),
    Program("nginx", "usr/sbin/nginx"),
    # Debian builds these Rust programs without the jemalloc that upstream has.
    Program("ripgrep", "usr/bin/rg"),
    Program("fd-find", "usr/lib/cargo/bin/fd"),
    Program("fzf", "usr/bin/fzf", (_GO,)),
    Program("age", "usr/bin/age", (_GO,)),
    Program("gocryptfs", "usr/bin/statfs", (_GO,)),  # static, and stripped
    Program("busybox-static", "bin/busybox", (Holds("glibc", None, "", ("GLIBC_TUNABLES",)),)),
    Program("musl", "lib/x86_64-linux-musl/libc.so", (Holds("musl", UPSTREAM),)),
    Program(
        "libc6",
        "lib/x86_64-linux-gnu/libc.so.6",
        (Holds("glibc", UPSTREAM, "", ("GLIBC_TUNABLES",)),),
    ),
)
"""26 MB from Debian 12, and 53 MB from PyPI."""

STATIC_JEMALLOC = CORPUS / "libjemalloc-dev" / _LIB / "libjemalloc_pic.a"
"""A test links this into its own program."""

LARGE = (
    Program(
        "polars-runtime-32==2.1.0",
        "_polars_runtime_32/_polars_runtime.abi3.so",
        (Holds("jemalloc", r"5\.3\.1", "_rjem_", ("_RJEM_MALLOC_CONF",), "opt_dirty_decay_ms"),),
    ),
    Program(
        "pyarrow==26.0.1",
        "pyarrow/libarrow.so.2600",
        (
            Holds(
                "jemalloc",
                r"5\.3\.0",
                "je_arrow_",
                ("JE_ARROW_MALLOC_CONF",),
                "dirty_decay_ms_default",
            ),
            Holds("mimalloc", r"3\.4\.1", "mi_", _MIMALLOC, "mi_options"),
        ),
    ),
    Program(
        "chdb-core==26.9.0",
        "chdb/_chdb.abi3.so",
        (Holds("jemalloc", None, "je_", ("JE_MALLOC_CONF",)),),
    ),
    Program(
        "openjdk-17-jre-headless",
        "usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
        (Holds("JVM", r"17\.0\.\d+.*", "JVM_", ("JAVA_TOOL_OPTIONS",)),),
    ),
    Program("postgresql-15", "usr/lib/postgresql/15/bin/postgres"),
)
"""350 MB more, for `tools/fetch.py --large`; tests use them if they exist."""
