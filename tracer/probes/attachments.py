# SPDX-License-Identifier: GPL-2.0-only
"""Attach each source of events with the best method that this kernel allows.

For each source, the methods are tried in order, the preferred one first. `ptescope doctor`
shows why the others were refused.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from shadow.errors import NotPermittedError, PtescopeError, UnsupportedHostError
from tracer.bpf.btf import Btf
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.program import BpfProgram
from tracer.capabilities import has_sys_admin
from tracer.kernel import lockdown
from tracer.probes.preemption import preempts_programs
from tracer.probes.sources import SOURCES, Backend, Method, Source

__all__ = ("Attachments", "Attachment")

_RIGHTS = (
    " This needs root, or CAP_BPF and CAP_PERFMON; kprobes and tracepoints also need CAP_SYS_ADMIN "
    "if kernel.perf_event_paranoid is above 2."
)
_POLICY = " A policy of this kernel or container refuses it in spite of CAP_SYS_ADMIN."
_PREEMPTED = "this kernel may preempt programs there, and then skip events of other threads"
_LOCKED = " The kernel is locked down (confidentiality); census and replay still work."


def _hint(family: type[PtescopeError]) -> str:
    """What the user can do if no method works for a source."""
    if lockdown() == "confidentiality":
        return _LOCKED
    if family is UnsupportedHostError:
        return ""
    return _POLICY if has_sys_admin() else _RIGHTS


@dataclass
class Attachment:
    """How a source is attached.

    Attributes:
        method: the method in use; None: none works.
        refused: why other methods are not used, as "PLACE: REASON".
        detach: functions that detach it.
    """

    method: Method | None = None
    refused: dict[Backend, str] = field(default_factory=dict)
    detach: list[Callable[[], None]] = field(default_factory=list)

    @property
    def backend(self) -> Backend | None:
        """The back end of the method in use; None: none."""
        return self.method.backend if self.method else None


def _refusal(method: Method, why: str) -> str:
    """A refusal in the form of `Attachment.refused`."""
    hook = method.hooks[-1]
    return f"{hook.attach_type.value} {hook.where}: {why}"


def _methods(source: Source, backend: Backend | None, *, preempts: bool) -> list[Method]:
    """The methods to try: all, or the forced back end or, if the source lacks it, the next one.

    Args:
        source: the source.
        backend: the forced back end.
        preempts: whether fentry misses events, and so comes last.
    """
    if backend is None:
        return sorted(source.methods, key=lambda each: preempts and _is_fentry(each))
    order = list(Backend)
    after = [
        method for method in source.methods if order.index(method.backend) >= order.index(backend)
    ]
    return after[:1]


def _is_fentry(method: Method) -> bool:
    return method.backend is Backend.FENTRY


def _traced_functions() -> set[str]:
    """The kernel functions of all hooks that need the function's id in BTF."""
    hooks = [hook for source in SOURCES for method in source.methods for hook in method.hooks]
    return {
        hook.where for hook in hooks if hook.attach_type in (AttachType.FENTRY, AttachType.FEXIT)
    }


class Attachments:
    """The attached sources.

    Args:
        program: the compiled probes.
        btf: BTF of the running kernel.
        unknown: macros of the BPF C for which this kernel has no value.
        backend: prefer this back end, and use no better one; None: the best for each source.

    Attributes:
        by_source: how each source is attached, by its name.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: no method works for a required source.
    """

    def __init__(
        self, program: BpfProgram, btf: Btf, unknown: Collection[str], backend: Backend | None
    ) -> None:
        self._functions = btf.functions(_traced_functions())
        self._program, self._backend = program, backend
        self._raw: set[Hook] = set()
        self._sources = {source.name: source for source in SOURCES}
        preempts = backend is None and preempts_programs()
        self._methods = {
            source.name: _methods(source, backend, preempts=preempts) for source in SOURCES
        }
        self.by_source = {source.name: Attachment() for source in SOURCES}
        for source in SOURCES:
            for method in filter(_is_fentry, source.methods if preempts else ()):
                self.by_source[source.name].refused[method.backend] = _refusal(method, _PREEMPTED)
            if missing := [macro for macro in source.macros if macro in unknown]:
                self.by_source[source.name].refused = {
                    method.backend: _refusal(method, f"this kernel's BTF has no {missing[0]}")
                    for method in source.methods
                }
            else:
                self._choose(source)

    def _choose(self, source: Source) -> None:
        """Attach the best of the remaining methods."""
        attachment, methods = self.by_source[source.name], self._methods[source.name]
        last: type[PtescopeError] = UnsupportedHostError
        while methods and attachment.method is None:
            method = methods.pop(0)
            if source.rare and method.backend is Backend.RAW_TRACEPOINT and not self._all_calls():
                attachment.refused[method.backend] = _refusal(
                    method, "it would run for every system call of every process"
                )
                continue
            try:
                for hook in method.hooks:
                    attachment.detach.append(self._attach(hook))
            except (NotPermittedError, UnsupportedHostError) as error:
                self._give_up(attachment)
                attachment.refused[method.backend], last = str(error), type(error)
            else:
                attachment.method = method
                attachment.refused.pop(method.backend, None)
                if source.call is not None and method.backend is Backend.RAW_TRACEPOINT:
                    flag = (1 + source.rare).to_bytes(4, "little")
                    self._program.update("by_raw_tracepoint", source.call, flag)
        if attachment.method is None and source.needed:
            asked = f" (--backend {self._backend} was requested)" if self._backend else ""
            reasons = "; ".join(attachment.refused.values())
            said = f"{source.name} cannot be traced on this host{asked}: {reasons}.{_hint(last)}"
            raise last(said)

    def _all_calls(self) -> bool:
        """Whether a program already runs for every system call."""
        return any(hook.where == "sys_exit" for hook in self._raw)

    def _attach(self, hook: Hook) -> Callable[[], None]:
        if hook.attach_type is not AttachType.RAW_TRACEPOINT:
            return self._program.attach(hook, self._functions.get(hook.where))
        # All system calls share one program: the first source attaches it, `close` detaches it.
        if hook not in self._raw:
            self._program.attach(hook)
        self._raw.add(hook)
        return lambda: None

    @staticmethod
    def _give_up(attachment: Attachment) -> None:
        attachment.method = None
        while attachment.detach:
            attachment.detach.pop()()

    def by_backend(self) -> dict[str, list[str]]:
        """The attached sources by back end."""
        taken = {
            backend.value: [
                n for n, attachment in self.by_source.items() if attachment.backend is backend
            ]
            for backend in Backend
        }
        return {backend: names for backend, names in taken.items() if names}

    def next_way(self, name: str, why: str) -> None:
        """Replace the method of a source, which does not work, by the next one.

        Args:
            name: name of the source.
            why: the reason, for `Attachment.refused`.

        Raises:
            UnsupportedHostError: no method is left, and the source is required.
        """
        source, attachment = self._sources[name], self.by_source[name]
        assert attachment.method is not None
        attachment.refused[attachment.method.backend] = _refusal(attachment.method, why)
        self._give_up(attachment)
        self._choose(source)
