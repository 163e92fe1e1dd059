"""The pictures of the comparison on frozen frames: regret over what was spent."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tuner.comparison.frames_benchmark import FULL, METHODS, RIVAL, regret_after, regret_within
from tuner.comparison.pictures import COLOURS
from tuner.comparison.results import Results
from tuner.comparison.statistics import bootstrap
from wrappers.files import write_whole

__all__ = ["draw_frames"]

Array = NDArray[np.float64]

OWN = {"map": "#1b9e3f", "map_gp": "#d95f02", "agent": "#c1272d"}
"""Colours of the methods that `COLOURS` does not know by their searcher."""

MARKED = ("map", "map_gp", "agent", RIVAL)
"""The methods with intervals."""

POINTS = 28


def draw_frames(results: Mapping[str, Results], path: Path) -> Path:
    """Write one picture: a column for each family, over indexed frames and processor time."""
    figure = Figure(figsize=(1.6 + 4.4 * len(results), 8), layout="constrained")
    panels = figure.subplots(2, len(results), squeeze=False)
    for column, (family, by_method) in enumerate(results.items()):
        n_tasks = len(next(iter(by_method.values()))["regret"])
        panels[0][column].set_title(f"{family}: {n_tasks} experiments", fontsize="medium")
        _draw(panels[0][column], by_method, np.linspace(1, FULL, POINTS), frames=True)
        seconds = np.concatenate([one["core_seconds"].ravel() for one in by_method.values()])
        low, high = np.quantile(seconds[seconds > 0], (0.02, 0.98)).tolist()
        span = np.geomspace(low, high, POINTS)
        _draw(panels[1][column], by_method, span, frames=False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    write_whole(path, content.getvalue())
    return path


def _draw(axes: Axes, by_method: Results, spent: Array, *, frames: bool) -> None:
    after = regret_after if frames else regret_within
    for method, arrays in by_method.items():
        colour = OWN.get(method) or COLOURS.get(METHODS[method])
        regrets = [100 * after(arrays, float(each)) for each in spent]
        marked = method in MARKED
        axes.plot(
            spent, [each.mean() for each in regrets], color=colour, label=method,
            linewidth=1.8 if marked else 1.1, zorder=3 if marked else 2,
        )  # fmt: skip
        if marked:
            low, high = np.transpose([bootstrap(each, resamples=300) for each in regrets])
            axes.fill_between(spent, low, high, color=colour, alpha=0.15, linewidth=0)
    grid = 100 * float(np.mean([arrays["grid"].mean() for arrays in by_method.values()]))
    axes.axhline(grid, color="black", linewidth=0.8, linestyle=":", label="the whole grid")
    axes.set(
        xlabel="indexed frames, in full evaluations" if frames else "core-seconds",
        ylabel="merit missed (points)", yscale="symlog", ylim=(0, None),
        xscale="linear" if frames else "log",
    )  # fmt: skip
    axes.set_yticks([0, 1, 2, 5, 10, 20, 50], ["0", "1", "2", "5", "10", "20", "50"])
    axes.grid(alpha=0.25)
