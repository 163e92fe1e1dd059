"""The pictures of a comparison: four, each with one column a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tuner.comparison_statistics import bootstrap

__all__ = ["draw_pictures"]

Array = NDArray[np.float64]
Regrets = Mapping[str, Array]

COLOURS = {
    "agent": "#c1272d",
    "agent_only": "#e98a6d",
    "warm_gp": "#0b3d91",
    "warm_gp_pinned": "#4f8fd9",
    "warm_tpe": "#00796b",
    "gp": "#7b6fd0",
    "tpe": "#66a89a",
    "cmaes": "#b8860b",
    "random": "#8a8a8a",
    "sobol": "#b5b5b5",
    "portfolio": "#5d8a3a",
    "static": "#3b3b3b",
    "defaults": "#000000",
}

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

IN_PROFILE = ("agent", "agent_only", "warm_gp", "warm_gp_pinned", "warm_tpe", "portfolio", "random")


def draw_pictures(
    families: Mapping[str, Regrets],
    figures: Mapping[str, Mapping[str, Any]],
    directory: Path,
    endpoint: int = 10,
) -> list[Path]:
    """Write the anytime curves, the profile, the paired scatter and the forest plot.

    Parameters
    ----------
    families : mapping of str to mapping of str to array (tasks, seeds, budget)
        Regrets by family and method.
    figures : mapping
        What `tuner.comparison_statistics.compare_family` made of each family.
    directory : Path
    endpoint : int
        Evaluations after which the pairs are compared.
    """
    endpoint = min(endpoint, *(r.shape[2] for rows in families.values() for r in rows.values()))
    drawings: dict[str, Callable[[Axes, str], None]] = {
        "anytime": lambda axes, family: _anytime(axes, families[family]),
        "profile": lambda axes, family: _profile(axes, families[family], endpoint),
        "paired": lambda axes, family: _paired(axes, families[family], endpoint),
        "forest": lambda axes, family: _forest(axes, figures[family].get("paired", {}), endpoint),
    }
    paths = []
    for name, drawing in drawings.items():
        figure, row = plt.subplots(
            1,
            len(families),
            figsize=(1.2 + 4.2 * len(families), 4.4),
            squeeze=False,
            layout="constrained",
        )
        for axes, family in zip(row[0], families, strict=True):
            drawing(axes, family)
            n_tasks, n_seeds = next(iter(families[family].values())).shape[:2]
            axes.set_title(f"{family}: {n_tasks} tasks × {n_seeds} seeds", fontsize="medium")
        handles, labels = row[0][0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right center", fontsize="small")
        paths.append(directory / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
        plt.close(figure)
    return paths


def _anytime(axes: Axes, regrets: Regrets) -> None:
    for name, values in regrets.items():
        n = np.arange(1, values.shape[2] + 1)
        axes.plot(n, values.mean(axis=(0, 1)), color=COLOURS.get(name), label=name, linewidth=1.6)
        if name in ("agent", "warm_gp"):
            intervals = [bootstrap(values[:, :, i], resamples=400) for i in range(len(n))]
            low, high = np.transpose(intervals)
            axes.fill_between(n, low, high, color=COLOURS[name], alpha=0.18, linewidth=0)
    axes.set(xlabel="evaluations", ylabel="regret of the recommended settings (mean)", yscale="log")
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_yticks(LEVELS, [f"{level:g}" for level in LEVELS])
    axes.minorticks_off()
    axes.set_ylim(0.7 * min(v.mean(axis=(0, 1)).min() for v in regrets.values()), 1)
    axes.grid(alpha=0.25, which="both")


def _profile(axes: Axes, regrets: Regrets, endpoint: int) -> None:
    limits = np.linspace(0, 0.5, 200)
    for name in (name for name in IN_PROFILE if name in regrets):
        final = regrets[name][:, :, endpoint - 1].ravel()
        share = [(final <= limit).mean() for limit in limits]
        axes.plot(limits, share, color=COLOURS.get(name), label=name, linewidth=1.6)
    axes.set(
        xlabel=f"regret after {endpoint} evaluations", ylabel="share of tasks at or below it",
        ylim=(0, 1),
    )  # fmt: skip
    axes.grid(alpha=0.25)


def _paired(axes: Axes, regrets: Regrets, endpoint: int) -> None:
    if not {"agent", "warm_gp"} <= regrets.keys():
        return
    ours, theirs = (
        np.maximum(regrets[name][:, :, endpoint - 1].mean(axis=1), 1e-3)
        for name in ("agent", "warm_gp")
    )
    axes.loglog(theirs, ours, "o", color=COLOURS["agent"], alpha=0.5, markersize=4)
    axes.plot([1e-3, 1], [1e-3, 1], color="black", linewidth=0.8)
    axes.plot([1e-3, 1], [5e-4, 0.5], color="black", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel=f"regret of warm_gp after {endpoint}", ylabel=f"regret of agent after {endpoint}",
        xlim=(9e-4, 1.1), ylim=(9e-4, 1.1), aspect="equal",
    )  # fmt: skip
    axes.text(0.04, 0.96, "warm_gp better", transform=axes.transAxes, va="top", fontsize="small")
    axes.text(0.96, 0.04, "agent better", transform=axes.transAxes, ha="right", fontsize="small")


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
    ticks = (-0.05, 0, 0.05, 0.2, 0.8)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel=f"regret after {endpoint}, less the agent's", xlim=(-0.1, 1))
    axes.grid(alpha=0.25, axis="x")
