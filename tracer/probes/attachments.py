# SPDX-License-Identifier: GPL-2.0-only
"""The sources of events, each attached in the best way that this kernel allows.

The choice is made for each source by trying, newest way first; why a way was not taken is
kept, for `ptescope doctor`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from shadow.errors import NotPermittedError, PtescopeError, UnsupportedHostError
from tracer.bpf.btf import Btf
from tracer.bpf.hook import AttachType, Hook
from tracer.bpf.program import BpfProgram
from tracer.capabilities import has_sys_admin
from tracer.kernel import lockdown
from tracer.probes.sources import SOURCES, Backend, Method, Source

__all__ = ("Attachments", "Attachment")

_RIGHTS = (
    " This needs root, or CAP_BPF and CAP_PERFMON; at kprobes and tracepoints CAP_SYS_ADMIN, too, "
    "where kernel.perf_event_paranoid is above 2."
)
_POLICY = " It is refused in spite of CAP_SYS_ADMIN: by this kernel's policy, or the container's."
_LOCKED = " The kernel is locked down (confidentiality): census and replay work."


def _hint(family: type[PtescopeError]) -> str:
    """What may be done about a source that can be taken in no way."""
    if lockdown() == "confidentiality":
        return _LOCKED
    if family is UnsupportedHostError:
        return ""
    return _POLICY if has_sys_admin() else _RIGHTS


@dataclass
class Attachment:
    """How a source's events are taken.

    Attributes:
        way: the way taken; None: there is none.
        refused: why the better ways are not taken.
        detach: what undoes it.
    """

    method: Method | None = None
    refused: dict[Backend, str] = field(default_factory=dict)
    detach: list[Callable[[], None]] = field(default_factory=list)

    @property
    def backend(self) -> Backend | None:
        """Of the way that is taken."""
        return self.method.backend if self.method else None


def _methods(source: Source, backend: Backend | None) -> list[Method]:
    """What to try: all, or the forced back end, or what follows where a source has it not."""
    if backend is None:
        return list(source.methods)
    order = list(Backend)
    after = [
        method for method in source.methods if order.index(method.backend) >= order.index(backend)
    ]
    return after[:1]


class Attachments:
    """What is attached.

    Args:
        program: the compiled probes.
        btf: the kernel's.
        unknown: macros of the BPF C for which this kernel has no value.
        backend: take what can be taken so in this way, and nothing in a better one.

    Attributes:
        choices: how each source's events are taken, by its name.

    Raises:
        NotPermittedError: the kernel refuses BPF programs for lack of rights.
        UnsupportedHostError: a source that is needed can be taken in no way.
    """

    def __init__(
        self, program: BpfProgram, btf: Btf, unknown: Collection[str], backend: Backend | None
    ) -> None:
        hooks = [hook for source in SOURCES for method in source.methods for hook in method.hooks]
        self._functions = btf.functions([hook.where for hook in hooks])
        self._program, self._backend = program, backend
        self._raw: set[Hook] = set()
        self._sources = {source.name: source for source in SOURCES}
        self._methods = {source.name: _methods(source, backend) for source in SOURCES}
        self.by_source = {source.name: Attachment() for source in SOURCES}
        for source in SOURCES:
            if missing := [macro for macro in source.macros if macro in unknown]:
                refusals = {method.backend: f"no {missing[0]} in BTF" for method in source.methods}
                self.by_source[source.name].refused = refusals
            else:
                self._choose(source)

    def _choose(self, source: Source) -> None:
        """Attach the best way that is left."""
        attachment, methods = self.by_source[source.name], self._methods[source.name]
        last: type[PtescopeError] = UnsupportedHostError
        while methods and attachment.method is None:
            method = methods.pop(0)
            if source.rare and method.backend is Backend.RAW_TRACEPOINT and not self._all_calls():
                attachment.refused[method.backend] = "every call of every process would pass there"
                continue
            try:
                for hook in method.hooks:
                    attachment.detach.append(self._attach(hook))
            except (NotPermittedError, UnsupportedHostError) as error:
                self._give_up(attachment)
                attachment.refused[method.backend], last = str(error), type(error)
            else:
                attachment.method = method
                if source.call is not None and method.backend is Backend.RAW_TRACEPOINT:
                    self._program.update("by_raw_tracepoint", source.call, 1 + source.rare)
        if attachment.method is None and source.needed:
            asked = f" (--backend {self._backend} was asked for)" if self._backend else ""
            reasons = "; ".join(attachment.refused.values())
            said = f"{source.name} can be traced in no way here{asked}: {reasons}.{_hint(last)}"
            raise last(said)

    def _all_calls(self) -> bool:
        """Whether something is attached to every system call already."""
        return any(hook.where == "sys_exit" for hook in self._raw)

    def _attach(self, hook: Hook) -> Callable[[], None]:
        if hook.attach_type is not AttachType.RAW_TRACEPOINT:
            return self._program.attach(hook, self._functions.get(hook.where))
        # One for all system calls: attached by the first, detached with everything.
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
        """The sources that are taken in each way."""
        taken = {
            backend.value: [
                n for n, attachment in self.by_source.items() if attachment.backend is backend
            ]
            for backend in Backend
        }
        return {backend: names for backend, names in taken.items() if names}

    def next_way(self, name: str, why: str) -> None:
        """Take a source's events in the next way, as this one does not do.

        Args:
            name: the source's.
            why: for `Attachment.refused`.

        Raises:
            UnsupportedHostError: no way is left, and it is needed.
        """
        source, attachment = self._sources[name], self.by_source[name]
        assert attachment.method is not None
        attachment.refused[attachment.method.backend] = why
        self._give_up(attachment)
        self._choose(source)
