"""What a session asks of a searcher, and what a searcher may be able to do beyond that.

A searcher is two methods: `suggest` names a point, `ingest` takes what was measured there. All
else is optional: the abilities that a session must know before anything is measured stand in the
searcher's `SearcherKind`; what a searcher can tell on the way is a protocol of one member
(`Recommends`, `Explains`, `Ends`, `KeepsMap`, `ChoosesFrames`). Nobody asks for a searcher's name
or class to learn what it can do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import ParameterSpace

if TYPE_CHECKING:
    from envs.evaluation import Evaluation
    from envs.look import Looks
    from tuner.map_agent.policy import MapPolicy

__all__ = [
    "ChoosesFrames",
    "Ends",
    "Explains",
    "KeepsMap",
    "Policy",
    "Recommends",
    "SearchTask",
    "Searcher",
    "SearcherKind",
    "Values",
]

Policy: TypeAlias = "MapPolicy"
"""What a searcher goes by that was trained beforehand."""

Values = Mapping[str, float]
"""A parameter set's tuned values, by name."""


class Searcher(Protocol):
    """Proposes values of the tuned parameters and learns from what they gave."""

    def suggest(self) -> dict[str, float] | None:
        """Return the values to try next, by name; None when there is nothing more to propose.

        Asked again before it was answered, it gives the same values.
        """
        ...

    def ingest(self, values: Values, merit: float, evaluation: Evaluation) -> None:
        """Learn that the values, which need not be the last suggestion, gave the merit.

        `values` are within the space; the evaluation may have seen a part of the sample only, and
        may have failed as a whole.
        """
        ...


@runtime_checkable
class Recommends(Protocol):
    """A searcher that says which of its evaluations is to be recommended."""

    def recommend(self) -> int:
        """Return which of the evaluations that it ingested, counted from 0, it would take."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A searcher that says why it suggests what it suggests."""

    @property
    def reason(self) -> str:
        """Why the last suggestion was made, in words; may be empty.

        Once it was evaluated, it may say as well where that was not what was expected.
        """
        ...


@runtime_checkable
class Ends(Protocol):
    """A searcher that says why it has nothing more to suggest."""

    @property
    def ended(self) -> str:
        """Why the last suggestion was None, in words; may be empty."""
        ...


@runtime_checkable
class KeepsMap(Protocol):
    """A searcher that goes by a response map, which the report shows."""

    def keep_map(self, path: Path) -> None:
        """Write the map with all that was ingested, if there is one yet."""
        ...


@runtime_checkable
class ChoosesFrames(Protocol):
    """A searcher that says on how many frames a suggestion is worth measuring.

    It ends by itself: a session cannot tell whether what it has measured on few frames has lost.
    """

    @property
    def n_frames(self) -> int | None:
        """Frames of the sample, in its order, for the last suggestion; None: it is raced."""
        ...


@dataclass(frozen=True)
class SearchTask:
    """What a searcher is made for.

    Attributes
    ----------
    space : ParameterSpace
    seed : int
        Equal tasks and equal evaluations give equal suggestions.
    budget : int or None
        Evaluations that it will be asked for, for searchers that reckon with it; None: nobody
        knows.
    merit : Merit
        What the merits that it will be given are.
    policy : Policy or None
        For a searcher that takes one; None: the shipped one.
    looks : Looks or None
        The evaluator, for a searcher that looks at the frames.
    """

    space: ParameterSpace
    seed: int = 0
    budget: int | None = None
    merit: Merit = USUAL_MERIT
    policy: Policy | None = None
    looks: Looks | None = None


@dataclass(frozen=True)
class SearcherKind:
    """A searcher as it is registered: how it is made, and what it is able to do.

    Attributes
    ----------
    make : callable
        Makes the searcher for a `SearchTask`.
    summary : str
        What it is, in a line.
    handles_geometry : bool
        It sees every evaluation in the whole space, and knows itself what to make of the geometry
        once the lattices fix it. Others are made anew for the space without it.
    starts_itself : bool
        It needs no initial design: after the baseline it is asked at once.
    load_policy : callable, optional
        Reads the policy of a directory, for a searcher that takes one.
    looks : bool
        It looks at the frames (`SearchTask.looks`), so every evaluation tells it something,
        whatever its settings; it is asked before the initial design, which follows where nothing
        indexes.
    peak_finders : tuple of str
        The only ones that it can be used with; empty: any.
    extra : str
        Of `wrappers.extras.EXTRAS`, where it needs one.
    """

    make: Callable[[SearchTask], Searcher]
    summary: str = ""
    handles_geometry: bool = False
    starts_itself: bool = False
    load_policy: Callable[[Path], Policy] | None = None
    looks: bool = False
    peak_finders: tuple[str, ...] = ()
    extra: str = ""
