"""How a training went: a row a checkpoint, and a picture of all."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.reading import read_text

__all__ = ["Row", "draw_curves", "read_curve", "write_curve"]

Row = dict[str, float]

CURVE = "curve.csv"
NEEDED = ("steps", "score", "regret_5", "regret_10", "regret_20")


def read_curve(directory: Path, needed: Sequence[str] = NEEDED) -> list[Row]:
    """Return the rows of a curve, none where there is no curve yet.

    Parameters
    ----------
    directory : Path
    needed : sequence of str
        Columns that every row must have, with finite numbers.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = directory / CURVE
    if not path.exists():
        return []
    remedy = f"remove {directory} to train that part anew"
    lines = read_text(path, "the curve").splitlines()
    try:
        rows = [{str(k): float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    except (ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}") from error
    for name in needed:
        if not all(math.isfinite(row.get(name, math.nan)) for row in rows):
            raise InputError(f"{path} is damaged (a row has no {name}): {remedy}")
    return rows


def write_curve(directory: Path, rows: list[Row]) -> None:
    """Write the rows of a curve."""
    write_whole(directory / CURVE, pd.DataFrame(rows).to_csv(index=False))


def draw_curves(actors: Mapping[str, list[Row]], selector: list[Row], path: Path) -> None:
    """Draw the actors' rewards and all regrets on validation against what was seen."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), constrained_layout=True)
    for name, rows in actors.items():
        steps = [row["steps"] / 1e6 for row in rows]
        axes[0].plot(steps, [row["reward"] for row in rows], ".-", label=name)
        axes[1].plot(steps, [row["score"] for row in rows], ".-")
    sessions = [row["steps"] / 1e6 for row in selector]
    axes[2].plot(sessions, [row["score"] for row in selector], "k.-")
    regret = "regret on validation\n(mean after 5, 10 and 20)"
    axes[0].set(xlabel="evaluations seen (millions)", ylabel="reward per evaluation")
    axes[1].set(
        title="each actor alone", xlabel="evaluations seen (millions)", ylabel=regret, yscale="log"
    )
    axes[2].set(
        title="all of them, with the selector",
        xlabel="sessions that the selector saw (millions)",
        ylabel=regret,
    )
    axes[0].legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, dpi=120)
    plt.close(figure)
    write_whole(path, content.getvalue())
