"""How a training went: a row a chapter, kept beside its checkpoint, and a picture of all."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from wrappers.files import write_whole

__all__ = ["Row", "draw_curves", "read_curve", "write_curve"]

Row = dict[str, float]

CURVE = "curve.csv"


def read_curve(directory: Path) -> list[Row]:
    """Return the rows of a seed's curve, none where there is no curve yet."""
    path = directory / CURVE
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def write_curve(directory: Path, rows: list[Row]) -> None:
    """Write the rows of a seed's curve."""
    write_whole(directory / CURVE, pd.DataFrame(rows).to_csv(index=False))


def draw_curves(curves: Mapping[int, list[Row]], path: Path) -> None:
    """Draw reward and regret on validation against the evaluations seen, a line a seed."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
    for seed, rows in curves.items():
        steps = [row["steps"] / 1e6 for row in rows]
        axes[0].plot(steps, [row["reward"] for row in rows], label=f"seed {seed}")
        axes[1].plot(steps, [row["score"] for row in rows])
    axes[0].set(xlabel="evaluations seen (millions)", ylabel="reward per evaluation")
    axes[1].set(
        xlabel="evaluations seen (millions)",
        ylabel="regret on validation\n(mean after 5, 10 and 20)",
        yscale="log",
    )
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
