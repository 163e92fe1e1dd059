"""The search in the report: its progress, what each setting did, and the table of all trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from envs.evaluation import Evaluation, wilson_interval
from tuner.display.columns import remark, trial_columns
from tuner.report.colours import GROUPS
from tuner.report.drawing import (
    TOKENS,
    group_of,
    is_logarithmic,
    logarithmic,
    percent,
    points,
    svg,
)
from tuner.report.findings import Findings
from tuner.session.trial import Trial
from wrappers.peak_finders import usually_tuned_peaks
from wrappers.settings import ABOUT

__all__ = ["Progress", "Responses", "Table", "progress", "responses", "table_of_trials"]

Quantity = Callable[[Evaluation], tuple[float, float, float]]
"""A value of an evaluation with the ends of its interval."""


@dataclass(frozen=True)
class Progress:
    """How the search went.

    Attributes
    ----------
    groups : frozenset of str
        Keys of `GROUPS` that are drawn.
    wide, narrow : Markup
        The figure, for a screen and for a phone.
    fresh, dropped, failed : bool
        Whether there are confirmations on fresh frames, trials that were dropped early, and
        failed ones.
    """

    groups: frozenset[str]
    wide: Markup
    narrow: Markup
    fresh: bool
    dropped: bool
    failed: bool


@dataclass(frozen=True)
class Responses:
    """Rate, cost and decoys over each tuned setting.

    Attributes
    ----------
    groups : frozenset of str
        Keys of `GROUPS` that are drawn.
    pictures : mapping of str to sequence of Markup
        By setting.
    constant : tuple of str
        Settings that had the same value in all evaluations: there is nothing to be drawn.
    """

    groups: frozenset[str]
    pictures: Mapping[str, Sequence[Markup]]
    constant: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of plain texts.

    Attributes
    ----------
    head : tuple of str
    rows : tuple of tuple of str
    chosen : tuple of int
        Rows that stand out.
    notes : tuple of str
        What is written below each row, or "".
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chosen: tuple[int, ...]
    notes: tuple[str, ...]


def progress(found: Findings) -> Progress | None:
    """Return how the search went, or None before the first trial."""
    if not found.trials:
        return None
    whole = max(trial.evaluation.n_frames for trial in found.trials)
    wide, narrow = (
        _progress_picture(found.trials, found.incumbents, narrow=narrow) for narrow in (False, True)
    )
    return Progress(
        groups=frozenset(map(group_of, found.trials)),
        wide=wide,
        narrow=narrow,
        fresh=any(trial.stage == "fresh" for trial in found.trials),
        dropped=any(0 < trial.evaluation.n_frames < whole for trial in found.trials),
        failed=any(trial.evaluation.failure for trial in found.trials),
    )


def responses(found: Findings) -> Responses | None:
    """Return the figures over each tuned setting, or None where nothing is measured."""
    trials = found.measured
    if not trials or not found.tuned:
        return None
    constant = [name for name in found.tuned if len({_value(each, name) for each in trials}) == 1]
    return Responses(
        groups=frozenset(map(group_of, trials)),
        pictures={
            name: _response_pictures(trials, name, ABOUT[name].unit, found.best_value(name))
            for name in found.tuned
            if name not in constant
        },
        constant=tuple(constant),
    )


def table_of_trials(found: Findings) -> Table | None:
    """Return all trials, the recommended set's standing out, or None before the first."""
    if not found.trials:
        return None
    columns = trial_columns(found.trials, found.tuned, found.store.config.merit)
    head = ["" if column.name == "trial" else column.name for column in columns]
    rows = zip(*(column.cells for column in columns), map(_more, found.trials), strict=True)
    return Table(
        (*head[:-2], *MORE, "core s"),
        tuple((*row[: len(head) - 2], *row[-1]) for row in rows),
        tuple(i for i, trial in enumerate(found.trials) if trial.evaluation is found.best),
        tuple(map(remark, found.trials)),
    )


MORE = ("decoys", "explained", "residual (px)", "refined clen (mm)")
"""Columns of the page that a terminal has no room for."""


def _more(trial: Trial) -> tuple[str, ...]:
    evaluation = trial.evaluation
    if not evaluation.n_frames:
        return ("",) * (len(MORE) + 1)
    clen, error = (1e3 * x for x in evaluation.refined.get("clen", (math.nan, math.nan)))
    return (
        f"{evaluation.n_decoys_indexed}/{evaluation.n_decoys}",
        "" if math.isnan(evaluation.explained) else f"{evaluation.explained:.0%}",
        "" if math.isnan(evaluation.residual) else f"{evaluation.residual:.2f}",
        "" if math.isnan(clen) else f"{clen:.3f} ± {error:.3f}",
        f"{evaluation.core_seconds:.1f}",
    )


def _progress_picture(
    trials: Sequence[Trial], incumbents: Sequence[int], *, narrow: bool
) -> Markup:
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


def _response_pictures(trials: Sequence[Trial], name: str, unit: str, best: float) -> list[Markup]:
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

    def picture(kind: str, title: str, quantity: Quantity) -> Markup:
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
            words=[
                _words(trial) for trial, is_known in zip(trials, known, strict=True) if is_known
            ],
        )


def _words(trial: Trial) -> str:
    """Return what is said of a point: which evaluation it is, and what came of it."""
    evaluation = trial.evaluation
    low, high = evaluation.ci95
    settings = evaluation.settings
    return (
        f"{trial.number} ({trial.stage}): {evaluation.n_indexed} of {evaluation.n_frames} frames "
        f"indexed, {low:.0%} to {high:.0%}; "
        + ", ".join(
            f"{name} {getattr(settings, name):g}"
            for name in usually_tuned_peaks(settings.peak_finder)
        )
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
