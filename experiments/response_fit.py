"""Fits the response model's parts, one after the other, to recorded experiments.

Each part is fitted to what was recorded of that part alone: spots to spots, chances of indexing
to the peaks that were really there, and so on, so that one part's error does not hide another's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from scipy.special import expit, log_expit

from envs.box import POLICY_PARAMETERS
from envs.evaluators.recording import DIAGNOSTICS, INDEXED
from envs.response.coefficients import Coefficients
from envs.response.kernel import (
    BRIGHT,
    CHANCE,
    CRYSTAL,
    DECOY,
    INDEX,
    LATENTS,
    LEVEL,
    LOOKED_AT,
    MULTI,
    PARTS,
    SIZE,
    STRICT_LOOKED_AT,
)
from envs.response.model import MIN_PEAKS, ResponseModel
from envs.response.tables import make_tables
from envs.simulation.families import Draw

__all__ = ["Recorded", "fit"]

Array = NDArray[np.float64]

FEW = 3.0
"""Peaks added to sums of peaks before logarithms are taken."""
QUIET = 150
"""False peaks a frame beyond which many of them lie near true spots by chance."""
FULL = 2000
"""Peaks of a frame whose list is, or may be, cut short."""
SAME_FRAMES = 10
"""Settings that tell as much of the same frames as one would of others, about."""
STRICT_PRIOR = 0.5
INDEXABILITY_PRIOR = 0.3
"""Standard deviation between experiments that the logarithm of the peaks needed may have."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """Recorded experiments of a family; the arrays of `envs.evaluators.recording`, E of each."""

    draws: Sequence[Draw]
    arrays: dict[str, NDArray[Any]]
    max_decoys: int

    def __getattr__(self, name: str) -> Array:
        return np.asarray(self.arrays[name], float)

    def bit(self, bit: int) -> NDArray[np.bool_]:
        """Return whether a bit of the state is set, (E, S, N)."""
        return (self.arrays["state"] & bit) > 0

    @property
    def offset(self) -> Array:
        """Relative error of the camera length that was tried, (E, S)."""
        true = np.array([draw.experiment.clen for draw in self.draws])
        return self.setting("clen") / true[:, None] - 1

    def setting(self, name: str) -> Array:
        """Return one of the settings, (E, S)."""
        return self.settings[:, :, POLICY_PARAMETERS.index(name)]

    @property
    def seconds(self) -> Array:
        """Processor seconds (E, S); NaN where they are not those of the whole work.

        The first settings had to read the frames, others found their peaks searched already,
        and a program that ends takes its processor time with it.
        """
        seconds = self.diagnostics[..., DIAGNOSTICS.index("core_seconds")]
        same = (self.n_peaks[:, :, None] == self.n_peaks[:, None]).all(axis=3)
        again = np.tril(same, -1).any(axis=2)
        first = np.arange(seconds.shape[1]) == 0
        return np.where(first | again | (seconds <= 0), np.nan, seconds)

    @property
    def single(self) -> NDArray[np.bool_]:
        """Frames with one crystal, (E, N)."""
        return self.crystals == 1

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Frames without a crystal, (E, N)."""
        return self.crystals == 0

    def parts(self, coefficients: Coefficients) -> dict[str, Array]:
        """Return what the model makes of the very frames, by `PARTS`, each (E, S, N).

        Crystals and background are those that were rendered; what the model draws at random
        beyond them is at its middle.
        """
        e, s, n = self.arrays["state"].shape
        model = self._model(coefficients)
        parts = model.parts_of(self._settings, np.repeat(self._latents(), s, axis=0))
        return dict(zip(PARTS, np.moveaxis(parts.reshape(e, s, n, -1), -1, 0), strict=True))

    def _model(self, coefficients: Coefficients) -> ResponseModel:
        """Return the model of every parameter set of every experiment, (E S,)."""
        e, s, _ = self.arrays["state"].shape
        return self._plain.with_coefficients(coefficients).take(np.repeat(np.arange(e), s))

    @cached_property
    def _plain(self) -> ResponseModel:
        """The model of the experiments, without what it cannot know of them."""
        draws = [
            dataclasses.replace(d, random_effects=(0.0,) * len(d.random_effects))
            for d in self.draws
        ]
        return ResponseModel(draws, Coefficients())

    def evaluations(self, coefficients: Coefficients) -> dict[str, Array]:
        """Return what the model's evaluations of the very frames tell, by name, each (E, S).

        Chance is drawn, the same for every parameter set.
        """
        e, s, n = self.arrays["state"].shape
        latents = self._latents()
        rng = np.random.default_rng(0)
        latents[..., [INDEX, CHANCE, DECOY]] = rng.random((e, n, 3))
        latents[..., SIZE] = rng.standard_normal((e, n))
        responses = self._model(coefficients).evaluate_frames(
            self._settings, np.repeat(latents, s, axis=0), self.max_decoys
        )
        return {name: np.reshape(value, (e, s)) for name, value in vars(responses).items()}

    @property
    def _settings(self) -> dict[str, Array]:
        return dict(
            zip(POLICY_PARAMETERS, self.settings.reshape(-1, len(POLICY_PARAMETERS)).T, strict=True)
        )

    def _latents(self) -> Array:
        background = [draw.experiment.background for draw in self.draws]
        crystals = [draw.experiment.crystals for draw in self.draws]
        level = np.array([b.level for b in background])[:, None]
        jitter = np.array([np.hypot(b.jitter, b.drift / np.sqrt(2)) for b in background])[:, None]
        median = np.array([c.photons for c in crystals])[:, None]
        spread = np.array([c.photons_spread for c in crystals])[:, None]
        latents = np.zeros((*self.level.shape, LATENTS))
        latents[..., LEVEL] = np.log(self.level / level) / jitter
        latents[..., BRIGHT] = np.log(np.maximum(self.photons, 1e-3) / median) / spread
        latents[..., CRYSTAL] = self.crystals == 0
        latents[..., MULTI] = 1
        return latents


def fit(recorded: Recorded, by_crystfel: Recorded) -> Coefficients:
    """Return the coefficients that describe the recorded experiments best.

    Parameters
    ----------
    recorded : Recorded
        Indexed by the embedded indexer.
    by_crystfel : Recorded
        Indexed by CrystFEL; only what is particular to strict indexers is fitted to it.
    """
    found = Coefficients()
    for part in (_spots, _false_peaks, _indexing, _chance, _diagnostics, _cost):
        found = part(recorded, found)
    return _strict_cost(by_crystfel, _strictness(by_crystfel, found))


def _sums(values: Array, frames: NDArray[np.bool_]) -> Array:
    """Return sums over chosen frames: values (E, S, N), frames (E, S, N) -> (E, S)."""
    return np.where(frames, values, 0).sum(axis=2)


def _refined(
    names: Sequence[str],
    residuals: Callable[[Coefficients], Array],
    start: Coefficients,
) -> Coefficients:
    """Return the coefficients with some of them fitted by robust least squares."""

    def of(values: Array) -> Coefficients:
        return dataclasses.replace(start, **dict(zip(names, values.tolist(), strict=True)))

    first = [getattr(start, name) for name in names]
    found = least_squares(lambda x: residuals(of(x)), first, loss="soft_l1", f_scale=0.3)
    return of(found.x)


def _spots(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit which spots are found, where noise peaks do not pass for spots."""
    peaks, true = recorded.n_peaks, recorded.n_true
    blank = np.repeat(recorded.blank[:, None], peaks.shape[1], axis=1)
    noise = _sums(peaks, blank) / np.maximum(blank.sum(axis=2), 1)
    frames = recorded.single[:, None] & (peaks < FULL) & (noise < QUIET)[..., None]
    measured = _sums(true, frames)

    def residuals(coefficients: Coefficients) -> Array:
        expected = _sums(recorded.parts(coefficients)["own"], frames)
        seen = (measured + expected) > 10
        return np.where(seen, np.log((measured + FEW) / (expected + FEW)), 0).ravel()

    names = ("spot_need", "need_per_pixel", "soft", "soft_per_pixel", "snr_need", "blind")
    found = _refined(names, residuals, start)
    off = residuals(found).reshape(measured.shape)
    middle = np.array([np.median(row[row != 0]) if row.any() else 0.0 for row in off])

    # how much single frames scatter about their own experiment's curve, beyond Poisson
    expected = recorded.parts(found)["own"] * np.exp(off)[..., None]
    some = frames & (expected > 20)
    excess = ((true - expected) ** 2 - expected)[some] / expected[some] ** 2
    spread = float(np.sqrt(np.clip(np.mean(np.clip(excess, -1, 1)), 0.01**2, 0.5**2)))
    # spots grow about as the brightness does
    return dataclasses.replace(found, spots_effect=_deviation(middle), spread=spread)


def _false_peaks(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit the peaks of blank frames."""
    peaks = recorded.n_peaks
    frames = recorded.blank[:, None] & (peaks < FULL)
    measured = _sums(peaks, frames)

    def residuals(coefficients: Coefficients) -> Array:
        expected = _sums(recorded.parts(coefficients)["other"], frames)
        seen = (measured + expected) > 10
        return np.where(seen, np.log((measured + FEW) / (expected + FEW)), 0).ravel()

    found = _refined(
        ("false_scale", "false_per_pixel", "hot_scale", "blind_false"), residuals, start
    )
    off = residuals(found).reshape(measured.shape)
    middle = np.array([np.median(row[row != 0]) if row.any() else 0.0 for row in off])
    return dataclasses.replace(found, false_effect=_deviation(middle))


def _deviation(values: Array) -> float:
    """Return a robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _indexing(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit the chance that a lattice is found, by maximum likelihood.

    Each experiment has an indexability, normally distributed. The parameter sets of one experiment
    share its frames, so each of them counts as one part of `SAME_FRAMES`.
    """
    near = np.abs(recorded.offset) < 0.005
    own, peaks = recorded.n_true, recorded.n_peaks
    chosen = recorded.single[:, None] & near[..., None] & (peaks >= MIN_PEAKS) & (own > 1)
    n = len(own)
    which = np.broadcast_to(np.arange(n)[:, None, None], own.shape)[chosen]
    found = recorded.bit(INDEXED)[chosen]
    tables = make_tables(recorded.draws)
    factors = np.stack(
        [
            np.ones(len(which)),
            np.log1p((peaks - own)[chosen] / own[chosen]),
            tables.column("shift_reach")[which],
            tables.column("crowding")[which],
        ]
    )
    log_own = np.log(own[chosen])

    def loss(x: Array) -> tuple[float, Array]:
        steepness, indexability = np.exp(x[0]), x[5:]
        spare = log_own - x[1:5] @ factors - indexability[which]
        logit = steepness * spare
        pull = (expit(logit) - found) / SAME_FRAMES
        value = -np.where(found, log_expit(logit), log_expit(-logit)).sum() / SAME_FRAMES
        slopes = [[(pull * logit).sum()], -steepness * (factors @ pull)]
        of_own = -steepness * np.bincount(which, pull, n) + indexability / INDEXABILITY_PRIOR**2
        return float(value + (indexability**2).sum() / 2 / INDEXABILITY_PRIOR**2), np.concatenate(
            [*slopes, of_own]
        )

    x = np.concatenate([[np.log(start.steepness), start.enough, start.dilution], np.zeros(2 + n)])
    x = minimize(loss, x, jac=True, method="L-BFGS-B").x
    return dataclasses.replace(
        start,
        steepness=float(np.exp(x[0])),
        enough=float(x[1] + x[5:].mean()),
        dilution=float(x[2]),
        misplaced=float(x[3]),
        crowded=float(x[4]),
        enough_effect=float(np.std(x[5:])),
    )


def _chance(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit how often lists without a lattice are accepted: blank frames and decoys."""
    peaks = recorded.n_peaks
    hit = peaks >= MIN_PEAKS
    blank = recorded.blank[:, None] & hit
    decoys = hit & (np.cumsum(hit, axis=2) <= recorded.max_decoys)
    accepted = recorded.bit(INDEXED)

    def loss(x: Array) -> float:
        p = np.clip(np.exp(x[0] - peaks / np.exp(x[1])), 1e-6, 0.5)
        real = np.where(accepted, np.log(p), np.log1p(-p))[blank].sum()
        # which of the decoys were accepted was not kept, only how many
        expected = _sums(p, decoys)
        some = expected > 0
        scrambled = recorded.n_decoys_indexed[some] * np.log(expected[some]) - expected[some]
        return float(-real - scrambled.sum())

    x = minimize(loss, [np.log(start.chance), np.log(start.chance_fades)], method="Nelder-Mead").x
    return dataclasses.replace(start, chance=float(np.exp(x[0])), chance_fades=float(np.exp(x[1])))


def _diagnostics(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit what the lattices say, evaluation by evaluation, where enough of them say it."""
    diagnostics = dict(zip(DIAGNOSTICS, np.moveaxis(recorded.diagnostics, -1, 0), strict=True))
    enough = (recorded.bit(INDEXED).sum(axis=2) >= 4) & (np.abs(recorded.offset) < 0.02)

    def residuals(coefficients: Coefficients) -> Array:
        expected = recorded.evaluations(coefficients)
        parts = []
        for name, scale in (("explained", 0.1), ("residual", 0.0), ("refined_clen_se", 0.0)):
            measured, model = diagnostics[name], expected[name]
            off = (measured - model) / scale if scale else np.log(measured / model)
            parts.append(np.where(enough & np.isfinite(off), off, 0).ravel())
        return np.concatenate(parts)

    names = (
        "explained_own",
        "explained_reach",
        "residual_own",
        "residual_grows",
        "residual_near",
        "clen_error",
    )
    return _refined(names, residuals, start)


def _cost(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit processor seconds, without the settings that find their answers made already."""
    lists, listed, failures = _lists(recorded, LOOKED_AT)
    pixels = np.array([draw.n_pixels for draw in recorded.draws]) * 1e-6
    n_frames = np.full(lists.shape, recorded.n_peaks.shape[2])
    columns = (n_frames, n_frames * pixels[:, None], lists, listed, failures)
    names = ("per_frame", "per_pixel", "per_list", "per_peak", "per_failure")
    return _priced(names, columns, recorded.seconds, start)


def _lists(recorded: Recorded, looked_at: float) -> tuple[Array, Array, Array]:
    """Return the lists, decoys included, those without a lattice and their peaks, (E, S) each.

    Of one list no more than `looked_at` peaks count.
    """
    hits = recorded.n_peaks >= MIN_PEAKS
    n_hits = hits.sum(axis=2)
    decoys = np.minimum(n_hits, recorded.max_decoys)
    not_indexed = hits & ~recorded.bit(INDEXED)
    failed_decoys = decoys - recorded.n_decoys_indexed
    listed = np.minimum(recorded.n_peaks, looked_at)
    of_decoys = failed_decoys * _sums(listed, hits) / np.maximum(n_hits, 1)
    return (
        n_hits + decoys,
        _sums(listed, not_indexed) + of_decoys,
        not_indexed.sum(axis=2) + failed_decoys,
    )


def _priced(
    names: Sequence[str], columns: Sequence[Array], seconds: Array, start: Coefficients
) -> Coefficients:
    """Return the coefficients with prices, none negative, that add up to the seconds.

    Ratios count, but of what takes next to no time; outliers count little, as a program that is
    started anew has lost its processor time.
    """
    known = seconds > 0
    rows = np.stack([column[known] for column in columns], axis=1)
    seconds = seconds[known]
    little = 0.1 * np.median(seconds)
    first = rows.T @ seconds / np.maximum((rows**2).sum(axis=0), 1e-9) / len(names)
    scale = np.maximum(first, 1e-9)
    found = least_squares(
        lambda x: np.log((rows @ (x * scale) + little) / (seconds + little)),
        np.ones(len(names)),
        bounds=(0, np.inf),
        loss="soft_l1",
        f_scale=0.3,
    )
    return dataclasses.replace(start, **dict(zip(names, (found.x * scale).tolist(), strict=True)))


def _strictness(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit how many peaks of others a strict indexer takes, by maximum likelihood.

    Each experiment has an indexability, which moves both the peaks it needs and the limit.
    """
    near = np.abs(recorded.offset) < 0.005
    own, peaks = recorded.n_true, recorded.n_peaks
    chosen = recorded.single[:, None] & near[..., None] & (peaks >= MIN_PEAKS) & (own > 1)
    which = np.broadcast_to(np.arange(len(own))[:, None, None], own.shape)[chosen]
    others = np.log(np.maximum(peaks - own, 0.1)[chosen] / own[chosen])
    found = recorded.bit(INDEXED)[chosen]
    tables = make_tables(recorded.draws)
    enough = start.enough + start.dilution * np.log1p(np.exp(others))
    enough += start.misplaced * tables.column("shift_reach")[which]
    enough += start.crowded * tables.column("crowding")[which]
    spare = np.log(own[chosen]) - enough

    def loss(x: Array) -> float:
        indexability = x[3:][which]
        p = expit(start.steepness * (spare - x[0] + indexability))
        p = p * expit(np.exp(x[2]) * (x[1] - others + indexability))
        p = np.clip(p, 1e-6, 1 - 1e-6)
        value = -np.where(found, np.log(p), np.log1p(-p)).sum() / SAME_FRAMES
        return float(value + (x[3:] ** 2).sum() / 2 / STRICT_PRIOR**2)

    first = [start.strict_enough, start.strict_limit, np.log(start.strict_power)]
    x = minimize(loss, [*first, *np.zeros(len(own))], method="L-BFGS-B").x
    return dataclasses.replace(
        start,
        strict_enough=float(x[0] - x[3:].mean()),
        strict_limit=float(x[1] + x[3:].mean()),
        strict_power=float(np.exp(x[2])),
        strict_effect=float(np.std(x[3:])),
    )


def _strict_cost(recorded: Recorded, start: Coefficients) -> Coefficients:
    """Fit a strict indexer's processor seconds, the peak search being priced already."""
    pixels = np.array([draw.n_pixels for draw in recorded.draws])[:, None] * 1e-6
    n_frames = recorded.n_peaks.shape[2]
    seconds = recorded.seconds - n_frames * (start.per_frame + start.per_pixel * pixels)
    columns = _lists(recorded, STRICT_LOOKED_AT)
    names = ("strict_per_list", "strict_per_peak", "strict_per_failure")
    return _priced(names, columns, seconds, start)
