"""Pictures of the trials: progress, responses to each setting, geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from envs.evaluation import Evaluation, wilson_interval
from tuner.report.drawing import GROUPS, TOKENS, group_of, logarithmic, percent, points, svg
from tuner.session.trial import Trial

__all__ = [
    "clen_picture",
    "is_logarithmic",
    "progress_picture",
    "response_pictures",
    "scale_picture",
    "shift_picture",
]

LOG_SPAN = 15
"""Positive values that span more than this factor are drawn on a logarithmic axis."""

Quantity = Callable[[Evaluation], tuple[float, float, float]]
"""A value of an evaluation with the ends of its interval."""


def progress_picture(trials: Sequence[Trial], incumbents: Sequence[int], *, narrow: bool) -> str:
    """Draw each trial's rate, and the line of what was best so far.

    Parameters
    ----------
    trials : sequence of Trial
    incumbents : sequence of int
        For each trial the number of the trial that led after it; -1 for none.
    narrow : bool
        For a phone.
    """
    whole = max(trial.evaluation.n_frames for trial in trials)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        led = [i for i in range(len(trials)) if incumbents[i] >= 0]
        if led:
            best = [trials[incumbents[i]].evaluation.rate for i in led]
            axes.step(led, best, where="post", color=TOKENS["ink"], lw=1.2, zorder=1.5)
        for group in GROUPS:
            for hollow in (False, True):
                of_group = [
                    trial
                    for trial in trials
                    if group_of(trial) == group
                    and not trial.evaluation.failure
                    and (trial.evaluation.n_frames < whole) == hollow
                ]
                _draw_quantity(axes, [t.number for t in of_group], of_group, _rate, group, hollow)
        failed = [trial.number for trial in trials if trial.evaluation.failure]
        axes.plot(failed, [0.0] * len(failed), "x", color=TOKENS["ink"])
        percent(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="evaluation", ylabel="indexed frames", xlim=(-0.6, len(trials) - 0.4))

    return svg(
        draw,
        size=(358, 270) if narrow else (960, 320),
        name="progress-narrow" if narrow else "progress",
        alternative=f"Indexing rate of {len(trials)} evaluations in their order, with intervals",
    )


def response_pictures(trials: Sequence[Trial], name: str, unit: str, best: float) -> list[str]:
    """Draw rate, cost and decoy rate against one setting.

    Parameters
    ----------
    trials : sequence of Trial
        Without those that failed.
    name, unit : str
        Of the setting.
    best : float
        Its recommended value; NaN for none.
    """
    scale = 1e3 if unit == "m" else 1.0
    label = f"{name} ({'mm' if unit == 'm' else unit})" if unit else name
    every = np.array([_value(trial, name) for trial in trials]) * scale
    costs = np.array([_cost(trial.evaluation)[0] for trial in trials])
    in_seconds = np.median(costs) > 0.5
    # The first evaluations read the frames and compile, and would flatten all others.
    wide = costs.min() > 0 and costs.max() > 10 * np.median(costs)
    quantities: list[tuple[str, str, Quantity]] = [
        ("rate", "indexed frames", _rate),
        ("cost", f"core {'s' if in_seconds else 'ms'} / frame", _cost),
        ("decoys", "indexed decoys", _decoys),
    ]

    def picture(kind: str, title: str, quantity: Quantity) -> str:
        def draw(figure: Figure) -> None:
            axes = figure.add_subplot()
            if math.isfinite(best):
                axes.axvline(best * scale, color=TOKENS["ink"], lw=0.9, ls=(0, (4, 3)), zorder=1)
            for group in GROUPS:
                chosen = [trial for trial in trials if group_of(trial) == group]
                places = [_value(trial, name) * scale for trial in chosen]
                _draw_quantity(axes, places, chosen, quantity, group)
            if is_logarithmic(every):
                logarithmic(axes, "x", every.min(), every.max())
            else:
                whole = bool((every == np.round(every)).all())
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=whole, steps=[1, 2, 5, 10]))
            if kind == "cost":
                if wide:
                    logarithmic(axes, "y", costs.min(), costs.max())
                else:
                    axes.set_ylim(bottom=0)
                axes.yaxis.set_major_formatter(lambda y, _: f"{y if in_seconds else 1e3 * y:g}")
            else:
                percent(axes)
            axes.set_xlabel(label)
            axes.set_title(title, color=TOKENS["soft"], loc="left")

        return svg(
            draw,
            size=(310, 215),
            left=46,
            name=f"{name}-{kind}",
            alternative=f"{title} against {name}, {len(trials)} evaluations",
        )

    return [picture(*quantity) for quantity in quantities]


def clen_picture(trials: Sequence[Trial], tried: NDArray[np.float64], best: float) -> str:
    """Draw the camera length that each trial's lattices ask for.

    Parameters
    ----------
    trials : sequence of Trial
        Those that ask for one.
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
            asked = np.array([trial.evaluation.refined["clen"] for trial in chosen]).reshape(-1, 2)
            if chosen:
                points(
                    axes,
                    [trial.number for trial in chosen],
                    1e3 * asked[:, 0],
                    1.96e3 * asked[:, 1],
                    group,
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="evaluation", ylabel="camera length (mm)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="clen",
        alternative="Camera length that each evaluation's lattices ask for, with intervals",
    )


def scale_picture(trials: Sequence[Trial], tried: NDArray[np.float64], best: float) -> str:
    """Draw how far the refined cells deviate from the reference at each tried camera length.

    Parameters are those of `clen_picture`; the line is what a wrong length alone would do.
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


def shift_picture(trials: Sequence[Trial]) -> str:
    """Draw the detector shift that each trial's lattices ask for, in micrometres."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for axis in (axes.axhline, axes.axvline):
            axis(0, color=TOKENS["soft"], lw=0.9)
        for group, (_, marker, name) in GROUPS.items():
            asked = np.array(
                [
                    (*trial.evaluation.refined["shift_x"], *trial.evaluation.refined["shift_y"])
                    for trial in trials
                    if group_of(trial) == group
                ]
            ).reshape(-1, 4)
            x, x_se, y, y_se = 1e6 * asked.T
            axes.errorbar(
                x, y, 1.96 * y_se, 1.96 * x_se, marker, color=TOKENS[name], elinewidth=0.9
            )
        axes.set(xlabel="shift_x asked (µm)", ylabel="shift_y asked (µm)")

    return svg(
        draw,
        size=(310, 230),
        left=74,
        name="shift",
        alternative="Detector shift that each evaluation's lattices ask for, with intervals",
    )


def is_logarithmic(values: NDArray[np.float64]) -> bool:
    """Whether values are better drawn on a logarithmic axis."""
    return bool(len(values) and values.min() > 0 and values.max() > LOG_SPAN * values.min())


def _draw_quantity(
    axes: Axes,
    places: Sequence[float],
    trials: Sequence[Trial],
    quantity: Quantity,
    group: str,
    hollow: bool = False,
) -> None:
    values = np.array([quantity(trial.evaluation) for trial in trials]).reshape(-1, 3)
    known = np.isfinite(values[:, 0])
    if known.any():
        value, low, high = values[known].T
        error = np.clip([value - low, high - value], 0, None)
        points(
            axes,
            np.array(places)[known],
            value,
            error if np.isfinite(error).all() else None,
            group,
            hollow=hollow,
        )


def _value(trial: Trial, name: str) -> float:
    value = getattr(trial.evaluation.settings, name)
    return math.nan if value is None else float(value)


def _rate(evaluation: Evaluation) -> tuple[float, float, float]:
    return evaluation.rate, *evaluation.ci95


def _cost(evaluation: Evaluation) -> tuple[float, float, float]:
    # Measured once: how much it varies is not known.
    return evaluation.core_seconds / max(evaluation.n_frames, 1), math.nan, math.nan


def _decoys(evaluation: Evaluation) -> tuple[float, float, float]:
    k, n = evaluation.n_decoys_indexed, evaluation.n_decoys
    return (k / n, *wilson_interval(k, n)) if n else (math.nan, math.nan, math.nan)
