"""On Numba's inside: kernels that are compiled with no more than they need.

Numba's own list of passes is for whatever Python may hold, and it optimises a function together
with all that it calls, and makes machine code of it; then it does so once more, with all of that,
for each function that calls it. Our kernels are loops over numbers and views
(`wrappers.array_views`): a third of the passes does for them. `Linked` leaves a function as it is
until a kernel that Python calls is made of it; `Lean` is for those.
"""

from __future__ import annotations

import gc
from typing import Any

from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    TranslateByteCode,
)

import wrappers.known_operations  # noqa: F401  (Numba learns of them)

__all__ = ["Lean", "Linked"]


class _Kernel(JITCodeLibrary):
    """Code that is optimised as a whole, and not function by function before."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout


class _Part(_Kernel):
    """Code to be linked: neither optimised nor loaded."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):
    """Numba's own, to a library of the above."""

    _name = "lowering_to_a_kernel"

    def run_pass(self, state: Any) -> bool:
        state.library = _Kernel(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return bool(super().run_pass(state))


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    """Numba's own, to a library to be linked, and with nothing in it that Python could call."""

    _name = "lowering_to_be_linked"

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        named = lowered.fndesc
        module, name = named.lookup_module(), named.qualname.split(".")[-1]
        function = _dynfunc.make_function(module, name, "", 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(function, named, [state.library])
        state["cr"] = lowered._replace(cfunc=function)
        return True


class _Compiler(CompilerBase):
    """Numba's, with few passes, and without looking for garbage: there is much, and little to free.

    No pass is here that inlines on Numba's level, cuts branches off by an argument's value, or
    fuses expressions of arrays.
    """

    lowering: type[NativeLowering]

    def define_pipelines(self) -> list[PassManager]:
        """Return the passes."""
        self.state.type_annotation = None
        passes = PassManager("kernel")
        for each in (
            TranslateByteCode,
            FixupArgs,
            IRProcessing,
            GenericRewrites,
            ReconstructSSA,
            NopythonTypeInference,
            PreLowerStripPhis,
            IRLegalization,
            self.lowering,
            NoPythonBackend,
        ):
            passes.add_pass(each)
        passes.finalize()
        return [passes]

    def compile_extra(self, function: Any) -> Any:
        """Compile a function."""
        outermost = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(function)
        finally:
            if outermost:
                gc.enable()


class Lean(_Compiler):
    """What Numba's `njit` takes as ``pipeline_class`` for a kernel that Python calls."""

    lowering = _KernelLowering


class Linked(_Compiler):
    """What Numba's `njit` takes as ``pipeline_class`` for a part of such kernels."""

    lowering = _PartLowering
