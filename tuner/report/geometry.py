"""Camera length, detector shift and cell in the report: what the lattices say of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from envs.evaluation import Evaluation
from envs.geometry_rule import FEWEST_INDEXED
from tuner.report.detector import Statement
from tuner.report.drawing import GROUPS, TOKENS, group_of, points, svg
from tuner.report.findings import Findings
from tuner.session.trial import Trial
from wrappers.lattices.geometry_drift import FALSE_ALARMS, Drift

__all__ = ["Geometry", "geometry"]


@dataclass(frozen=True)
class Geometry:
    """What the lattices say.

    Attributes
    ----------
    statements : tuple of Statement
    groups : frozenset of str
        Keys of `GROUPS` that are drawn.
    pictures : mapping of str to Markup
        By kind: "frames" (each frame's own camera length), "clen", "scale" (of the cells), "shift".
        None where too few frames were indexed.
    drift : Drift or None
        How the camera length changes within the run.
    false_alarms : float
        The chance that a run without drift has one.
    """

    statements: tuple[Statement, ...]
    groups: frozenset[str]
    pictures: Mapping[str, Markup]
    drift: Drift | None
    false_alarms: float = FALSE_ALARMS


def geometry(found: Findings) -> Geometry | None:
    """Return what the lattices say, or None where nothing is measured."""
    if not found.measured:
        return None
    trials = [
        trial
        for trial in found.measured
        if all(map(math.isfinite, trial.evaluation.refined.get("clen", (math.nan,))))
        # One frame knows nothing of how frames differ, so its error is no error.
        and trial.evaluation.n_indexed >= FEWEST_INDEXED
    ]
    if not trials:
        return Geometry((), frozenset(), {}, None)
    nominal = _nominal(found)
    tried = np.array([trial.evaluation.settings.clen or nominal for trial in trials])
    best = found.best_value("clen")
    pictures = {"clen": _clen_picture(trials, tried, best)}
    if found.best is not None and len(found.best.frame_clens) >= FEWEST_INDEXED:
        pictures = {"frames": _frames_picture(found.best, found.drift), **pictures}
    placed = np.isfinite(tried)
    if placed.any():
        known = [trial for trial, there in zip(trials, placed, strict=True) if there]
        pictures["scale"] = _scale_picture(known, tried[placed], best)
    if all("shift_x" in trial.evaluation.refined for trial in trials):
        pictures["shift"] = _shift_picture(trials)
    statements = found.detector
    if found.drift is not None and not found.drift.grave:
        statements = (*statements, Statement(str(found.drift)))
    return Geometry(statements, frozenset(map(group_of, trials)), pictures, found.drift)


def _nominal(found: Findings) -> float:
    provenance = found.recommendation.provenance if found.recommendation else {}
    value = provenance.get("geometry_clen")
    return float(value) if isinstance(value, float) else math.nan


def _frames_picture(evaluation: Evaluation, drift: Drift | None) -> Markup:
    """Draw the indexed frames' own camera lengths over the run, and how they change."""
    number, length, error = np.array(evaluation.frame_clens).T

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.errorbar(
            number,
            1e3 * length,
            1.96e3 * error,
            fmt="o",
            ms=3.5,
            color=TOKENS["blue"],
            elinewidth=0.9,
        )
        ends = np.array([number.min(), number.max()])
        line: dict[str, Any] = {"color": TOKENS["vermilion"], "lw": 1.5, "zorder": 3}
        if drift is not None:
            first, last = 1e3 * drift.first, 1e3 * drift.last
            if drift.kind == "trend":
                axes.plot(ends, [first, last], **line)
            elif drift.kind == "step":
                axes.step([ends[0], drift.at, ends[1]], [first, last, last], where="post", **line)
            elif drift.kind == "groups":
                axes.plot(ends, [first, first], **line)
                axes.plot(ends, [last, last], **line)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set(xlabel="frame", ylabel="own camera length (mm)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="frames",
        alternative=f"Own camera lengths of {len(number)} indexed frames over the run",
    )


def _clen_picture(trials: Sequence[Trial], tried: NDArray[np.float64], best: float) -> Markup:
    """Draw the camera length that each trial's lattices give.

    Parameters
    ----------
    trials : sequence of Trial
        Those that give one.
    tried : float64 array (n,)
        What they were measured with, in metres.
    best : float
        The recommended one; NaN for none.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        numbers = [trial.number for trial in trials]
        if math.isfinite(best):
            axes.axhline(1e3 * best, color=TOKENS["ink"], lw=0.9, ls=(0, (4, 3)), zorder=1)
        axes.plot(numbers, 1e3 * tried, "_", color=TOKENS["soft"], ms=9)
        for group in GROUPS:
            chosen = [trial for trial in trials if group_of(trial) == group]
            given = np.array([trial.evaluation.refined["clen"] for trial in chosen])
            if chosen:
                points(
                    axes,
                    [trial.number for trial in chosen],
                    1e3 * given[:, 0],
                    1.96e3 * given[:, 1],
                    group,
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="evaluation", ylabel="camera length (mm)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="clen",
        alternative="Camera length that each evaluation's lattices give, with intervals",
    )


def _scale_picture(trials: Sequence[Trial], tried: NDArray[np.float64], best: float) -> Markup:
    """Draw how far the refined cells deviate from the reference at each tried camera length.

    Parameters are those of `_clen_picture`; the line is what a wrong length alone would do.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color=TOKENS["soft"], lw=0.9)
        if math.isfinite(best):
            ends = np.array([tried.min(), tried.max()])
            spread = max(float(np.ptp(ends)), 0.001 * best)
            line = np.array([ends[0] - 0.1 * spread, ends[1] + 0.1 * spread])
            axes.plot(1e3 * line, 100 * (line / best - 1), color=TOKENS["soft"], lw=1, ls=":")
            axes.axvline(1e3 * best, color=TOKENS["ink"], lw=0.9, ls=(0, (4, 3)), zorder=1)
        for group in GROUPS:
            of_group = [i for i, trial in enumerate(trials) if group_of(trial) == group]
            deviation = [100 * trials[i].evaluation.scale_deviation for i in of_group]
            points(axes, 1e3 * tried[of_group], deviation, None, group)
        axes.locator_params(axis="x", nbins=4)
        axes.set(xlabel="tried camera length (mm)", ylabel="cell too large by (%)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="scale",
        alternative="Deviation of the refined cells' size against the tried camera length",
    )


def _shift_picture(trials: Sequence[Trial]) -> Markup:
    """Draw the detector shift that each trial's lattices give, in micrometres."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for axis in (axes.axhline, axes.axvline):
            axis(0, color=TOKENS["soft"], lw=0.9)
        for group, (_, marker, name) in GROUPS.items():
            refined = np.array(
                [
                    (*trial.evaluation.refined["shift_x"], *trial.evaluation.refined["shift_y"])
                    for trial in trials
                    if group_of(trial) == group
                ]
            ).reshape(-1, 4)
            x, x_se, y, y_se = 1e6 * refined.T
            axes.errorbar(
                x, y, 1.96 * y_se, 1.96 * x_se, marker, color=TOKENS[name], elinewidth=0.9
            )
        axes.set(xlabel="refined shift_x (µm)", ylabel="refined shift_y (µm)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="shift",
        alternative="Detector shift that each evaluation's lattices give, with intervals",
    )
