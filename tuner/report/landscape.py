"""Pictures of what matters, and of the rate over the two settings that matter most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from envs.evaluation import Evaluation
from tuner.report.drawing import TOKENS, logarithmic, svg
from tuner.report.model import Importance, Response
from wrappers.settings import Settings

__all__ = ["importance_picture", "response_picture"]

CELLS = 60
MARGIN = 0.06
"""Of the measured range, beyond it on each side."""


def importance_picture(found: Sequence[Importance]) -> str:
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


def response_picture(
    response: Response,
    evaluations: Sequence[Evaluation],
    best: Settings,
    names: tuple[str, str],
    units: tuple[str, str],
) -> str:
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
