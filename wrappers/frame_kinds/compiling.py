"""How the kernels of frame kinds are compiled; `wrappers.compiling` has more."""

from pathlib import Path

from wrappers.compiling import Compiler

__all__ = ["inner_kernel", "kernel"]

_compiler = Compiler(Path(__file__).parent)
kernel, inner_kernel = _compiler.kernel, _compiler.inner_kernel
