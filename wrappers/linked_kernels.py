"""On Numba's inside: functions that are compiled only as parts of those that call them.

Numba optimises a function together with all that it calls, and makes machine code of it; then it
does so once more, with all of that, for each function that calls it. `Linked` leaves a function as
it is until a kernel that Python calls is made of it.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering

__all__ = ["Linked"]


class _Library(JITCodeLibrary):
    """Code to be linked: neither optimised nor loaded."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's own, to a library of the above, and with nothing in it that Python could call."""

    _name = "lowering_to_be_linked"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        named = lowered.fndesc
        module, name = named.lookup_module(), named.qualname.split(".")[-1]
        function = _dynfunc.make_function(module, name, "", 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(function, named, [state.library])
        state["cr"] = lowered._replace(cfunc=function)
        return True


class Linked(CompilerBase):
    """What Numba's `njit` takes as ``pipeline_class``."""

    def define_pipelines(self) -> list[PassManager]:
        """Return Numba's own passes, but for the last but one."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_Lowering if each is NativeLowering else each, words) for each, words in passes.passes
        ]
        passes.finalize()
        return [passes]
