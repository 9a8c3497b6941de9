# SPDX-License-Identifier: GPL-2.0-only
"""Compiles the functions with numba, all of them as one module of LLVM.

numba alone would optimise each function together with everything that it calls, and generate
code for each: three times the work. Here, numba only translates each function to LLVM's language;
LLVM then optimises the whole once. This takes two uses of numba's inner interfaces: a code
library that leaves its module alone, and the name of a function in it.
"""

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core.codegen import AOTCodeLibrary, AOTCPUCodegen
from numba.core.registry import cpu_target

import shadow.machine_code.state_type  # noqa: F401 - registers numba's type of `State`
from shadow.machine_code.image import Function, Layout, written
from shadow.machine_code.linker import link
from shadow.machine_code.move_elements import move_elements
from shadow.machine_code.place import MACHINE, processor
from shadow.table.compiled import Sample, functions
from shadow.table.move import move

__all__ = ("compile_image", "dispatchers")

_OPTIMISATION = 3
_njit: Any = numba.njit


def dispatchers(**options: bool) -> dict[Callable[..., Any], Any]:
    """numba's dispatcher of each compiled function.

    The modules keep their functions, which call each other as Python does; the dispatchers have
    globals of their own, in which each function is its dispatcher.

    Args:
        options: more options of numba's compiler.
    """
    made: dict[Callable[..., Any], Any] = {move: move_elements}
    scopes: dict[str, dict[str, Any]] = {}
    for function, inline in functions().items():
        module = function.__module__
        scope = scopes.setdefault(module, dict(vars(sys.modules[module])))
        scoped = FunctionType(
            function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
        )
        # Without `_nrt=False` numba would count a reference to every array at every call.
        made[function] = _njit(_nrt=False, forceinline=inline, **options)(scoped)
    for scope in scopes.values():
        for name, value in scope.items():
            function = getattr(value, "function", value)  # of an `Entry`
            if isinstance(function, FunctionType) and function in made:
                scope[name] = made[function]
    return made


class _Part(AOTCodeLibrary):
    """The code of one function: only its own, neither optimised nor linked with what it calls."""

    made: "list[_Part]" = []  # noqa: RUF012

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        _Part.made.append(self)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Leave the module as it is."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, _name: str) -> int:
        """Nothing runs in this process."""
        return 0


class _Codegen(AOTCPUCodegen):
    """Makes `_Part`s."""

    _library_class = _Part

    def set_env(self, _name: str, _env: object) -> None:
        """Functions that raise would need it."""


def _module(samples: dict[str, Sample]) -> tuple[Any, dict[str, Function]]:
    """One module with all functions; those that Python calls have their names, and no offset."""
    context: Any = cpu_target.target_context
    codegen = _Codegen("table", processor())
    context._internal_codegen = codegen
    made, called = dispatchers(no_cpython_wrapper=True, no_cfunc_wrapper=True), {}
    for name, sample in samples.items():
        dispatcher = made[sample.function]
        types = tuple(numba.typeof(argument) for argument in sample.arguments)
        dispatcher.compile(types)
        symbol = dispatcher.overloads[types].fndesc.llvm_func_name
        called[symbol] = name, Function(0, sample.kinds, sample.words)
    module = llvm.parse_assembly(str(codegen._create_empty_module("table")))
    for part in _Part.made:
        module.link_in(part._final_module)
    for function in module.functions:
        if function.name in called:
            function.linkage = "external"
            function.name = called[function.name][0]
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    return module, dict(called.values())


def _target(machine: str) -> Any:
    """LLVM's target; it has those of other machines too."""
    if machine == MACHINE:
        return llvm.Target.from_default_triple()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(f"{machine}-unknown-linux-gnu")


def compile_image(samples: dict[str, Sample], machine: str = MACHINE) -> bytes:
    """Compile all functions that Python calls.

    numba's translation is the same for all 64-bit machines; only LLVM asks for which one it is.

    Args:
        samples: arguments of the types that it passes, by name.
        machine: what the code is for, as uname names it.

    Returns:
        The content of a file for `shadow.machine_code.image`.

    Raises:
        ValueError: the code needs something that cannot be linked.
    """
    module, called = _module(samples)
    target = _target(machine)
    emitter = target.create_target_machine(
        cpu=processor(machine), opt=_OPTIMISATION, reloc="pic", codemodel="small"
    )
    module.triple, module.data_layout = target.triple, str(emitter.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=_OPTIMISATION)
    builder = llvm.create_pass_builder(emitter, options)
    builder.getModulePassManager().run(module, builder)
    linked = link(emitter.emit_object(module))
    placed = {
        name: Function(linked.symbols[name], function.arguments, function.words)
        for name, function in called.items()
    }
    return written(Layout(len(linked.code), linked.externals, placed), linked.code)
