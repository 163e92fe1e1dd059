"""Compiled kernels that are older than what they were compiled from.

Numba keeps compiled functions in ``__pycache__`` and notices a change in a function's own file, but
not in the files of the functions that it calls, which are compiled into it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["drop_stale_kernels"]

STAMP = "kernels.stamp"


def drop_stale_kernels(package: Path) -> None:
    """Delete a package's compiled kernels if any of its modules has changed since.

    Without a word where that is not possible: Numba then keeps them elsewhere.
    """
    cache = package / "__pycache__"
    modules = [(path.name, path.stat()) for path in sorted(package.glob("*.py"))]
    stamp = "".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in modules)
    with contextlib.suppress(OSError):
        known = cache / STAMP
        if known.exists() and known.read_text() == stamp:
            return
        for compiled in cache.glob("*.nb[ic]"):
            compiled.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        known.write_text(stamp)
