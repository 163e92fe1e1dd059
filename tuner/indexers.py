"""Which indexer a session uses."""

from __future__ import annotations

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Indexer

__all__ = ["INDEXERS", "make_indexer"]

INDEXERS = ("auto", "fast", "crystfel")


def make_indexer(
    name: str, geometry: Geometry, cell: Cell, *, jobs: int, timeout: float | None = None
) -> Indexer:
    """Return an indexer by its name.

    Parameters
    ----------
    name : str
        One of `INDEXERS`; "auto" takes CrystFEL where it is installed.
    geometry : Geometry
    cell : Cell
    jobs : int
        Processes that CrystFEL may use.
    timeout : float, optional
        Longest time for one call of ``indexamajig``, in seconds.

    Raises
    ------
    ProgramError
        If CrystFEL is asked for and cannot be used.
    """
    # Imported when needed: one waits for an outside program, the other for Numba.
    if name == "crystfel" or (name == "auto" and find_indexamajig() is not None):
        from wrappers.crystfel.indexer import CrystfelIndexer

        return CrystfelIndexer(geometry, cell, jobs=jobs, timeout=timeout)
    from wrappers.lattices.fast_indexer import FastIndexer

    return FastIndexer(geometry, cell)
