"""Frames of a record, answered at no cost: what the frozen benchmark on frames is searched with.

Only the recorded parameter sets can be answered for. So the box of a session has their values and
no others (`RecordedEvaluator.space`), and whatever is asked beyond that is answered with the
nearest recorded set: the same for every method.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.frame_record import decoded_seconds
from envs.look import AXES, FrameLook, LatticeCounts
from envs.objective import USUAL_MERIT, Merit, merit
from envs.parameter_space import Parameter, ParameterSpace
from wrappers.lattices.geometry_pooling import pool
from wrappers.settings import Settings

__all__ = ["Recorded", "RecordedEvaluator", "RecordedParameter"]

Key = tuple[int, float | None, float, float]


class Recorded(Protocol):
    """Frames with every parameter set of a design, whichever way they were recorded.

    See `envs.evaluators.frame_record.FrameRecord` for the arrays.
    """

    @property
    def settings(self) -> tuple[Settings, ...]:
        """The S parameter sets."""
        ...

    @property
    def space(self) -> ParameterSpace:
        """The box of a session."""
        ...

    @property
    def volume(self) -> float:
        """Of the primitive cell, in Å³."""
        ...

    @property
    def counts(self) -> NDArray[np.uint16]:
        """Peaks (F, S)."""
        ...

    @property
    def own(self) -> NDArray[np.uint16]:
        """Peaks (F, S) on the frame's lattice."""
        ...

    @property
    def indexed(self) -> NDArray[np.bool_]:
        """Whether the list was indexed (F, S)."""
        ...

    @property
    def cost(self) -> NDArray[np.uint8]:
        """Processor time of indexing (F, S), coded."""
        ...

    @property
    def embedded(self) -> NDArray[np.bool_] | None:
        """The embedded indexer's answers (F, S), where `indexed` are another one's."""
        ...

    @property
    def embedded_cost(self) -> NDArray[np.uint8] | None:
        """Their processor time (F, S), coded."""
        ...

    @property
    def search_seconds(self) -> float:
        """Processor time of a search with one set in one frame."""
        ...

    @property
    def look_seconds(self) -> NDArray[np.float32]:
        """Processor time of a search with all sets (F,)."""
        ...

    @property
    def fit(self) -> NDArray[np.float64]:
        """Change of the geometry that the frame's lattice asks for (F, 3)."""
        ...

    @property
    def information(self) -> NDArray[np.float64]:
        """Inverse of its covariance (F, 3, 3)."""
        ...

    @property
    def spread(self) -> NDArray[np.float32]:
        """Residual and deviation of the scale (F, 2)."""
        ...


@dataclass(frozen=True)
class RecordedParameter(Parameter):
    """A tuned setting of which some values were recorded.

    Attributes
    ----------
    values : tuple of float
        The recorded ones; each other is taken for the nearest on the parameter's scale.
    """

    values: tuple[float, ...] = ()

    def clip(self, value: float) -> float:
        """Return the nearest recorded value."""
        there = np.array(self.values)
        # A value of 0 is below every value of a log scale.
        asked = max(value, 1e-300)
        off = np.log(there / asked) if self.scale == "log" else there - value
        return self.values[int(np.argmin(abs(off)))]


class RecordedEvaluator:
    """Answers for some frames of a record as `envs.evaluators.live.LiveEvaluator` does.

    The camera length does not enter what was found: the embedded indexer finds the same within
    5 % of it, and a session begins where the frames put the detector. The lattices' refined
    geometry is pooled from the frames that the parameter set indexes, each with what its best list
    says; where another indexer's answers are recorded, the lattices are those that the embedded one
    finds in the same lists. There are no decoys: the embedded indexer accepts one list in a hundred
    by chance.

    Costs are the processor time of indexing when it was recorded; a list that was indexed before is
    not charged again. The look is free, as every session takes it, whatever its searcher.

    Parameters
    ----------
    record : Recorded
    frames : sequence of int
        The sample: rows of the record, in the order in which they are measured.
    """

    def __init__(self, record: Recorded, frames: Sequence[int]) -> None:
        self._record = record
        self._least = np.array([each.min_peaks for each in record.settings])
        self._place = {_search_key(each): n for n, each in enumerate(record.settings)}
        base = record.settings[0]
        self._likely = np.flatnonzero(self._least == base.min_peaks)
        self._box = record.space
        self._axes = [name for name in AXES if name in self._box.names]
        self._grid = np.array([self._units(record.settings[n]) for n in self._likely])
        self._begin(frames)

    def _begin(self, frames: Sequence[int]) -> None:
        self._rows = np.asarray(frames, int)
        self._seconds = decoded_seconds(self._record.cost[self._rows])
        self._paid: dict[Key, int] = {}
        self._owed = 0.0

    def on(self, frames: Sequence[int]) -> RecordedEvaluator:
        """Return another one, which has paid for nothing, on other frames of the record."""
        other = copy.copy(self)
        other._begin(frames)
        return other

    @functools.cached_property
    def space(self) -> ParameterSpace:
        """The box of a session, with the recorded values alone."""
        box = self._box
        return replace(box, parameters=tuple(map(self._recorded, box.parameters)))

    def _recorded(self, parameter: Parameter) -> Parameter:
        if parameter.name not in AXES:
            return parameter
        values = {float(getattr(self._record.settings[n], parameter.name)) for n in self._likely}
        return RecordedParameter(**asdict(parameter), values=tuple(sorted(values)))

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        return len(self._rows)

    @property
    def embedded(self) -> bool:
        """Whether it was indexed with the embedded indexer."""
        return self._record.embedded is None

    @property
    def primitive_volume(self) -> float:
        """Of the cell, in Å³."""
        return self._record.volume

    def nearest(self, settings: Settings) -> int:
        """Return which recorded set answers for a parameter set."""
        exact = self._place.get(_search_key(settings))
        if exact is not None:
            return exact
        off = self._units(settings) - self._grid
        return int(self._likely[np.argmin((off**2).sum(axis=1))])

    def _units(self, settings: Settings) -> NDArray[np.float64]:
        """Return where in the unit cube of the box a parameter set is."""
        return np.array([self._box[name].to_unit(getattr(settings, name)) for name in self._axes])

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what was recorded nearest to the settings, on the first frames of the sample."""
        n = self.n_frames if n_frames is None else min(n_frames, self.n_frames)
        place, rows = self.nearest(settings), self._rows[:n]
        counts = self._record.counts[rows, place]
        hits = counts >= self._least[place]
        indexed = self._record.indexed[rows, place] & hits
        key = place, settings.clen, settings.shift_x, settings.shift_y
        paid = self._paid.get(key, 0)
        new = slice(paid, max(n, paid))
        self._paid[key] = max(n, paid)
        spent = float(
            self._seconds[new, place].sum()
            + self._record.search_seconds * max(n - paid, 0)
            + self._owed
        )
        self._owed = 0.0
        return Evaluation(
            settings=settings,
            outcomes=tuple(
                FrameOutcome(frame, count, hit, int(lattice))
                for frame, count, hit, lattice in zip(
                    rows.tolist(), counts.tolist(), hits.tolist(), indexed.tolist(), strict=True
                )
            ),
            **self._diagnostics(settings, rows[indexed], place),
            seconds=spent,
            core_seconds=spent,
        )

    def _diagnostics(
        self, settings: Settings, rows: NDArray[np.int64], place: int
    ) -> dict[str, Any]:
        record = self._record
        known = rows[np.isfinite(record.fit[rows, 0])]
        if not known.size:
            return {}
        change, covariance = pool(record.fit[known], record.information[known])
        errors = np.sqrt(np.diag(covariance)).tolist()
        there = record.settings[place]
        names = ("clen", "shift_x", "shift_y")
        at = [float(getattr(there, name) or 0.0) for name in names]
        recorded, tried = at[0], settings.clen or at[0]
        residual, scale = np.median(record.spread[known], axis=0).tolist()
        peaks = record.counts[known, place]
        return {
            "explained": float(np.median(record.own[known, place] / np.maximum(peaks, 1))),
            "residual": residual,
            "scale_deviation": scale + tried / recorded - 1,
            "refined": {
                name: (value + float(off), error)
                for name, value, off, error in zip(names, at, change, errors, strict=True)
            },
        }

    def look(self, settings: Sequence[Settings]) -> FrameLook:
        """Return the peak counts of the sample."""
        places = np.array([self.nearest(each) for each in settings], int)
        counts = self._record.counts[np.ix_(self._rows, places)]
        return FrameLook(tuple(settings), tuple(self._rows.tolist()), counts, {})

    def lattice_counts(
        self, measured: Settings, settings: Sequence[Settings], frames: Sequence[int] | None = None
    ) -> LatticeCounts:
        """Return how many peaks of each set are on the lattices that `measured` leads to.

        A frame's lattice is the one that was kept when it was recorded. What is charged is a search
        with every set in each of those frames.
        """
        rows = self._rows if frames is None else np.asarray(frames, int)
        place = self.nearest(measured)
        record = self._record
        hits = record.counts[rows, place] >= self._least[place]
        answers = record.indexed if record.embedded is None else record.embedded
        known = rows[answers[rows, place] & hits]
        if record.embedded_cost is not None:
            self._owed += float(decoded_seconds(record.embedded_cost[rows, place])[hits].sum())
        places = np.array([self.nearest(each) for each in settings], int)
        own = record.own[np.ix_(known, places)]
        counts = record.counts[np.ix_(known, places)]
        share = len(settings) / len(record.settings)
        self._owed += float(record.look_seconds[known].sum()) * min(share, 1.0)
        return LatticeCounts(tuple(known.tolist()), own, np.maximum(counts, own) - own)

    def merits(self, objective: Merit = USUAL_MERIT) -> NDArray[np.float64]:
        """Return the merit of every recorded set on the sample; the truth, where it scores."""
        hits = self._record.counts[self._rows] >= self._least
        indexed = self._record.indexed[self._rows] & hits
        penalty = objective.unindexed_hit_penalty
        found = merit(
            self.n_frames, hits.sum(axis=0), indexed.sum(axis=0), 0, 0,
            unindexed_hit_penalty=penalty,
        )  # fmt: skip
        return np.asarray(found)


def _search_key(settings: Settings) -> tuple[object, ...]:
    """Return what decides peaks and hits."""
    return settings.peak_key, settings.mask_key, settings.min_peaks
