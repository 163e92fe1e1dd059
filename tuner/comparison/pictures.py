"""The pictures of a comparison on runs, each with one panel for a run."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from envs.evaluation import wilson_interval
from tuner.comparison.statistics import OURS, RIVAL
from wrappers.files import write_whole

__all__ = ["COLOURS", "draw_run_pictures"]

Array = NDArray[np.float64]
Regrets = Mapping[str, Array]
Drawing = Callable[[Axes, str], None]

COLOURS = {
    "map-agent": "#c1272d",
    "map": "#1b9e3f",
    "map-gp": "#d95f02",
    "warm-gp": "#0b3d91",
    "warm-tpe": "#00796b",
    "gp": "#7b6fd0",
    "tpe": "#66a89a",
    "cmaes": "#b8860b",
    "random": "#8a8a8a",
    "sobol": "#b5b5b5",
    "grid": "#d9a0c0",
    "portfolio": "#5d8a3a",
    "static": "#3b3b3b",
    "defaults": "#000000",
}

PAIR = {OURS, RIVAL}
"""The methods that are told apart: with intervals, and paired."""

MOST_COLUMNS = 4

FEWEST_DOTS = 3
"""Splits of a run that make a paired scatter."""


def draw_run_pictures(
    runs: Mapping[str, Mapping[str, Mapping[str, Array]]],
    figures: Mapping[str, Mapping[str, Any]],
    directory: Path,
) -> list[Path]:
    """Write the anytime curves and the forest plot of runs, and with three splits the scatter.

    Parameters
    ----------
    runs : mapping of str to mapping of str to mapping of str to array (1, splits, budget)
        ``"rate"`` and ``"regret"`` by run and method.
    figures : mapping
        What `tuner.comparison.frames.run_figures` made of each run.
    directory : Path
    """
    endpoint = min(figures[run]["paired_after"] for run in runs)
    titles = {
        run: f"{run}: {found['n_scoring_frames']} scoring frames, splits: {found['n_seeds']}"
        for run, found in figures.items()
        if run in runs
    }
    drawings: dict[str, Drawing] = {
        "run_anytime": lambda axes, run: _anytime_rate(axes, runs[run], figures[run])
    }
    methods = next(iter(runs.values()))
    if OURS in methods:
        drawings["run_forest"] = lambda axes, run: _forest(axes, figures[run]["paired"], endpoint)
    if methods.keys() >= PAIR and max(figures[run]["n_seeds"] for run in runs) >= FEWEST_DOTS:
        regrets = {
            run: {method: np.swapaxes(what["regret"], 0, 1) for method, what in by_method.items()}
            for run, by_method in runs.items()
        }
        drawings["run_paired"] = lambda axes, run: _paired(axes, regrets[run], endpoint)
    return [_save(directory / f"{name}.png", titles, draw) for name, draw in drawings.items()]


def _save(path: Path, titles: Mapping[str, str], draw: Drawing) -> Path:
    """Draw one picture, with one panel for each title, and write it."""
    rows = math.ceil(len(titles) / MOST_COLUMNS)
    columns = math.ceil(len(titles) / rows)
    figure = Figure(figsize=(1.2 + 4.2 * columns, 4.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, title) in zip(panels.flat, titles.items(), strict=False):
        draw(axes, name)
        axes.set_title(title, fontsize="medium")
    for axes in panels.flat[len(titles) :]:
        axes.set_axis_off()
    handles, labels = panels[0][0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    write_whole(path, content.getvalue())
    return path


def _anytime_rate(
    axes: Axes, run: Mapping[str, Mapping[str, Array]], figures: Mapping[str, Any]
) -> None:
    """Draw net rates with the intervals that so many frames allow."""
    frames = figures["n_scoring_frames"]
    for name, what in run.items():
        rates = 100 * what["rate"].mean(axis=(0, 1))
        n = _curve(axes, name, rates)
        if name in PAIR:
            counts = [round(max(rate, 0) / 100 * frames) for rate in rates]
            low, high = 100 * np.transpose([wilson_interval(count, frames) for count in counts])
            _band(axes, name, n, low, high)
    best = 100 * figures["reference_rate"]
    axes.axhline(best, color="black", linewidth=0.8, linestyle=":", label="best of all tried")
    axes.set(ylabel="indexed by the recommended settings (%)", ylim=(0, None))


def _curve(axes: Axes, name: str, values: Array) -> NDArray[np.int_]:
    """Draw a method's curve over its evaluations, which are returned."""
    n = np.arange(1, len(values) + 1)
    # The agent's line lies on top where it and others do the same.
    order = 3 if name == OURS else 2
    axes.plot(n, values, color=COLOURS.get(name), label=name, linewidth=1.6, zorder=order)
    axes.set_xticks([tick for tick in (1, 5, 10, 15, 20) if tick <= len(n)] or [1])
    axes.set_xlabel("evaluations")
    axes.grid(alpha=0.25, which="both")
    return n


def _band(axes: Axes, name: str, n: NDArray[np.int_], low: Array, high: Array) -> None:
    label = "95 % interval" if name == OURS else None
    axes.fill_between(n, low, high, color=COLOURS[name], alpha=0.18, linewidth=0, label=label)


def _paired(axes: Axes, regrets: Regrets, endpoint: int) -> None:
    ours, theirs = (
        np.maximum(regrets[name][:, :, endpoint - 1].mean(axis=1), 1e-3) for name in (OURS, RIVAL)
    )
    axes.loglog(theirs, ours, "o", color=COLOURS[OURS], alpha=0.5, markersize=4)
    axes.plot([1e-3, 1], [1e-3, 1], color="black", linewidth=0.8)
    axes.plot([1e-3, 1], [5e-4, 0.5], color="black", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel=f"regret of {RIVAL} after {endpoint}", ylabel=f"regret of {OURS} after {endpoint}",
        xlim=(9e-4, 1.1), ylim=(9e-4, 1.1), aspect="equal",
    )  # fmt: skip
    axes.text(0.04, 0.96, f"{RIVAL} better", transform=axes.transAxes, va="top", fontsize="small")
    axes.text(0.96, 0.04, f"{OURS} better", transform=axes.transAxes, ha="right", fontsize="small")


def _forest(axes: Axes, paired: Mapping[str, Mapping[str, Any]], endpoint: int) -> None:
    names = list(paired)[::-1]
    for place, name in enumerate(names):
        low, high = paired[name]["ci95"]
        axes.plot([low, high], [place, place], color=COLOURS.get(name), linewidth=2)
        axes.plot(paired[name]["difference"], place, "o", color=COLOURS.get(name))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    # linear around 0, so that close rivals are told apart beside those far behind
    axes.set_xscale("symlog", linthresh=0.05)
    furthest = min((row["ci95"][0] for row in paired.values()), default=0.0)
    left = min(1.2 * furthest, -0.1)
    ticks = [tick for tick in (-0.8, -0.2, -0.05, 0, 0.05, 0.2, 0.8) if tick > left]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel=f"regret after {endpoint}, less the agent's", xlim=(left, 1))
    axes.grid(alpha=0.25, axis="x")
