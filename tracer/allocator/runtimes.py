"""Runtimes that manage memory by themselves, beside or instead of a malloc: Go, the JVM."""

import re

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build
from tracer.allocator.image import Image
from tracer.allocator.view import View

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
_JVM_ARGUMENT = re.compile(
    r"-X(mx|ms|mn)\w+|-XX:[+-]?(Use\w+GC|AlwaysPreTouch|UseTransparentHugePages|"
    r"(Max|Initial)RAMPercentage=.*|(Soft)?MaxHeap\w+=.*|ZUncommit\w*(=.*)?)"
)


def recognise_go(image: Image) -> Build | None:
    """The Go runtime in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    for data in (True, False):  # in its writable data, unless the linker was told otherwise
        for match in image.find(_GO_INFO, data=data):
            text = match.string[match.end() : match.end() + _GO_LONGEST]
            version = _GO_VERSION.match(text) if match[1][0] & _INLINE else None
            unknown = () if version else ("its version: only builds since Go 1.18 tell",)
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
    """What the environment sets of the garbage collector."""
    return {
        name: AllocatorOption(view.environment[name], name)
        for name in _GO_VARIABLES
        if name in view.environment
    }


def jvm_options(view: View) -> dict[str, AllocatorOption]:
    """What arguments and environment set of the heap; later ones win."""
    found = {}
    sources = [(name, view.environment.get(name, "").split()) for name in _JVM_VARIABLES[:2]]
    sources += [
        ("command line", view.arguments),
        ("_JAVA_OPTIONS", view.environment.get("_JAVA_OPTIONS", "").split()),
    ]
    for source, words in sources:
        for word in words:
            if _JVM_ARGUMENT.fullmatch(word):
                name, _, value = word.removeprefix("-XX:").partition("=")
                found[name if value or word.startswith("-XX") else word[:4]] = AllocatorOption(
                    value or word, source
                )
    return found
