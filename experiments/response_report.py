"""How well the response model predicts recorded experiments: a table and pictures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from envs.evaluators.recording import DIAGNOSTICS, INDEXED
from envs.objective import merit
from envs.response.coefficients import Coefficients
from envs.response.model import MIN_PEAKS
from experiments.response_fit import Recorded

__all__ = ["Comparison", "choice", "compare", "table"]

Array = NDArray[np.float64]

TELLING = 0.1
"""Best rate, and range over the settings, below which their order means nothing."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One quantity of all experiments and settings, (E, S) each; NaN where not observed."""

    name: str
    measured: Array
    predicted: Array
    logarithmic: bool = False

    @property
    def pairs(self) -> tuple[Array, Array]:
        """What both tell, flat; logarithms where these are compared."""
        with np.errstate(invalid="ignore", divide="ignore"):
            x, y = (np.log(v) if self.logarithmic else v for v in (self.measured, self.predicted))
        both = np.isfinite(x) & np.isfinite(y)
        return x[both], y[both]

    def row(self) -> str:
        """Return a line of the table."""
        x, y = self.pairs
        r2 = 1 - ((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum()
        off = float(np.median(np.abs(x - y)))
        size = f"{100 * np.expm1(off):.0f} %" if self.logarithmic else f"{off:.3f}"
        inner = [
            spearmanr(m[both], f[both]).statistic
            for m, f in zip(self.measured, self.predicted, strict=True)
            if (both := np.isfinite(m) & np.isfinite(f)).sum() >= 8 and np.ptp(m[both]) > 0
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rank = np.nanmedian(inner)
        return f"| {self.name} | {len(x)} | {r2:.2f} | {size} | {rank:.2f} |"


def compare(recorded: Recorded, coefficients: Coefficients) -> dict[str, Comparison]:
    """Return what was measured of every set, and what the model makes of the same frames."""
    peaks = recorded.n_peaks
    n_frames = peaks.shape[2]
    hit, indexed = peaks >= MIN_PEAKS, recorded.bit(INDEXED)
    parts = recorded.parts(coefficients)
    expected_hit = parts["n_peaks"] >= MIN_PEAKS
    expected = expected_hit * (1 - (1 - parts["found"]) * (1 - parts["by_chance"]))
    diagnostics = dict(zip(DIAGNOSTICS, np.moveaxis(recorded.diagnostics, -1, 0), strict=True))
    model = recorded.evaluations(coefficients)
    enough = indexed.sum(axis=2) >= 4
    clen = np.array([draw.experiment.clen for draw in recorded.draws])[:, None]

    def where(values: Array) -> Array:
        return np.where(enough, values, np.nan)

    def merits(hits: Array, found: Array, decoys: Array) -> Array:
        tried = np.minimum(hits, recorded.max_decoys)
        return np.asarray(merit(n_frames, hits, found, tried, decoys))

    first = expected_hit & (np.cumsum(expected_hit, axis=2) <= recorded.max_decoys)
    chance = np.where(first, parts["by_chance"], 0).sum(axis=2)
    pairs = [
        ("hits / frames", hit.mean(axis=2), expected_hit.mean(axis=2)),
        ("indexed / frames", indexed.mean(axis=2), expected.mean(axis=2)),
        (
            "merit",
            merits(hit.sum(axis=2), indexed.sum(axis=2), recorded.n_decoys_indexed),
            merits(expected_hit.sum(axis=2), expected.sum(axis=2), chance),
        ),
        ("explained", where(diagnostics["explained"]), model["explained"]),
        ("scale deviation", where(diagnostics["scale_deviation"]), model["scale_deviation"]),
    ]
    logarithmic = [
        ("peaks a hit", _median(peaks, hit), _median(parts["n_peaks"], expected_hit)),
        ("residual, pixels", where(diagnostics["residual"]), model["residual"]),
        (
            "standard error of clen",
            where(diagnostics["refined_clen_se"] / clen),
            model["refined_clen_se"] / clen,
        ),
        ("core seconds", recorded.seconds, model["seconds"]),
    ]
    found = [Comparison(*pair) for pair in pairs] + [Comparison(*p, True) for p in logarithmic]
    return {one.name: one for one in found}


def _median(values: Array, of: NDArray[np.bool_]) -> Array:
    """Return the median over some of the frames (E, S, N), NaN where there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(np.where(of, values, np.nan), axis=2)


@dataclass(frozen=True)
class Choice:
    """What is lost by choosing the settings that the model thinks best."""

    rank: float
    lost_median: float
    lost_nine_tenths: float
    n_experiments: int


def choice(one: Comparison) -> Choice:
    """Return how well the model orders the settings of an experiment.

    The rank correlation is the median over the experiments in which the settings differ by more
    than `TELLING`; what is lost is relative to the best settings measured.
    """
    ranks, lost = [], []
    for measured, predicted in zip(one.measured, one.predicted, strict=True):
        if np.ptp(measured) > TELLING and measured.max() > TELLING:
            ranks.append(spearmanr(measured, predicted).statistic)
            lost.append((measured.max() - measured[np.argmax(predicted)]) / measured.max())
    return Choice(
        float(np.median(ranks)), float(np.median(lost)), float(np.quantile(lost, 0.9)), len(ranks)
    )


def table(found: dict[str, Comparison]) -> str:
    """Return the comparison as a Markdown table, and what choosing by the model would lose."""
    lines = [
        "| quantity | n | R² | median off by | rank correlation within an experiment |",
        "|---|---|---|---|---|",
        *(one.row() for one in found.values()),
        "",
    ]
    for name in ("indexed / frames", "merit"):
        made = choice(found[name])
        lines.append(
            f"{name}: rank correlation {made.rank:.2f} (median of the {made.n_experiments} "
            f"experiments whose settings differ); choosing by the model loses "
            f"{100 * made.lost_median:.1f} % of the best measured (median), "
            f"{100 * made.lost_nine_tenths:.1f} % (nine of ten)."
        )
    return "\n".join(lines)
