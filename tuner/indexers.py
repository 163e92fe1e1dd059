"""Which indexer a session uses."""

from __future__ import annotations

from dataclasses import dataclass

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Indexer

__all__ = ["INDEXERS", "IndexerChoice", "make_indexer"]

INDEXERS = ("auto", "fast", "crystfel")


@dataclass(frozen=True)
class IndexerChoice:
    """What a user asked for.

    Attributes
    ----------
    name : str
        One of `INDEXERS`; "auto" takes CrystFEL where it is installed.
    method : str or None
        CrystFEL's indexing method; None takes the best that is installed.
    effort : str
        How hard xgandalf tries: one of `wrappers.crystfel.options.EFFORTS`.
    timeout : float or None
        Longest time of one evaluation's indexing with CrystFEL, in seconds; None leaves it to
        the number of frames.
    """

    name: str = "auto"
    method: str | None = None
    effort: str = "normal"
    timeout: float | None = None

    @property
    def crystfel(self) -> bool:
        """Whether this comes to CrystFEL here."""
        return self.name == "crystfel" or (self.name == "auto" and find_indexamajig() is not None)


def make_indexer(choice: IndexerChoice, geometry: Geometry, cell: Cell, *, jobs: int) -> Indexer:
    """Return an indexer.

    Parameters
    ----------
    choice : IndexerChoice
    geometry : Geometry
    cell : Cell
    jobs : int
        Processes that CrystFEL may use.

    Raises
    ------
    ProgramError
        If CrystFEL is asked for and cannot be used.
    """
    # Imported when needed: one waits for an outside program, the other for Numba.
    if choice.crystfel:
        from wrappers.crystfel.persistent import PersistentCrystfelIndexer

        return PersistentCrystfelIndexer(
            geometry,
            cell,
            method=choice.method,
            effort=choice.effort,
            jobs=jobs,
            timeout=choice.timeout,
        )
    from wrappers.lattices.fast_indexer import FastIndexer

    return FastIndexer(geometry, cell)
