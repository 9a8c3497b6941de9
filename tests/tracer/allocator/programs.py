"""Real programs and libraries, and the allocators that are in them.

Each was looked at by hand (readelf, strings, the package's build rules) when it was
entered here. `tools/fetch.py` brings them, unpacked and not installed.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ("CORPUS", "LARGE", "PROGRAMS", "STATIC_JEMALLOC", "Holds", "Program")

CORPUS = Path(__file__).parents[3] / ".corpus"
"""Where packages are unpacked, a folder each."""


@dataclass(frozen=True)
class Holds:
    """An allocator in an image.

    Attributes:
        name: as `Build` has it.
        version: a regular expression; None: it cannot be found out.
        prefix: what is before malloc.
        variable: one of the environment variables that set it.
        live: an option whose place in memory is known.
    """

    name: str
    version: str | None
    prefix: str = ""
    variable: str | None = None
    live: str | None = None


@dataclass(frozen=True)
class Program:
    """A file of a package.

    Attributes:
        package: name in Debian, or name==version on PyPI.
        file: its path in the package.
        holds: the allocators in it; none: it uses those of its libraries.
    """

    package: str
    file: str
    holds: tuple[Holds, ...] = ()

    @property
    def path(self) -> Path:
        """Where it is unpacked."""
        return CORPUS / self.package / self.file


_LIB = "usr/lib/x86_64-linux-gnu"
_GPERFTOOLS = Holds("gperftools", r"2\.10", "", "TCMALLOC_RELEASE_RATE", "release_rate")
_RUST = Holds("jemalloc", r"5\.3\.0-1", "_rjem_", "_RJEM_MALLOC_CONF")
_GO = Holds("Go", r"1\.19\.\d+", "runtime.", "GOGC")

PROGRAMS = (
    Program(
        "libjemalloc2",
        f"{_LIB}/libjemalloc.so.2",
        (Holds("jemalloc", r"5\.3\.0", "", "MALLOC_CONF"),),
    ),
    Program("libgoogle-perftools4", f"{_LIB}/libtcmalloc.so.4", (_GPERFTOOLS,)),
    Program("libgoogle-perftools4", f"{_LIB}/libtcmalloc_and_profiler.so.4", (_GPERFTOOLS,)),
    Program("libgoogle-perftools4", f"{_LIB}/libprofiler.so.0"),  # no allocator in it
    Program("libtcmalloc-minimal4", f"{_LIB}/libtcmalloc_minimal.so.4", (_GPERFTOOLS,)),
    Program(
        "libmimalloc2.0",
        f"{_LIB}/libmimalloc.so.2.0",
        (Holds("mimalloc", r"2\.0\.9", "", "MIMALLOC_DECOMMIT_DELAY"),),
    ),
    Program(
        "cmeel-mimalloc==3.4.3",
        "cmeel.prefix/lib/libmimalloc.so.3",
        (Holds("mimalloc", r"3\.4\.3", "", "MIMALLOC_PURGE_DELAY", "mi_options"),),
    ),
    # Linked in, stripped, serves malloc itself.
    Program("mold", "usr/bin/mold", (Holds("mimalloc", None, "", "MIMALLOC_DECOMMIT_DELAY"),)),
    Program("ruff==0.17.6", "ruff-0.17.6.data/scripts/ruff", (_RUST,)),
    Program("uv==0.13.9", "uv-0.13.9.data/scripts/uv", (_RUST,)),
    Program(
        "duckdb==2.0.0",
        "_duckdb.cpython-311-x86_64-linux-gnu.so",
        (
            Holds(
                "jemalloc",
                r"5\.3\.0-196",
                "duckdb_je_",
                "DUCKDB_JE_MALLOC_CONF",
                "opt_dirty_decay_ms",
            ),
        ),
    ),
    # These are linked against libjemalloc or libc; what they mention is not in them.
    Program("varnish", "usr/sbin/varnishd"),
    Program("knot-resolver", "usr/sbin/kresd"),
    Program("bind9-libs", f"{_LIB}/libisc-9.*-Debian.so"),
    Program("mariadb-server-core", "usr/sbin/mariadbd"),
    Program("memcached", "usr/bin/memcached"),
    Program("h2o", "usr/bin/h2o"),
    Program("nginx", "usr/sbin/nginx"),
    # Debian builds these Rust programs without the jemalloc that upstream has.
    Program("ripgrep", "usr/bin/rg"),
    Program("fd-find", "usr/lib/cargo/bin/fd"),
    Program("fzf", "usr/bin/fzf", (_GO,)),
    Program("age", "usr/bin/age", (_GO,)),
    Program("gocryptfs", "usr/bin/statfs", (_GO,)),  # static, and stripped
    Program("busybox-static", "bin/busybox", (Holds("glibc", None, "", "GLIBC_TUNABLES"),)),
    Program("musl", "lib/x86_64-linux-musl/libc.so", (Holds("musl", r"1\.2\.3"),)),
    Program(
        "libc6", "lib/x86_64-linux-gnu/libc.so.6", (Holds("glibc", r"2\.36", "", "GLIBC_TUNABLES"),)
    ),
)
"""On Debian 12; of its packages 26 MB, of PyPI 53 MB."""

STATIC_JEMALLOC = CORPUS / "libjemalloc-dev" / _LIB / "libjemalloc_pic.a"
"""To be linked into a program of our own."""

LARGE = (
    Program(
        "polars-runtime-32==2.1.0",
        "_polars_runtime_32/_polars_runtime.abi3.so",
        (Holds("jemalloc", r"5\.3\.1", "_rjem_", "_RJEM_MALLOC_CONF", "opt_dirty_decay_ms"),),
    ),
    Program(
        "pyarrow==26.0.1",
        "pyarrow/libarrow.so.2600",
        (
            Holds(
                "jemalloc",
                r"5\.3\.0",
                "je_arrow_",
                "JE_ARROW_MALLOC_CONF",
                "dirty_decay_ms_default",
            ),
            Holds("mimalloc", r"3\.4\.1", "mi_", "MIMALLOC_PURGE_DELAY", "mi_options"),
        ),
    ),
    Program(
        "chdb-core==26.9.0",
        "chdb/_chdb.abi3.so",
        (Holds("jemalloc", None, "je_", "JE_MALLOC_CONF"),),
    ),
    Program(
        "openjdk-17-jre-headless",
        "usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
        (Holds("JVM", r"17\.0\.\d+.*", "JVM_", "JAVA_TOOL_OPTIONS"),),
    ),
    Program("postgresql-15", "usr/lib/postgresql/15/bin/postgres"),
)
"""350 MB more: `tools/fetch.py --large`; they are tested where they are."""
