"""What matters in the report: the settings' importance, and the rate over two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from envs.evaluation import Evaluation
from tuner.report.drawing import TOKENS, logarithmic, svg
from tuner.report.findings import Findings
from tuner.report.model import (
    FEWEST_FOR_IMPORTANCE,
    Axis,
    Importance,
    Response,
    comparable,
    importance,
)
from tuner.session.trial import Trial
from wrappers.settings import ABOUT, Settings

__all__ = ["Landscape", "landscape"]

FEWEST_FOR_RESPONSE = 6
"""Trials below which a smooth response would be a fancy."""

CELLS = 60
MARGIN = 0.06
"""Of the measured range, beyond it on each side."""


@dataclass(frozen=True)
class Landscape:
    """Which settings matter, and the rate over two of them.

    Attributes
    ----------
    n_trials, fewest : int
        Trials that differ in nothing but the tuned settings, and how many an importance needs.
    all_equal : bool
        Whether all of them came out the same.
    importance, response : Markup or None
        Figures, where there are enough trials.
    axes : tuple of str
        The settings along x and y of the second.
    """

    n_trials: int
    all_equal: bool
    importance: Markup | None
    response: Markup | None
    axes: tuple[str, ...]
    fewest: int = FEWEST_FOR_IMPORTANCE


def landscape(found: Findings) -> Landscape | None:
    """Return which settings matter, or None where no trials can be compared."""
    trials = comparable(found.trials, found.tuned)
    if not trials:
        return None
    settings = [trial.evaluation.settings for trial in trials]
    merits = [found.store.config.merit(trial.evaluation) for trial in trials]
    varied = [name for name in found.tuned if len({getattr(each, name) for each in settings}) > 1]
    enough = len(trials) >= FEWEST_FOR_IMPORTANCE and len(varied) > 1
    all_equal = enough and max(merits) == min(merits)
    ranked = importance(settings, merits, varied) if enough and not all_equal else []
    axes, response = _response(found, trials, [each.name for each in ranked] or varied)
    return Landscape(
        n_trials=len(trials),
        all_equal=all_equal,
        importance=_importance_picture(ranked) if ranked else None,
        response=response,
        axes=axes,
    )


def _response(
    found: Findings, trials: Sequence[Trial], names: Sequence[str]
) -> tuple[tuple[str, ...], Markup | None]:
    evaluations = [trial.evaluation for trial in trials]
    if len(trials) < FEWEST_FOR_RESPONSE or len(names) < 2 or found.recommendation is None:
        return (), None
    axes = [Axis.of(name, [each.settings for each in evaluations]) for name in names]
    # A setting that was measured in two places or so makes stripes, not a picture.
    x, y = sorted(axes, key=lambda axis: axis.n_places < 4)[:2]
    picture = _response_picture(
        Response(axes, evaluations),
        evaluations,
        found.recommendation.settings,
        (x.name, y.name),
        (ABOUT[x.name].unit, ABOUT[y.name].unit),
    )
    return (x.name, y.name), picture


def _importance_picture(found: Sequence[Importance]) -> Markup:
    """Draw importances as bars with their intervals."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = np.arange(len(found))
        shares = np.array([each.share for each in found])
        ends = np.array([(each.low, each.high) for each in found]).T
        axes.barh(
            rows,
            shares,
            0.6,
            xerr=np.clip([shares - ends[0], ends[1] - shares], 0, None),
            color=TOKENS["blue"],
            ecolor=TOKENS["ink"],
            error_kw={"elinewidth": 0.9},
        )
        axes.set_yticks(rows, [each.name for each in found])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlim=(0, 1), xlabel="share of the importance")
        axes.xaxis.set_major_formatter(PercentFormatter(1))

    return svg(
        draw,
        size=(480, 76 + 32 * len(found)),
        left=20 + 8 * max(len(each.name) for each in found),
        name="importance",
        alternative="; ".join(f"{each.name} {each.share:.0%}" for each in found),
    )


def _response_picture(
    response: Response,
    evaluations: Sequence[Evaluation],
    best: Settings,
    names: tuple[str, str],
    units: tuple[str, str],
) -> Markup:
    """Draw the smoothed rate over two settings, where it was measured.

    Parameters
    ----------
    response : Response
    evaluations : sequence of Evaluation
        Those behind it, drawn as points in their own rate's colour.
    best : Settings
        All other settings are kept at these.
    names, units : (str, str)
        The settings along x and y.
    """
    place = {axis.name: i for i, axis in enumerate(response.axes)}
    x, y = (response.axes[place[name]] for name in names)
    edges = np.linspace(-MARGIN, 1 + MARGIN, CELLS + 1)
    unit = (edges[1:] + edges[:-1]) / 2
    at = np.tile(response.place(best), (CELLS * CELLS, 1))
    across, up = np.meshgrid(unit, unit)
    at[:, place[names[0]]], at[:, place[names[1]]] = across.ravel(), up.ravel()
    rate, known = (values.reshape(CELLS, CELLS) for values in response.predict(at))
    rates = np.array([each.rate for each in evaluations])
    top = max(float(rates.max()), 0.05)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.pcolormesh(
            x.value(edges),
            y.value(edges),
            rate,
            cmap="cividis",
            vmin=0,
            vmax=top,
            alpha=np.clip(known / 0.6, 0, 1),  # type: ignore[arg-type]
            rasterized=True,
        )
        axes.scatter(
            [float(getattr(each.settings, x.name)) for each in evaluations],
            [float(getattr(each.settings, y.name)) for each in evaluations],
            c=rates,
            cmap="cividis",
            vmin=0,
            vmax=top,
            s=55,
            edgecolors=TOKENS["ink"],
            linewidths=0.9,
        )
        axes.plot(
            float(getattr(best, x.name)),
            float(getattr(best, y.name)),
            "o",
            ms=13,
            mfc="none",
            mec=TOKENS["vermilion"],
            mew=2,
        )
        for which, measured in (("x", x), ("y", y)):
            if measured.log:
                logarithmic(axes, which, measured.low, measured.high)
        axes.grid(visible=False)
        axes.set(xlabel=_label(x.name, units[0]), ylabel=_label(y.name, units[1]))
        colours = ScalarMappable(Normalize(0, top), "cividis")
        scale = figure.colorbar(colours, ax=axes, format=PercentFormatter(1, decimals=0))
        scale.outline.set_visible(False)

    return svg(
        draw,
        size=(420, 340),
        name="response",
        alternative=f"Smoothed indexing rate over {x.name} and {y.name}, with the measured points",
    )


def _label(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
