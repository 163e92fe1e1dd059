"""How kernels are compiled, and when compiled ones may be used again.

Numba keeps compiled functions on disk, under their qualified names. It notices a change in a
function's own file, but not in the files of the functions that it calls, which are compiled into
it. So the sources of a package of kernels are part of the names here: other sources are other
kernels.

Where a kernel is called from Python as well as by other kernels, Numba writes code that unpacks
the arguments, which takes longer to compile than many a kernel. Those that are only called by
others go without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["Compiler"]

_njit: Any = njit  # (its own annotations know not all of its options)
_SHARED = [
    Path(__file__).with_name(name)
    for name in (
        "compiling.py",
        "sorting.py",
        "array_views.py",
        "packed_arrays.py",
        "linked_kernels.py",
        "known_operations.py",
    )
]


class Compiler:
    """Compiles the kernels of one package.

    Parameters
    ----------
    folder : Path
        Of the package.
    plain : bool
        Whether Numba's inside is not to be touched (`wrappers.peakfinding.vectors`): its kernels
        are others.
    """

    def __init__(self, folder: Path, plain: bool = True) -> None:
        self._plain = plain
        digest = hashlib.sha256()
        for module in (*sorted(folder.glob("*.py")), *_SHARED):
            digest.update(module.name.encode() + module.read_bytes())
        self._version = digest.hexdigest()[:10] + plain * "_plain"

    def _compiled(self, function: Callable[..., Any], **options: Any) -> Any:
        function.__qualname__ += f".{self._version}"
        return _njit(cache=True, nogil=True, no_cfunc_wrapper=True, **options)(function)

    def kernel(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Compile a function that Python calls; it needs no interpreter lock while it runs."""
        if function is None:
            return partial(self.kernel, **options)
        return self._compiled(function, **options)

    def lean_kernel(self, function: Callable[..., Any], **options: Any) -> Any:
        """Compile a kernel with the fewest of Numba's passes, if its code is as fast for it."""
        if self._plain:
            return self._compiled(function)
        from wrappers.linked_kernels import Lean

        return self._compiled(function, pipeline_class=Lean, **options)

    def bare_kernel(self, function: Callable[..., Any]) -> Any:
        """Compile a lean kernel that makes no array: nothing in it counts references, either."""
        return self.lean_kernel(function, _nrt=False)

    def inner_kernel(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Compile a function into those that call it, perhaps with other options of Numba's."""
        if function is None:
            return partial(self.inner_kernel, **options)
        options["no_cpython_wrapper"] = True
        if self._plain:
            return self._compiled(function, **options)
        from wrappers.linked_kernels import Linked

        return _njit(nogil=True, no_cfunc_wrapper=True, pipeline_class=Linked, **options)(function)

    def inlined(self, function: Callable[..., Any]) -> Any:
        """Compile a function into each kernel that calls it, whatever its length."""
        return self.inner_kernel(function, forceinline=True)

    def part_of_caller(self, function: Callable[..., Any]) -> Any:
        """Compile a function only as a part of the one kernel that calls it.

        That saves the time to compile it by itself. Not for what is called in an inner loop: arrays
        that are handed over have their references counted.
        """
        return self._compiled(function, inline="always")
