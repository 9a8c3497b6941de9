# SPDX-License-Identifier: GPL-2.0-only
"""Runtimes with their own memory management, next to or instead of malloc: Go, the JVM."""

import re

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build
from tracer.allocator.elf_image import Image
from tracer.allocator.process_memory import View

__all__ = ("go_options", "jvm_options", "recognise_go", "recognise_jvm")

_GO_INFO = re.compile(rb"\xff Go buildinf:.(.).{16}(.)", re.S)
"""debug/buildinfo: magic, pointer size, flags, padding to 32 bytes, length of the version."""
_GO_VERSION = re.compile(rb"go(\d+\.[\w.+-]+)")
_INLINE = 2
_GO_LONGEST = 64
_GO_VARIABLES = ("GOGC", "GOMEMLIMIT", "GODEBUG")
_JVM = re.compile(rb"64-Bit Server VM \(([\w.+-]+)")
_JVM_BARE = b"64-Bit Server VM\0"
_JVM_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_JVM_SIZE = re.compile(r"-(X(?:mx|ms|mn))(\w+)")
_JVM_SWITCH = re.compile(
    r"-XX:([+-])(Use\w+GC|AlwaysPreTouch|UseTransparentHugePages|UseLargePages|ZUncommit)"
)
_JVM_VALUE = re.compile(r"-XX:(\w*Heap\w*|\w*RAMPercentage|\w*Uncommit\w*)=(\S+)")


def recognise_go(image: Image) -> Build | None:
    """The Go runtime in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    for data in (True, False):  # in writable data, unless a linker option moved it
        for match in image.find(_GO_INFO, data=data):
            text = match.string[match.end() : match.end() + _GO_LONGEST]
            version = _GO_VERSION.match(text) if match[1][0] & _INLINE else None
            unknown = () if version else ("its version: only builds since Go 1.18 contain it",)
            number = version[1][: match[2][0] - 2].decode() if version else None
            return Build("Go", number, "runtime.", _GO_VARIABLES, unknown=unknown)
    return None


def recognise_jvm(image: Image) -> Build | None:
    """HotSpot in an image; raises as `recognise_go` does."""
    version = next(image.find(_JVM), None)
    if version is None and not image.says(_JVM_BARE):
        return None
    unknown = () if version else ("its version",)
    number = version[1].decode() if version else None
    return Build("JVM", number, "JVM_", _JVM_VARIABLES, unknown=unknown)


def go_options(view: View) -> dict[str, AllocatorOption]:
    """Settings of the garbage collector in the environment."""
    return {
        name: AllocatorOption(view.environment[name], name)
        for name in _GO_VARIABLES
        if name in view.environment
    }


def _jvm_option(word: str) -> tuple[str, str] | None:
    """Name and value of an argument that configures the heap; None: it does not."""
    switch = _JVM_SWITCH.fullmatch(word)
    if switch:
        return switch[2], "true" if switch[1] == "+" else "false"
    given = _JVM_SIZE.fullmatch(word) or _JVM_VALUE.fullmatch(word)
    return (given[1], given[2]) if given else None


def jvm_options(view: View) -> dict[str, AllocatorOption]:
    """Settings of the heap from variables and arguments; later ones win."""
    before, after = _JVM_VARIABLES[:2], _JVM_VARIABLES[2]
    sources = [(name, view.environment.get(name, "").split()) for name in before]
    sources.append(("command line", view.arguments))
    sources.append((after, view.environment.get(after, "").split()))
    return {
        option[0]: AllocatorOption(option[1], source)
        for source, words in sources
        for word in words
        if (option := _jvm_option(word))
    }
