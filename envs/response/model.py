"""What parameter sets give on simulated experiments, thousands of times a second.

The response model is the cheapest of three fidelities (frames, recorded tables, this). Spots and
noise are treated by the physics that the renderer uses and the limits that peakfinder8 sets;
what indexing makes of them is described by few coefficients, fitted to experiments that were
rendered, searched and indexed for real (`experiments/fit_responses.py`, `docs/simulation.md`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from envs.box import POLICY_PARAMETERS
from envs.parameter_space import ParameterSpace
from envs.response.coefficients import Coefficients
from envs.response.columns import FRAME_COEFFICIENTS, LIMIT_COEFFICIENTS
from envs.response.kernel import (
    COUNTS,
    LATENTS,
    NORMAL,
    OUTPUTS,
    PARTS,
    Constants,
    Experiments,
    Limits,
    go_through,
    respond,
)
from envs.response.limits import N_LEVELS, find_limits
from envs.response.tables import BRIGHTEST, STEP, make_tables
from envs.simulation.families import KINDS, Draw

__all__ = ["Coefficients", "ResponseModel", "Responses"]

MIN_PEAKS = 10
MOST_DECOYS = 50
N_NODES = 64
"""Frames that stand for all there could be, where a true rate is asked for."""

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Responses:
    """What one evaluation of each of B tasks tells; every field an array (B,).

    Attributes
    ----------
    n_frames, n_hits, n_indexed, n_decoys, n_decoys_indexed : int array
    median_peaks : float array
        Median peaks a hit; NaN without hits.
    explained, residual, scale_deviation : float array
        As in `envs.evaluation.Evaluation`; NaN where nothing is indexed.
    refined_clen, refined_clen_se : float array
        In metres; NaN where nothing is indexed.
    seconds : float array
        Processor time.
    true_rate, true_hit_rate : float array
        Indexed by their own lattice, and hits, as shares of infinitely many frames: what only
        a simulator knows.
    """

    n_frames: Ints
    n_hits: Ints
    n_indexed: Ints
    n_decoys: Ints
    n_decoys_indexed: Ints
    median_peaks: Array
    explained: Array
    residual: Array
    scale_deviation: Array
    refined_clen: Array
    refined_clen_se: Array
    seconds: Array
    true_rate: Array
    true_hit_rate: Array

    def true_merit(self, unindexed_hit_penalty: ArrayLike) -> Array:
        """Return the merit on infinitely many frames (B,), where nothing is indexed by chance."""
        not_indexed = self.true_hit_rate - self.true_rate
        return np.asarray(self.true_rate - np.asarray(unindexed_hit_penalty) * not_indexed)


class ResponseModel:
    """A batch of experiments that answer settings.

    Parameters
    ----------
    draws : list of Draw
        From `envs.simulation.families.draw_experiments`.
    coefficients : Coefficients, optional
        The fitted ones unless others are to be tried.

    Notes
    -----
    Frames are latent random numbers made from an experiment's seed, a realisation's number and
    the frame's own, so every parameter set sees the same frames. Another realisation (`draws` of
    `evaluate`) is another sample of the same experiment's frames.
    """

    def __init__(self, draws: Sequence[Draw], coefficients: Coefficients | None = None) -> None:
        self._tables = make_tables(draws)
        self._kinds = np.array([list(KINDS).index(draw.kind) for draw in draws])
        self._coefficients = _arrays(Coefficients.load() if coefficients is None else coefficients)
        self._rows = np.arange(len(self._tables))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: ArrayLike) -> ResponseModel:
        """Return a batch of some of the experiments; one may come several times."""
        taken = copy.copy(self)
        taken._rows = self._rows[np.asarray(indices, np.int64)]
        return taken

    def with_coefficients(self, coefficients: Coefficients) -> ResponseModel:
        """Return the same experiments with other coefficients."""
        changed = copy.copy(self)
        changed._coefficients = _arrays(coefficients)
        return changed

    @property
    def known(self) -> dict[str, Array]:
        """What is known before anything is evaluated, by name, each an array (B,).

        ``photon_energy`` (eV); ``median`` and ``bright`` (median and 99.9th percentile of the
        pixels, ADU); ``clen0`` (the geometry's, m); ``kind`` (place in
        `envs.simulation.families.KINDS`);
        ``pixel_size`` (m); ``radius`` (largest, pixels); ``n_pixels``.
        """
        tables = self._tables
        everything = {
            "photon_energy": tables.photon_energy,
            "median": tables.background[:, 0],
            "bright": tables.background[:, 1],
            "clen0": tables.column("clen0"),
            "kind": self._kinds,
            "pixel_size": tables.pixel_size,
            "radius": tables.radius,
            "n_pixels": tables.column("n_pixels"),
        }
        return {name: column[self._rows] for name, column in everything.items()}

    @property
    def true_clen(self) -> Array:
        """Where the detector really is, hidden from any searcher, in metres, (B,)."""
        return self._tables.column("clen")[self._rows]

    def evaluate(
        self,
        settings: Mapping[str, ArrayLike],
        n_frames: ArrayLike | None = None,
        draws: ArrayLike = 0,
    ) -> Responses:
        """Return what one parameter set for each experiment gives.

        Parameters
        ----------
        settings : mapping of str to array (B,)
            By the names of `POLICY_PARAMETERS`, in their units; without ``mask_hot_sigma`` no mask.
        n_frames : array (B,), optional
            Frames of the sample, 100 by default.
        draws : array (B,), optional
            Number of the realisation.
        """
        return self._evaluate(settings, n_frames, draws, N_NODES, 0)[0]

    def outcomes(
        self, settings: Mapping[str, ArrayLike], n_frames: int, draws: ArrayLike = 0
    ) -> tuple[Responses, NDArray[np.float32]]:
        """Return the responses and each frame's outcome (B, n_frames, `COUNTS`)."""
        return self._evaluate(settings, n_frames, draws, N_NODES, n_frames)

    def _evaluate(
        self,
        settings: Mapping[str, ArrayLike],
        n_frames: ArrayLike | None,
        draws: ArrayLike,
        n_nodes: int,
        n_outcomes: int,
        given: Array | None = None,
        most_decoys: int = MOST_DECOYS,
    ) -> tuple[Responses, NDArray[np.float32]]:
        n = len(self)
        columns, limits = self._limits(settings)
        frames = np.array(np.broadcast_to(100 if n_frames is None else n_frames, n), np.int64)
        results = np.empty((n, len(OUTPUTS)))
        outcomes = np.zeros((n, n_outcomes, len(COUNTS)), np.float32)
        respond(
            self._rows,
            columns,
            frames,
            np.array(np.broadcast_to(draws, n), np.int64),
            MIN_PEAKS,
            most_decoys,
            limits,
            self._experiments,
            self._constants,
            np.empty((n, 0, LATENTS)) if given is None else given,
            _nodes(n_nodes),
            results,
            outcomes,
        )
        found: dict[str, Any] = dict(zip(OUTPUTS, results.T, strict=True))
        for name in OUTPUTS:
            if name.startswith("n_"):
                found[name] = found[name].astype(np.int64)
        return Responses(n_frames=frames, **found), outcomes

    def _limits(self, settings: Mapping[str, ArrayLike]) -> tuple[Array, Limits]:
        """Return the settings (B, 5) and what they let through."""
        n, tables = len(self), self._tables
        columns = np.stack(
            [np.broadcast_to(settings.get(name, 0.0), n) for name in POLICY_PARAMETERS], axis=1
        ).astype(float)
        shape = (n, N_LEVELS, tables.ring.shape[1])
        low, high, seen = (np.empty(shape) for _ in range(3))
        false = np.empty((n, N_LEVELS, 2))
        find_limits(
            self._rows, columns, tables.scalars, tables.ring, tables.shares, tables.random_effects,
            self._coefficients[0], low, high, seen, false,
        )  # fmt: skip
        return columns, Limits(low, high, seen, false)

    def parts_of(self, settings: Mapping[str, ArrayLike], latents: Array) -> Array:
        """Return the parts (B, F, `PARTS`) of frames whose latent numbers (B, F, n) are known."""
        columns, limits = self._limits(settings)
        parts = np.empty((*latents.shape[:2], len(PARTS)))
        go_through(self._rows, columns, latents, limits, self._experiments, self._constants, parts)
        return parts

    @property
    def _experiments(self) -> Experiments:
        tables = self._tables
        return Experiments(tables.scalars, tables.reflections, tables.random_effects, tables.seeds)

    @property
    def _constants(self) -> Constants:
        return Constants(BRIGHTEST, STEP, self._coefficients[1])

    def evaluate_frames(
        self, settings: Mapping[str, ArrayLike], latents: Array, most_decoys: int = MOST_DECOYS
    ) -> Responses:
        """Return what the settings give on frames whose latent numbers (B, F, n) are known."""
        n_frames = np.full(len(self), latents.shape[1])
        return self._evaluate(settings, n_frames, 0, 0, 0, latents, most_decoys)[0]

    def best(
        self, spaces: Sequence[ParameterSpace], mask_hot_sigma: float = 8.0
    ) -> tuple[Array, dict[str, Array]]:
        """Return the highest true rate (B,) of any parameter set in the boxes, and that set.

        A grid over min_snr, threshold and min_pix_count at the true camera length, with such a
        mask of bad pixels (0 for none), refined twice around its best point.
        """
        n = len(self)
        snr, threshold, count = (
            np.array([(space[name].low, space[name].high) for space in spaces]).T
            for name in ("min_snr", "threshold", "min_pix_count")
        )
        threshold = np.log(threshold)

        def values(unit: Array, pixels: Array) -> dict[str, Array]:
            return {
                "min_snr": snr[0] + unit[:, 0] * (snr[1] - snr[0]),
                "threshold": np.exp(threshold[0] + unit[:, 1] * (threshold[1] - threshold[0])),
                "min_pix_count": pixels,
                "clen": self.true_clen,
                "mask_hot_sigma": np.full(n, mask_hot_sigma),
            }

        best = np.full(n, -1.0)
        place = np.zeros((n, 3))
        for width, offsets in _SEARCH:
            centre = place.copy() if width < 1 else np.tile([0.5, 0.5, 2.5], (n, 1))
            for offset in offsets:
                unit = np.clip(centre[:, :2] + offset[:2], 0, 1)
                pixels = np.clip(np.rint(centre[:, 2] + offset[2]), *count)
                rate = self._evaluate(values(unit, pixels), 0, 0, N_NODES, 0)[0].true_rate
                better = rate > best
                best = np.where(better, rate, best)
                place[better] = np.column_stack([unit, pixels])[better]
        return best, values(place[:, :2], place[:, 2])


def _arrays(coefficients: Coefficients) -> tuple[Array, Array]:
    """Return the coefficients as the two kernels take them."""
    limits, frames = (
        np.array([getattr(coefficients, name) for name in names])
        for names in (LIMIT_COEFFICIENTS, FRAME_COEFFICIENTS)
    )
    return limits, frames


def _grid(n_snr: int, n_threshold: int, pixels: Sequence[float], width: float) -> Array:
    axes = [width * (np.arange(n) / max(n - 1, 1) - 0.5) for n in (n_snr, n_threshold)] + [
        np.array(pixels)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


_SEARCH = (
    (1.0, _grid(5, 9, (-1.5, -0.5, 0.5, 1.5), 1.0)),
    (0.25, _grid(3, 5, (0.0,), 0.25)),
    (0.08, _grid(3, 3, (0.0,), 0.08)),
)


@lru_cache(maxsize=4)
def _nodes(n: int) -> Array:
    """Return evenly spread latent numbers (n, LATENTS) that stand for all frames."""
    points = qmc.Sobol(LATENTS, rng=0).random(n) if n else np.empty((0, LATENTS))
    for i in NORMAL:
        points[:, i] = ndtri(points[:, i])
    return np.ascontiguousarray(points)
