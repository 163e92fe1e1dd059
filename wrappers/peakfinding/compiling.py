"""How the kernels of the peak finders are compiled, and when compiled ones may be used again.

Numba keeps compiled functions on disk, under their qualified names. It notices a change in a
function's own file, but neither in the files of the functions that it calls, which are compiled
into it, nor in which instructions they use. So both are part of the names here: other sources, or
the plain path of `vectors`, are other kernels.

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

from wrappers.peakfinding.vectors import PLAIN

__all__ = ["inlined", "inner_kernel", "kernel", "part_of_caller"]


def _version() -> str:
    """Return what tells these sources, and the path of `vectors`, from others."""
    digest = hashlib.sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.name.encode() + module.read_bytes())
    return f"{digest.hexdigest()[:10]}{'_plain' if PLAIN else ''}"


_VERSION = _version()


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    function.__qualname__ += f".{_VERSION}"
    return njit(cache=True, nogil=True, **options)(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls; it needs no interpreter lock while it runs."""
    return _compiled(function)


def inner_kernel(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function that only other kernels call, perhaps with other options of Numba's."""
    if function is None:
        return partial(inner_kernel, **options)
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into each kernel that calls it, whatever its length."""
    return inner_kernel(function, forceinline=True)


def part_of_caller(function: Callable[..., Any]) -> Any:
    """Compile a function only as a part of the one kernel that calls it.

    That saves the time to compile it by itself. Not for what is called in an inner loop: arrays
    that are handed over have their references counted.
    """
    return _compiled(function, inline="always")
