"""How the kernels of lattices are compiled; `wrappers.compiling` has more."""

from pathlib import Path

from wrappers.compiling import Compiler
from wrappers.peakfinding.vectors import PLAIN

__all__ = ["bare_kernel", "inlined", "inner_kernel", "kernel"]

_compiler = Compiler(Path(__file__).parent, PLAIN)
kernel = _compiler.kernel
bare_kernel = _compiler.bare_kernel
inner_kernel = _compiler.inner_kernel
inlined = _compiler.inlined
