"""Pictures of how well the response model predicts recorded experiments."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from envs.evaluation import wilson_interval
from envs.evaluators.recording import INDEXED, Scan, scan_of
from experiments.response_fit import Recorded
from experiments.response_report import Comparison

__all__ = ["draw_pictures"]

PANELS = (
    "indexed / frames", "hits / frames", "peaks a hit", "explained",
    "scale deviation", "residual, pixels", "standard error of clen", "core seconds",
)  # fmt: skip
MEASURED, PREDICTED = "#1f4e79", "#d1622b"
SHOWN = 4
"""Experiments whose curves are drawn."""


def draw_pictures(
    recorded: Recorded, found: dict[str, Comparison], folder: Path, prefix: str = "simulation"
) -> None:
    """Write `prefix`_predicted.png and `prefix`_curves.png."""
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.6), constrained_layout=True)
    for axis, name in zip(axes.flat, PANELS, strict=True):
        _scatter(axis, found[name])
    figure.suptitle(
        "Held-out experiments: what was measured on rendered frames, and what the model predicts "
        "of the same frames"
    )
    figure.savefig(folder / f"{prefix}_predicted.png", dpi=110)
    plt.close(figure)

    figure, axes = plt.subplots(2, SHOWN, figsize=(13, 6), sharey=True, constrained_layout=True)
    rates = found["indexed / frames"]
    for column, experiment in enumerate(_typical(rates)):
        for row, scan in enumerate(("threshold", "clen")):
            _curve(axes[row, column], recorded, rates, experiment, scan_of(scan))
        axes[0, column].set_title(recorded.draws[experiment].kind)
    axes[0, 0].legend(frameon=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("indexed / frames")
    figure.suptitle("Held-out experiments, from the one predicted best to the one predicted worst")
    figure.savefig(folder / f"{prefix}_curves.png", dpi=110)
    plt.close(figure)


def _scatter(axis: Axes, one: Comparison) -> None:
    x, y = one.pairs
    if one.logarithmic:
        x, y = np.exp(x), np.exp(y)
        axis.set(xscale="log", yscale="log")
    low, high = np.quantile(np.concatenate([x, y]), (0.003, 0.997))
    axis.plot([low, high], [low, high], color="0.6", lw=1, zorder=0)
    axis.scatter(x, y, s=5, alpha=0.25, color=MEASURED, linewidths=0)
    room = 0.03 * (high - low) if not one.logarithmic else 0
    axis.set_xlim(low - room, high + room)
    axis.set_ylim(low - room, high + room)
    axis.set(title=one.name, xlabel="measured", ylabel="predicted")


def _typical(rates: Comparison) -> NDArray[np.int64]:
    """Return experiments spread evenly over how well the model does, the best first."""
    off = np.abs(rates.measured - rates.predicted).mean(axis=1)
    order = np.argsort(off)
    return order[np.linspace(0, len(order) - 1, SHOWN).round().astype(int)]


def _curve(axis: Axes, recorded: Recorded, rates: Comparison, experiment: int, scan: Scan) -> None:
    settings = np.array(scan.places)
    if scan.name == "clen":
        x = 100 * recorded.offset[experiment, settings]
        axis.set_xlabel("error of the camera length, %")
    else:
        x = recorded.setting(scan.name)[experiment, settings]
        axis.set(xscale="log", xlabel="threshold, ADU")
    order = np.argsort(x)
    x, settings = x[order], settings[order]
    n_frames = recorded.n_peaks.shape[2]
    indexed = recorded.bit(INDEXED)[experiment, settings].sum(axis=1)
    low, high = np.array([wilson_interval(int(k), n_frames) for k in indexed]).T
    measured = indexed / n_frames
    axis.errorbar(
        x, measured, (measured - low, high - measured), fmt="o", ms=4, color=MEASURED, capsize=2,
        label="measured, 95 %",
    )  # fmt: skip
    axis.plot(x, rates.predicted[experiment, settings], color=PREDICTED, label="predicted")
    axis.set_ylim(0, 1)
