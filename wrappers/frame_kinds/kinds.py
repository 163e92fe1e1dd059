"""The kinds of a run's frames: parts of a mixture with names, carried on from run to run.

They begin from the shipped parts, which are those of the train family's frames. Features are
relative to what is usual in a run, so that the parts hold for other detectors and samples; each
run's frames move their weights and means, and what is of none of them makes further parts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frame_kinds.features import FEATURES, GRID, N_DIRECTIONS, Reference
from wrappers.frame_kinds.layout import ALONG, is_same, places_of
from wrappers.frame_kinds.measures import RINGS
from wrappers.frame_kinds.mixture import MOST_PARTS, Mixture
from wrappers.frame_kinds.naming import KINDS, can_be, name_of
from wrappers.schema import Count, Number, Share, read_json

__all__ = ["FrameKinds", "Part", "parts_of", "shipped_parts"]

Floats = NDArray[np.float64]

SHIPPED = "kinds.json"
"""Beside this file: the parts that the train family's frames make (`experiments.fit_kinds`)."""

PRIOR = 20.0
"""Frames that the shipped parts' weights are worth ..."""
FIRM = 50.0
"""... and frames of a part that its shipped mean is worth, against those of a run."""
MEMORY = 2000.0
"""Frames of a part that weigh at most, against further ones: it may drift over a night."""
ENOUGH_STRANGE = 12
"""Strange frames from which on parts of their own are sought."""
MOST_STRANGE = 500
FEWEST_NEW, LEAST_NEW = 3, 0.005
"""Frames of a kind, and their share of a run, that make it worth to be announced; with fewer it
does not count as seen before, either."""

LEAST_VARIANCE = 1e-6
"""Of a part along any direction; see `mixture.FLOOR`."""

REMEDY = "make it anew with sfx-tuner kinds, or name another file"


@dataclass(frozen=True)
class Part:
    """One part of the mixture.

    Attributes
    ----------
    name : str
        Of `naming.KINDS`.
    prior : float
        Share of the frames that it is thought to have before any is seen.
    n_frames : float
        Frames that it was learnt of, since.
    mean : tuple of float
        By feature, in the order of `features.FEATURES`.
    covariance : tuple of tuple of float
    """

    name: str
    prior: Share
    n_frames: Number
    mean: tuple[Number, ...]
    covariance: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class FrameKinds:
    """The kinds of the frames of one detector.

    Attributes
    ----------
    reference : Reference
        What is usual in the run that they were first learnt of.
    parts : tuple of Part
        Several may have one name: they are one kind.
    shape : (int, int)
        Of the frames (ss, fs).
    n_frames : int
        That were learnt of.
    places : tuple of (float, float)
        Where some of the detector's pixels are; see `layout`.
    strange : tuple of tuple of float
        Features of frames that are of no part, kept until there are enough of them.
    runs : tuple of str
        What tells the runs that were learnt from others (`run.run_digest`).
    """

    reference: Reference
    parts: tuple[Part, ...]
    shape: tuple[Count, Count]
    n_frames: Count
    places: tuple[tuple[Number, Number], ...]
    strange: tuple[tuple[Number, ...], ...] = ()
    runs: tuple[str, ...] = ()

    @classmethod
    def of_run(
        cls, points: Floats, reference: Reference, geometry: Geometry, run: str = ""
    ) -> FrameKinds:
        """Return the kinds of a run's first frames: the shipped parts, adapted to them."""
        begun = cls(reference, shipped_parts(), geometry.slab_shape, 0, places_of(geometry))
        learnt, _ = begun.learn(points, run)
        return learnt

    @property
    def counts(self) -> dict[str, float]:
        """Frames of each kind that was seen, in the order of `naming.KINDS`."""
        total = dict.fromkeys(KINDS, 0.0)
        for part in self.parts:
            total[part.name] += part.n_frames
        for point in self.strange:
            total[name_of(point)] += 1
        return {name: n for name, n in total.items() if n >= 0.5}

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds that were seen, in the order of `naming.KINDS`."""
        return tuple(self.counts)

    def shares(self) -> dict[str, float]:
        """Return the share of each kind among the frames that were learnt of."""
        total = sum(self.counts.values())
        return {name: n / total for name, n in self.counts.items()}

    def assign(self, points: Floats) -> list[str]:
        """Return the kind of each frame, by its features (n, n_features).

        It is the likeliest of those that the frame shows the signs of. A frame that is of no part
        is called by what is seen in it alone.
        """
        if not len(points):
            return []
        mixture = self._mixture
        kinds = [*dict.fromkeys(part.name for part in self.parts)]
        member = np.array([[part.name == name for name in kinds] for part in self.parts], float)
        shares = mixture.responsibilities(points, self._possible(points))
        chosen = (shares @ member).argmax(axis=1)
        return [
            name_of(point.tolist()) if odd else kinds[place]
            for point, place, odd in zip(points, chosen, mixture.strange(points), strict=True)
        ]

    def learn(
        self, points: Floats, run: str = "", seed: int = 0
    ) -> tuple[FrameKinds, tuple[str, ...]]:
        """Return the kinds with further frames learnt, and those that had not been seen before.

        Weights and means follow the frames; frames that are of no part are kept, and make parts of
        their own once there are enough, as many as make held-out ones likeliest. Frames of a run
        that was learnt before count for nothing.
        """
        if not len(points) or run in self.runs:
            return self, ()
        mixture = self._mixture
        known = np.minimum([part.n_frames for part in self.parts], MEMORY)
        prior = PRIOR * np.array([part.prior for part in self.parts])
        possible = self._possible(points)
        adapted, n = mixture.adapted(points, possible, known + prior, known + FIRM)
        parts = tuple(
            replace(part, n_frames=part.n_frames + float(more), mean=tuple(mean.tolist()))
            for part, more, mean in zip(self.parts, n, adapted.means, strict=True)
        )
        strange = [*self.strange, *map(tuple, points[adapted.strange(points)].tolist())]
        strange = strange[-MOST_STRANGE:]
        if len(strange) >= ENOUGH_STRANGE:
            parts, strange = (*parts, *parts_of(np.array(strange), seed=seed)), []
        learnt = replace(
            self,
            parts=parts,
            strange=tuple(strange),
            n_frames=self.n_frames + len(points),
            runs=(*self.runs, *([run] if run else [])),
        )
        if not self.n_frames:
            return learnt, ()
        enough = max(FEWEST_NEW, LEAST_NEW * len(points))
        before = self.counts
        new = (
            name
            for name, n in learnt.counts.items()
            if before.get(name, 0.0) < FEWEST_NEW and n >= before.get(name, 0.0) + enough
        )
        return learnt, tuple(new)

    def _possible(self, points: Floats) -> NDArray[np.bool_]:
        """Return of which parts each point shows the signs (n, n_parts)."""
        names = [*dict.fromkeys(part.name for part in self.parts)]
        shown = np.array([[can_be(name, point) for name in names] for point in points.tolist()])
        return shown[:, [names.index(part.name) for part in self.parts]]

    @cached_property
    def _mixture(self) -> Mixture:
        weights = [min(part.n_frames, MEMORY) + PRIOR * part.prior for part in self.parts]
        return Mixture(
            np.array(weights) / sum(weights),
            np.array([part.mean for part in self.parts]),
            np.array([part.covariance for part in self.parts]),
        )

    def require_detector(self, geometry: Geometry, where: object = "the kinds") -> None:
        """Raise InputError where frames of another detector are to be told apart."""
        shape = geometry.slab_shape
        if shape != self.shape:
            raise InputError(
                f"{where} were learnt of frames of {self.shape} pixels, and these have {shape}: "
                f"{REMEDY}"
            )
        if not is_same(self.places, places_of(geometry)):
            raise InputError(
                f"{where} were learnt with another geometry, which has the pixels elsewhere than "
                f"{geometry.path}: {REMEDY}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all."""
        shares = {name: round(share, 6) for name, share in self.shares().items()}
        text = json.dumps({"kinds": shares, "features": FEATURES, **self.as_dict()})
        write_whole(path, text + "\n")

    @classmethod
    def read(cls, path: Path) -> FrameKinds:
        """Read what `write` wrote.

        Raises
        ------
        InputError
            If it cannot be read, or holds something else.
        """
        found = read_json(path, _File, "the kinds", REMEDY)
        if found.features != FEATURES:
            raise InputError(f"{path} has the features of another version: {REMEDY}")
        reference, n = found.reference, len(FEATURES)
        whole = {len(reference.boxes), len(reference.fano)} == {GRID**2}
        whole &= len(reference.rings) == RINGS and bool(found.parts)
        whole &= len(found.places) == ALONG**2
        whole &= min(reference.swing, reference.dark, reference.gap) >= 0
        whole &= len(reference.directions) == N_DIRECTIONS
        whole &= all(len(each) == n for each in found.strange)
        if not whole or not all(_is_part(part) for part in found.parts):
            raise InputError(f"{path} is damaged: its parts are no mixture; {REMEDY}")
        known = found.shape, found.n_frames, found.places, found.strange, found.runs
        return cls(found.reference, found.parts, *known)


@dataclass(frozen=True)
class _File:
    """What the file holds."""

    kinds: dict[str, Share]
    features: tuple[str, ...]
    reference: Reference
    parts: tuple[Part, ...]
    shape: tuple[Count, Count]
    n_frames: Count
    places: tuple[tuple[Number, Number], ...]
    strange: tuple[tuple[Number, ...], ...]
    runs: tuple[str, ...]


def _is_part(part: Part) -> bool:
    """Whether a part that was read can be one."""
    n = len(FEATURES)
    if part.name not in KINDS or part.n_frames < 0 or part.n_frames + part.prior <= 0:
        return False
    if len(part.mean) != n or [len(row) for row in part.covariance] != [n] * n:
        return False
    covariance = np.array(part.covariance)
    symmetric = bool(np.allclose(covariance, covariance.T))
    return symmetric and float(np.linalg.eigvalsh(covariance)[0]) > LEAST_VARIANCE


def parts_of(
    points: Floats,
    name: str | None = None,
    share: float = 0.0,
    *,
    seed: int = 0,
    most: int = MOST_PARTS,
) -> tuple[Part, ...]:
    """Return the parts that points make, as many as make held-out ones likeliest.

    Parameters
    ----------
    points : float64 array (n, n_features)
    name : str, optional
        Their kind; by default each part is called by what is seen in its frames.
    share : float
        What they are of all frames, before any is seen; 0 where the points themselves count.
    seed, most : int
        Of the fit, and parts at most.
    """
    mixture = Mixture.fit(points, seed, most)
    chosen = mixture.parts(points)
    return tuple(
        Part(
            name or name_of(np.median(points[chosen == place], axis=0).tolist()),
            share * float(weight),
            0.0 if share else float(np.count_nonzero(chosen == place)),
            tuple(mean.round(4).tolist()),
            tuple(map(tuple, covariance.round(5).tolist())),
        )
        for place, (weight, mean, covariance) in enumerate(
            zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        )
        if (chosen == place).any()
    )


@cache
def shipped_parts() -> tuple[Part, ...]:
    """Return the parts that frames of the train family make."""
    path = Path(__file__).with_name(SHIPPED)
    return tuple(read_json(path, list[Part], "the shipped kinds", "install sfx-tuner again"))
