# SPDX-License-Identifier: GPL-2.0-only
"""A BPF program with its maps: created, loaded, attached."""

import os
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from shadow.errors import PtescopeError, UnsupportedHostError
from tracer.bpf.compile import compiled, refused
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.perf_event import attach_kprobe, attach_page_faults, attach_tracepoint
from tracer.bpf.syscall import (
    ProgramType,
    create_map,
    delete_element,
    load_program,
    look_up_element,
    missed_runs,
    next_key,
    open_raw_tracepoint,
    update_element,
)
from tracer.bpf.tracefs import tracepoint_id

__all__ = ("DETACHER", "BpfProgram")

_CONSTANT = struct.Struct("<i")
_CONSTANT_AT = 4
"""Where an instruction has its constant, bytes."""
_PLACEHOLDER = 0x5EC2E7C0DE5EC000
"""The first of the numbers that stand for late macros in compiled programs."""
DETACHER = "(detach)"
"""The name of the process that detaches. systemd does not complain about names in brackets."""
_DETACH = f"printf '{DETACHER}' >/proc/$$/comm; read -r end"
_KEYS = {4: struct.Struct("<I"), 8: struct.Struct("<Q")}


def _load_64(value: int) -> tuple[bytes, bytes]:
    """The two halves of a constant of 64 bits, 8 bytes apart in the code."""
    packed = value.to_bytes(8, "little")
    return packed[:4], packed[4:]


class BpfProgram:
    """One BPF program with its maps.

    Args:
        sources: the BPF C, in the order in which it is compiled.
        defines: macros for the compiler.
        late: macros of 64 bits whose values are not in the compiled program, because they change
            with each run.

    Raises:
        UnsupportedHostError: the program does not compile on this host.
        NotPermittedError: the kernel refuses the program for lack of rights.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        defines: Mapping[str, int],
        late: Mapping[str, int] | None = None,
    ) -> None:
        places = {name: _PLACEHOLDER + number for number, name in enumerate(late or {})}
        self._late = dict(enumerate((late or {}).values(), _PLACEHOLDER))
        self._object = compiled(sources, {**defines, **places})
        self._maps: dict[str, int] = {}
        self._links: list[int] = []
        self._loaded: dict[tuple[str, ProgramType], int] = {}
        self._of_functions: list[int] = []
        try:
            for name, spec in self._object.maps.items():
                self._maps[name] = create_map(name, spec)
        except PermissionError as error:
            self.close()
            raise refused() from error
        except OSError as error:
            self.close()
            raise UnsupportedHostError(
                f"The kernel cannot create a BPF map: {error.strerror}."
            ) from error

    def attach(self, hook: Hook, function_id: int | None = None) -> Callable[[], None]:
        """Load a function and attach it.

        Args:
            hook: the function, and the place.
            function_id: for fentry and fexit: BTF id of the kernel function.

        Returns:
            A function that detaches it.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: this kernel lacks the place, or refuses the attachment.
        """
        try:
            links = self._attach(hook, function_id)
        except PtescopeError as error:
            raise type(error)(f"{hook.attach_type.value} {hook.where}: {error}") from error
        self._links += links

        def detach() -> None:
            for link in links:
                self._links.remove(link)
                os.close(link)

        return detach

    def _attach(self, hook: Hook, function_id: int | None) -> list[int]:
        """Attach a function; returns the file descriptors whose close detaches it."""
        name = hook.function
        match hook.attach_type:
            case AttachType.RAW_TRACEPOINT:
                program = self._program(name, ProgramType.RAW_TRACEPOINT)
                return [open_raw_tracepoint(program, hook.where)]
            case AttachType.TRACEPOINT:
                number = tracepoint_id(hook.where)
                return [attach_tracepoint(self._program(name, ProgramType.TRACEPOINT), number)]
            case AttachType.SOFTWARE_EVENT:
                return attach_page_faults(self._program(name, ProgramType.PERF_EVENT))
            case AttachType.KPROBE | AttachType.KRETPROBE as kind:
                link = attach_kprobe(
                    lambda: self._program(name, ProgramType.KPROBE),
                    hook.where,
                    at_return=kind is AttachType.KRETPROBE,
                )
                return [link]
        if function_id is None:
            raise UnsupportedHostError("this kernel's BTF has no such function")
        at_exit = hook.attach_type is AttachType.FEXIT
        program = load_program(
            self._code(name), ProgramType.TRACING, function_id=function_id, at_exit=at_exit
        )
        self._of_functions.append(program)
        return [open_raw_tracepoint(program, None)]

    def _program(self, name: str, kind: ProgramType) -> int:
        """The file descriptor of a loaded function.

        Several places share one program: the verifier takes up to 30 ms for each that it checks.
        """
        if (name, kind) not in self._loaded:
            self._loaded[name, kind] = load_program(self._code(name), kind)
        return self._loaded[name, kind]

    def _code(self, name: str) -> bytes:
        """The instructions of a function, with the file descriptors of its maps."""
        function = self._object.functions[name]
        code = bytearray(function.code)
        for at, used in function.maps:
            _CONSTANT.pack_into(code, at + _CONSTANT_AT, self._maps[used])
        for place, value in self._late.items():
            stands = _load_64(place)
            at = code.find(stands[0])
            while at >= 0:
                if at % 8 == _CONSTANT_AT and code[at + 8 : at + 12] == stands[1]:
                    code[at : at + 4], code[at + 8 : at + 12] = _load_64(value)
                at = code.find(stands[0], at + 1)
        return bytes(code)

    def load(self, name: str) -> int:
        """Load a function for `run_once`; returns its file descriptor.

        Raises:
            NotPermittedError: for lack of rights.
            UnsupportedHostError: the kernel refuses the function.
        """
        return self._program(name, ProgramType.RAW_TRACEPOINT)

    def missed_runs(self) -> int:
        """How often the kernel has skipped one of the programs; see `missed_runs`."""
        return sum(map(missed_runs, (*self._loaded.values(), *self._of_functions)))

    def map_fd(self, name: str) -> int:
        """The file descriptor of a map."""
        return self._maps[name]

    def _key(self, name: str, key: int) -> bytes:
        return _KEYS[self._object.maps[name].key_bytes].pack(key)

    def update(self, name: str, key: int, value: bytes) -> None:
        """Set an element of a map whose key is an integer.

        Raises:
            OSError: the map is full, or lacks the key.
        """
        update_element(self._maps[name], self._key(name, key), value)

    def look_up(self, name: str, key: int) -> bytes | None:
        """An element of a map; None if the map lacks the key."""
        size = self._object.maps[name].value_bytes
        return look_up_element(self._maps[name], self._key(name, key), size)

    def elements(self, name: str) -> dict[int, bytes]:
        """The elements of a hash map; those that come or go meanwhile may be missing."""
        spec = self._object.maps[name]
        found: dict[int, bytes] = {}
        key: bytes | None = None
        for _ in range(spec.entries):
            key = next_key(self._maps[name], key, spec.key_bytes)
            if key is None:
                break
            value = look_up_element(self._maps[name], key, spec.value_bytes)
            if value is not None:
                found[int.from_bytes(key, "little")] = value
        return found

    def delete(self, name: str, key: int) -> None:
        """Remove an element of a hash map, if it exists."""
        delete_element(self._maps[name], self._key(name, key))

    def close(self) -> None:
        """Free the maps and detach everything.

        The kernel waits for a grace period at each detachment, one after the other, some seconds
        in all. So another process gets the file descriptors, too, and ends once this one has
        closed them: then its end waits.
        """
        waits, ends = os.pipe()
        if self._links:
            with suppress(OSError):  # without setsid, this process waits
                subprocess.run(
                    ["setsid", "--fork", "sh", "-c", _DETACH],
                    cwd="/",
                    stdin=waits,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=self._links,
                    check=False,
                )
        os.close(waits)
        programs = (*self._loaded.values(), *self._of_functions)
        for descriptor in (*self._links, *programs, *self._maps.values()):
            os.close(descriptor)
        os.close(ends)  # only now
        self._links.clear()
        self._loaded.clear()
        self._of_functions.clear()
        self._maps.clear()
