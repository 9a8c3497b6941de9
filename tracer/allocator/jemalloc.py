# SPDX-License-Identifier: GPL-2.0-only
"""jemalloc, under any prefix, and the options that decide how it purges.

Constants that every jemalloc contains identify a build. jemalloc reads its settings from these
sources, and the last one wins (jemalloc 5.3, src/jemalloc.c, obtain_malloc_conf): the build
configuration, the symbol malloc_conf, the target of the link /etc/malloc.conf, the environment.
These are the settings at the start. Programs change some of them later by mallctl, and only
memory shows those changes.
"""

import re
import struct

from shadow.snapshot import AllocatorOption
from tracer.allocator.build import Build, Place
from tracer.allocator.elf_image import Image, Symbol
from tracer.allocator.process_memory import View

__all__ = ("conf_symbols", "options", "recognise")

_MARK = b"<jemalloc>: "
_VARIABLE = re.compile(rb"MALLOC_CONF\0")
_BEFORE_VARIABLE = re.compile(rb"[A-Z0-9_]*$")
_COMMIT = re.compile(rb"-g[0-9a-f]{7,40}\0")
_BEFORE_COMMIT = re.compile(rb"(\d+\.\d+\.\d+)-(\d+)$")
_DECAY = re.compile(rb"decay_ms:-?\d+[a-z0-9_:.,-]*\0")
_BEFORE_DECAY = re.compile(rb"[a-z0-9_:.,-]*$")
_REACH = 256
"""Bytes before a match that are searched for its beginning."""
_LINK = "/etc/malloc.conf"
_POINTER = struct.Struct("<Q")
_KINDS = {
    "opt_dirty_decay_ms": "q",
    "opt_muzzy_decay_ms": "q",
    "opt_retain": "?",
    "opt_oversize_threshold": "Q",
    "opt_narenas": "I",
    "opt_background_thread": "?",
    "opt_hpa": "?",
    "opt_lg_extent_max_active_fit": "Q",
    "opt_process_madvise_max_batch": "Q",
    "background_thread_enabled_state": "?",
    "dirty_decay_ms_default": "q",
    "muzzy_decay_ms_default": "q",
    "sz_pind2sz_tab": "Q",
}
_SINCE_5_2 = {
    "dirty_decay_ms": "10000",
    "muzzy_decay_ms": "0",
    "retain": "true",
    "oversize_threshold": "8388608",
    "background_thread": "false",
}
"""Defaults on 64-bit Linux from 5.2.0 on (doc/jemalloc.xml.in, ChangeLog)."""


def _before(match: re.Match[bytes], pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """Match `pattern` right before a match; a search for fixed text first is fast."""
    return pattern.search(match.string[max(match.start() - _REACH, 0) : match.start()])


def _variable(image: Image) -> str | None:
    """The environment variable that this build reads; it has the prefix of the build."""
    found = [_before(match, _BEFORE_VARIABLE) for match in image.find(_VARIABLE)]
    prefixes = {match[0].decode() for match in found if match} - {""}
    if len(prefixes) > 1:
        return None
    # Every build also has the bare name, in the text that it prints about its settings.
    return f"{prefixes.pop() if prefixes else ''}MALLOC_CONF"


def _version(image: Image) -> str | None:
    """The result of mallctl("version"): the release, and the number of commits since."""
    for match in image.find(_COMMIT):
        number = _before(match, _BEFORE_COMMIT)
        if number:
            release, after = number[1].decode(), number[2].decode()
            return release if after == "0" else f"{release}-{after}"
    return None


def _config(image: Image) -> str | None:
    """Settings as text among the constants, if there is exactly one such text."""
    texts = set()
    for match in image.find(_DECAY):
        begin = _before(match, _BEFORE_DECAY)
        texts.add(((begin[0] if begin else b"") + match[0][:-1]).decode())
    return texts.pop() if len(texts) == 1 else None


def _places(image: Image, prefix: str) -> dict[str, Place]:
    places = {}
    for suffix, kind in _KINDS.items():
        known = {f"{prefix}{suffix}", f"{prefix}je_{suffix}", f"je_{suffix}", suffix}
        addresses = {s.value for s in image.symbols(suffix) if s.name in known and s.size}
        if len(addresses) == 1:  # two symbols belong to two jemallocs; which to which is unknown
            places[suffix] = Place(addresses.pop(), kind)
    return places


def recognise(image: Image) -> Build | None:
    """The jemalloc in an image.

    Raises:
        DamagedImageError: the image cannot be read.
        OSError: likewise.
    """
    if not image.says(_MARK):
        return None
    unknown = []
    variable, version = _variable(image), _version(image)
    if variable is None:
        unknown.append("which environment variable it reads: the image names several")
    if version is None:
        unknown.append("its version: the image contains no release number")
    prefix = (variable or "MALLOC_CONF").removesuffix("MALLOC_CONF").lower()
    places = _places(image, prefix)
    if "opt_dirty_decay_ms" not in places:
        unknown.append(
            "its live options: their symbols are stripped, so the settings at its start are shown"
        )
    if "sz_pind2sz_tab" not in places:
        unknown.append("its page size: the symbol sz_pind2sz_tab is stripped")
    return Build(
        name="jemalloc",
        version=version,
        prefix=prefix,
        variables=(variable,) if variable else (),
        config=_config(image),
        places=places,
        unknown=tuple(unknown),
    )


def conf_symbols(image: Image) -> list[Symbol]:
    """The symbols, under any prefix, that hold settings of a program."""
    return [symbol for symbol in image.symbols("malloc_conf") if symbol.size == _POINTER.size]


def _parsed(text: str, source: str) -> dict[str, AllocatorOption]:
    pairs = (pair.split(":", 1) for pair in text.split(",") if ":" in pair)
    return {key.strip(): AllocatorOption(value.strip(), source) for key, value in pairs}


def _program_conf(view: View, symbol: int | None) -> str | None:
    """The text that the symbol malloc_conf points to, by its address in memory."""
    raw = view.read(symbol, _POINTER.size) if symbol is not None else None
    pointer = _POINTER.unpack(raw)[0] if raw else 0
    return view.read_text(pointer) if pointer else None


def _has_defaults(version: str | None) -> bool:
    return version is not None and tuple(map(int, version.split("-")[0].split("."))) >= (5, 2, 0)


def options(
    build: Build, view: View, live: dict[str, AllocatorOption], symbol: int | None
) -> dict[str, AllocatorOption]:
    """The settings, each option with the source that decided it.

    Args:
        build: the result of `recognise`.
        view: the process.
        live: the values read from memory at `build.places`.
        symbol: the address of malloc_conf in the process; None: there is none.
    """
    found: dict[str, AllocatorOption] = {}
    if _has_defaults(build.version):
        found |= {key: AllocatorOption(value, "default") for key, value in _SINCE_5_2.items()}
    if build.config:
        found |= _parsed(build.config, "text in the image")
    found |= _parsed(_program_conf(view, symbol) or "", f"symbol {build.prefix}malloc_conf")
    found |= _parsed(view.link(_LINK) or "", _LINK)
    for variable in build.variables:
        found |= _parsed(view.environment.get(variable, ""), variable)
    for name, option in live.items():
        if name.startswith("opt_"):
            found[name.removeprefix("opt_")] = option
        elif name.endswith("_default"):
            found[f"arenas.{name.removesuffix('_default')}"] = option
        elif name == "background_thread_enabled_state":
            found["background_thread"] = option
    threads, wanted = view.threads(), found.get("background_thread")
    if "jemalloc_bg_thd" in threads:
        found["background_thread"] = AllocatorOption("true", "its threads run")
    elif threads and wanted and wanted.value == "true" and wanted.source != "memory":
        # Background threads do not survive a fork (background_thread_postfork_child).
        found["background_thread"] = AllocatorOption("false", "none of its threads runs")
    return found
