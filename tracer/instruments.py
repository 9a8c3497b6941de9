# SPDX-License-Identifier: GPL-2.0-only
"""What a process is watched with: probes that were seen to work, and a reader of page tables."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager

from tracer.census import Reader, open_reader
from tracer.hooks import Backend
from tracer.kernel import KernelFacts
from tracer.probes import DEFAULT_RING, Probes
from tracer.selfcheck import settle

__all__ = ("add_backend", "instruments")


_NAMES = ", ".join(Backend)


def _backend(text: str) -> Backend:
    try:
        return Backend(text)
    except ValueError as error:
        raise ArgumentTypeError(f"takes one of {_NAMES}, not {text!a}") from error


def add_backend(parser: ArgumentParser) -> None:
    """Declare the option that forces a back end."""
    parser.add_argument(
        "--backend",
        type=_backend,
        metavar="NAME",
        help=f"attach to {_NAMES} where there are such (default: the best that this kernel allows; "
        "see ptescope doctor)",
    )


@contextmanager
def instruments(
    kernel: KernelFacts, *, ring_bytes: int = DEFAULT_RING, backend: Backend | None = None
) -> Iterator[tuple[Probes, Reader]]:
    """Attach and check the probes, open the reader; both are closed at the end.

    Args:
        kernel: the running kernel.
        ring_bytes: size of the ring, a power of two.
        backend: see `Probes`.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: something that the probes need is missing.
    """
    probes = Probes(levels=kernel.levels, ring_bytes=ring_bytes, backend=backend)
    try:
        settle(probes)
        reader = open_reader(kernel.levels)
        try:
            yield probes, reader
        finally:
            reader.close()
    finally:
        probes.close()
