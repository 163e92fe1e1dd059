"""How the kernels of frame kinds are compiled; `wrappers.compiling` has more."""

from pathlib import Path

from wrappers.compiling import Compiler

__all__ = ["kernel"]

kernel = Compiler(Path(__file__).parent).kernel
