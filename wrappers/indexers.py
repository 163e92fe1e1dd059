"""The kinds of indexer that a user may name; another one is one more registration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.crystfel.options import EFFORTS, best_method, require_method, require_program
from wrappers.errors import InputError
from wrappers.indexing import Indexer
from wrappers.registry import Registry

if TYPE_CHECKING:
    from wrappers.detector.geometry import Geometry

__all__ = ["AUTO", "INDEXERS", "IndexerChoice", "IndexerKind", "make_indexer", "recorded_choice"]

AUTO = "auto"
"""Stands for the first registered indexer that is available here."""


@dataclass(frozen=True)
class IndexerChoice:
    """What a user asked for.

    Attributes
    ----------
    name : str
        A name in `INDEXERS`, or `AUTO`.
    method : str or None
        CrystFEL's indexing method; None takes the best that is installed.
    effort : str
        How hard xgandalf tries: one of `wrappers.crystfel.options.EFFORTS`.
    timeout : float or None
        Longest time of one evaluation's indexing with CrystFEL, in seconds; None leaves it to
        the number of frames.
    options : tuple of str or None
        Options of CrystFEL's for the method, instead of those of an effort.
    """

    name: str = AUTO
    method: str | None = None
    effort: str = "normal"
    timeout: float | None = None
    options: tuple[str, ...] | None = None

    @property
    def own_name(self) -> str:
        """The name in `INDEXERS` that this comes to here.

        Raises
        ------
        InputError
            If there is no such indexer.
        """
        if self.name == AUTO:
            return next(name for name, kind in INDEXERS.items() if kind.available())
        return INDEXERS.name_of(self.name)

    def settled(self) -> IndexerChoice:
        """Return the choice with everything named that was left open.

        Raises
        ------
        InputError
            If there is no such indexer.
        ProgramError
            If CrystFEL is asked for and cannot be used.
        """
        named = replace(self, name=self.own_name)
        return INDEXERS.get(named.name).settle(named)

    def as_dict(self) -> dict[str, Any]:
        """Return what was asked for as plain values, for `from_dict`."""
        options = None if self.options is None else list(self.options)
        return {**asdict(self), "options": options}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IndexerChoice:
        """Rebuild a choice from `as_dict`'s values, which may come from a stranger's file.

        Raises
        ------
        InputError
            If a value is none that could be asked for.
        """
        timeout, options = values.get("timeout"), values.get("options")
        method, effort = values.get("method"), values.get("effort", "normal")
        if not isinstance(timeout, int | float | None) or effort not in EFFORTS:
            raise InputError(f"the indexer's timeout {timeout!r} or effort {effort!r} is none")
        choice = cls(
            # A session can be read where its indexer is not registered; only using it needs it.
            str(values.get("name", AUTO)),
            None if method is None else str(method),
            str(effort),
            timeout,
            None if options is None else tuple(map(str, options)),
        )
        require_method(choice.method, choice.options)
        return choice

    def record(self) -> dict[str, Any]:
        """Return a settled choice as provenance, for `recorded_choice`."""
        values = {
            "indexer_name": self.name,
            "indexer_method": self.method,
            "indexer_effort": self.effort if self.method else None,
            "indexer_options": None if self.options is None else list(self.options),
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class IndexerKind:
    """A kind of indexer.

    Attributes
    ----------
    make : callable
        Given a choice, the geometry, the cell and the number of processes that it may use,
        returns an `Indexer`.
    words : str
        What it is, for the command line's help.
    available : callable
        Whether it can be used on this machine.
    settle : callable
        Names what a choice left open.
    most_decoys : int
        Decoys that an evaluation affords.
    of_crystfel : bool
        Whether ``indexamajig`` does it, whose own peak search can then be compared, and which
        can be told to index the same way.
    """

    make: Callable[[IndexerChoice, Geometry, Cell, int], Indexer]
    words: str = ""
    available: Callable[[], bool] = lambda: True
    settle: Callable[[IndexerChoice], IndexerChoice] = lambda choice: choice
    most_decoys: int = 50
    of_crystfel: bool = False


def make_indexer(choice: IndexerChoice, geometry: Geometry, cell: Cell, *, jobs: int) -> Indexer:
    """Return an indexer.

    Parameters
    ----------
    choice : IndexerChoice
    geometry : Geometry
    cell : Cell
    jobs : int
        Processes that it may use by itself.

    Raises
    ------
    InputError
        If there is no such indexer.
    ProgramError
        If CrystFEL is asked for and cannot be used.
    """
    return INDEXERS.get(choice.own_name).make(choice, geometry, cell, jobs)


def recorded_choice(provenance: Mapping[str, Any]) -> IndexerChoice:
    """Return the indexer that a session used, from the provenance that it left.

    Until version 0.1 the provenance had nothing but the name that people read.

    Raises
    ------
    InputError
        If it names a method or an option that CrystFEL does not have.
    """
    choice = _recorded(provenance)
    require_method(choice.method, choice.options)
    return choice


def _recorded(provenance: Mapping[str, Any]) -> IndexerChoice:
    if "indexer_name" in provenance:
        method, options = (provenance.get(f"indexer_{what}") for what in ("method", "options"))
        if not isinstance(options, list | None):
            options = [options]
        return IndexerChoice(
            str(provenance["indexer_name"]),
            None if method is None else str(method),
            str(provenance.get("indexer_effort", "normal")),
            options=None if options is None else tuple(map(str, options)),
        )
    shown = re.fullmatch(r"CrystFEL [^,]+, (\S+)(.*)", str(provenance.get("indexer", "")))
    if shown is None:
        return IndexerChoice("fast")
    words = shown[2].split()
    effort = next((word for word in words if word in EFFORTS), "normal")
    options = tuple(word for word in words if word.startswith("--"))
    return IndexerChoice("crystfel", shown[1], effort, options=options or None)


# Imported when needed: one waits for an outside program, the other for Numba.
def _crystfel(choice: IndexerChoice, geometry: Geometry, cell: Cell, jobs: int) -> Indexer:
    from wrappers.crystfel.persistent import PersistentCrystfelIndexer

    return PersistentCrystfelIndexer(
        geometry,
        cell,
        method=choice.method,
        effort=choice.effort,
        options=choice.options,
        jobs=jobs,
        timeout=choice.timeout,
    )


def _crystfel_method(choice: IndexerChoice) -> IndexerChoice:
    return choice if choice.method else replace(choice, method=best_method(require_program(None)))


def _fast(choice: IndexerChoice, geometry: Geometry, cell: Cell, jobs: int) -> Indexer:
    from wrappers.lattices.fast_indexer import FastIndexer

    del choice, jobs
    return FastIndexer(geometry, cell)


INDEXERS: Registry[IndexerKind] = Registry("indexer")
"""In the order in which `AUTO` takes them."""

INDEXERS.register(
    "crystfel",
    IndexerKind(
        _crystfel,
        "CrystFEL's indexamajig",
        available=lambda: find_indexamajig() is not None,
        settle=_crystfel_method,
        # A decoy costs several times as much as a crystal: xgandalf tries it again and again
        # (thaumatin: 15 crystals take 6 core-seconds, their decoys 18).
        most_decoys=20,
        of_crystfel=True,
    ),
)
INDEXERS.register("fast", IndexerKind(_fast, "the embedded indexer"))
