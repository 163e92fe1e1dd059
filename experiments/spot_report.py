"""What the study of the peak finders found, as a table and as a picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

__all__ = ["BRIGHTNESS", "draw_recall", "print_table"]

BRIGHTNESS = (4.0, 10.0, 30.0, 100.0, math.inf)
"""Expected photons of spots that are counted together."""

COLORS = {
    "learned": "#d1622b",
    "peakfinder8": "#1f4e79",
    "robust": "#5b8c5a",
    "probixi": "#7d6b91",
}


def draw_recall(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw the recall of each finder by brightness, a panel for each run whose spots are known.

    Parameters
    ----------
    results : mapping
        Figures of `experiments.spot_finders` by run and finder.
    path : Path
        Written.
    """
    known = {
        name: finders for name, finders in results.items() if finders["learned"]["f1"] is not None
    }
    columns = min(len(known), 3)
    rows = -(-len(known) // max(columns, 1))
    size = (3.6 * columns, 2.7 * rows + 0.4)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharey=True, squeeze=False, constrained_layout=True
    )
    for axis, (name, finders) in zip(axes.flat, known.items(), strict=False):
        for finder, row in finders.items():
            by = row["recall_by_photons"]
            shown = {bin_: value for bin_, value in by.items() if value is not None}
            places = [list(by).index(bin_) for bin_ in shown]
            axis.plot(
                places, list(shown.values()), "o-", ms=4, lw=1.5, color=COLORS[finder], label=finder
            )
        labels = [each.replace("-inf", " or more").replace("-", "–") for each in by]
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.2, len(labels) - 0.6)
        axis.set_title(name, fontsize=10)
        axis.set_ylim(0, 1.03)
        axis.grid(axis="y", color="0.9")
    for axis in axes.flat[len(known) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("photons of a spot")
    for axis in axes[:, 0]:
        axis.set_ylabel("share found")
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def print_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the figures for people, as a table of Markdown."""

    def text(value: float | None, form: str = ".3f") -> str:
        return "–" if value is None else f"{value:{form}}"

    bins = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(BRIGHTNESS)]
    print(
        "| run | finder | F1 | precision | recall | "
        + " | ".join(f"recall {each}" for each in bins)
        + " | rate | CrystFEL | ms / Mpx |"
    )
    print("|---" * (8 + len(bins)) + "|")
    for name, finders in results.items():
        for finder, row in finders.items():
            by = row["recall_by_photons"] or {}
            cells = [text(row[key]) for key in ("f1", "precision", "recall")]
            if row["f1_ci95"]:
                low, high = row["f1_ci95"]
                cells[0] += f" [{low:.2f}, {high:.2f}]"
            cells += [text(by.get(each), ".2f") for each in bins]
            cells += [
                text(row["rate"]),
                text(row.get("rate_crystfel")),
                text(row["ms_1mpx"], ".1f"),
            ]
            print(f"| {name} | {finder} | {' | '.join(cells)} |")
