"""How the kernels of the learned peak finder are compiled; `wrappers.compiling` has more."""

from pathlib import Path

from wrappers.compiling import Compiler
from wrappers.peakfinding.vectors import PLAIN

__all__ = ["inner_kernel", "kernel", "part_of_caller"]

_compiler = Compiler(Path(__file__).parent, PLAIN)
kernel = _compiler.kernel
inner_kernel = _compiler.inner_kernel
part_of_caller = _compiler.part_of_caller
