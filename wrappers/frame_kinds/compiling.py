"""How the kernels of frame kinds are compiled; `wrappers.compiling` has more."""

from pathlib import Path

from wrappers.compiling import Compiler
from wrappers.peakfinding.vectors import PLAIN

__all__ = ["inner_kernel", "kernel"]

_compiler = Compiler(Path(__file__).parent, PLAIN)
kernel, inner_kernel = _compiler.lean_kernel, _compiler.inner_kernel
