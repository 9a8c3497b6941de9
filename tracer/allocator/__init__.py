# SPDX-License-Identifier: GPL-2.0-only
"""Find the memory allocators of a process, and their settings.

The sources are the images that the process has mapped (`image_scan`), its environment, its
root and its memory (`process_memory`). Reading them neither stops the process nor needs its
help. A process may have several allocators: one serves malloc, and programs call others
under their own names. `Allocator.unknown` lists what could not be found; nothing is guessed.
"""

from pathlib import PurePath

from shadow.snapshot import Allocator, AllocatorOption
from tracer.allocator import jemalloc, libc, mimalloc, runtimes, tcmalloc
from tracer.allocator.build import Build, live_options
from tracer.allocator.image_scan import ImageFacts, scan_image
from tracer.allocator.malloc_provider import serving_image
from tracer.allocator.mapped import Mapped, mapped_images
from tracer.allocator.process_memory import View

__all__ = ("find_allocators",)

_GENERAL = ("jemalloc", "gperftools", "google tcmalloc", "mimalloc")
_LIBC = ("glibc", "musl")
_NAMED_AFTER = {"gperftools": "libtcmalloc", "google tcmalloc": "libtcmalloc"}
_PAGE_SIZES = "sz_pind2sz_tab"
"""jemalloc's table of page size classes; the first is its page size."""

_Image = tuple[Mapped, ImageFacts]


def _linked(build: Build, mapped: Mapped, executable: bool, view: View) -> str:
    """How the allocator is linked, in words."""
    name = f"{mapped.name} (deleted)" if mapped.deleted else mapped.name
    if executable:
        return "in the executable"
    file = PurePath(mapped.name).name
    preloaded = view.environment.get("LD_PRELOAD", "").replace(":", " ").split()
    if any(PurePath(path).name in file for path in preloaded):
        return f"preloaded: {name}"
    own = file.startswith((_NAMED_AFTER.get(build.name, f"lib{build.name}"), "libc.", "ld-"))
    return f"shared: {name}" if own else f"inside: {name}"


def _conf_symbol(build: Build, own: _Image, executable: _Image) -> int | None:
    """The address of malloc_conf in the process; that of the executable takes precedence."""
    for mapped, facts in (executable, own):
        bias = mapped.bias(facts.loaded)
        for symbol in facts.conf_symbols:
            if symbol.name == f"{build.prefix}malloc_conf" and bias is not None:
                return symbol.value + bias
    return None


def _options(
    build: Build, own: _Image, executable: _Image, view: View
) -> dict[str, AllocatorOption]:
    mapped, facts = own
    bias = mapped.bias(facts.loaded)
    if build.name == "mimalloc":
        return mimalloc.options(build, view, bias)
    live = live_options(build, view, bias)
    if build.name == "jemalloc":
        return jemalloc.options(build, view, live, _conf_symbol(build, own, executable))
    if build.name == "gperftools":
        return tcmalloc.gperftools_options(build, view, live)
    if build.name == "glibc":
        return libc.glibc_options(view)
    if build.name == "Go":
        return runtimes.go_options(view)
    return runtimes.jvm_options(view) if build.name == "JVM" else {}


def _page_size(build: Build, own: _Image, view: View) -> int | None:
    """Page size of a jemalloc in bytes; it may be larger than the kernel's."""
    mapped, facts = own
    place = {name: place for name, place in build.places.items() if name == _PAGE_SIZES}
    live = live_options(Build("", places=place), view, mapped.bias(facts.loaded))
    size = int(live[_PAGE_SIZES].value) if live else 0
    return size if size and size & (size - 1) == 0 else None


def _serves(build: Build, mapped: Mapped, serving: Mapped | None, view: View) -> str | None:
    if build.chosen_by:
        variable, value = build.chosen_by
        if not view.environment.get(variable, "").startswith(value):
            return "not malloc"
    if mapped is serving and not build.prefix:
        return "malloc"
    if build.prefix:
        return f"calls of {build.prefix}*"
    return None if serving is None else "not malloc"


def _rank(allocator: Allocator) -> tuple[bool, ...]:
    """Sort key: the allocator of most of the memory comes first (False before True)."""
    general, used = allocator.name in _GENERAL, allocator.serves != "not malloc"
    return (
        not (general and allocator.serves == "malloc"),
        not (general and allocator.linked == "in the executable" and used),
        not (general and used),
        allocator.name in _GENERAL or allocator.name in _LIBC,  # a language runtime first
        allocator.serves != "malloc",
        allocator.serves == "not malloc",
    )


def find_allocators(pid: int) -> list[Allocator]:
    """Find the allocators of a process, that of most of its memory first.

    The list is empty if nothing can be read, for example because the process has ended.
    """
    view = View(pid)
    try:
        images = [(mapped, scan_image(mapped.path, mapped.name)) for mapped in mapped_images(pid)]
        view.environ_at = [
            bias + address
            for mapped, facts in images
            if facts.environ and (bias := mapped.bias(facts.loaded)) is not None
            for address in facts.environ
        ]
        serving = serving_image(images, view)
        found = []
        for own in images:
            mapped, facts = own
            for build in facts.builds:
                options = _options(build, own, images[0], view)
                unknown = list(build.unknown)
                if serving is None and not build.prefix:
                    unknown.append(
                        "whether it serves malloc: the dynamic linker has not bound malloc yet"
                    )
                found.append(
                    Allocator(
                        name=build.name,
                        version=build.version,
                        linked=_linked(build, mapped, own is images[0], view),
                        settings={
                            name: view.environment[name]
                            for name in build.variables
                            if name in view.environment
                        },
                        serves=_serves(build, mapped, serving, view),
                        variables=list(build.variables),
                        options=options,
                        page_size=_page_size(build, own, view),
                        unknown=unknown,
                    )
                )
        problems = [facts.problem for _, facts in images if facts.problem]
        if serving and not any(facts.builds for mapped, facts in images if mapped is serving):
            problems.append(
                f"malloc is served by {serving.name}, an allocator that ptescope does not know."
            )
    except OSError:
        return []
    found.sort(key=_rank)
    if found and problems:
        found[0].unknown.extend(problems)
    return found
