"""A picture of a mask: where the bad pixels of each kind are, and how clearly they are bad."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.masks.bad_pixel_map import KINDS, BadPixelMap
from wrappers.masks.settings_mask import BITS
from wrappers.settings import Settings
from wrappers.text import printable

__all__ = ["draw_mask"]

COLOURS = {"hot": "#d1495b", "noisy": "#edae49", "dead": "#00798c"}
MASKED, PANEL = "#c8ccd0", "#f1f3f5"
MOST_MARKERS = 20_000
SHOWN_SIGMA = 0.5, 100.0


def draw_mask(
    path: Path,
    geometry: Geometry,
    bits: NDArray[np.uint8],
    bad_pixels: BadPixelMap,
    settings: Settings,
) -> None:
    """Draw a mask as the detector lies in the laboratory, and the maps' histograms.

    Parameters
    ----------
    path : Path
        Any picture format of Matplotlib.
    geometry : Geometry
    bits : uint8 array (ss, fs)
        In `BITS`.
    bad_pixels : BadPixelMap
    settings : Settings
        With the thresholds.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(2, 1))
    _draw_detector(figure.add_subplot(grid[:, 0]), geometry, bits)
    for row, kind in enumerate(KINDS):
        axes = figure.add_subplot(grid[row, 1])
        known = bits & BITS["geometry"] == 0
        _draw_histogram(
            axes, kind, getattr(bad_pixels, kind)[known], getattr(settings, f"mask_{kind}_sigma")
        )
    name = printable(geometry.path.name).replace("$", r"\$")  # or it would be a formula
    figure.suptitle(f"Bad pixels of {bad_pixels.n_frames} frames, {name}")
    content = io.BytesIO()
    try:
        figure.savefig(content, format=path.suffix[1:] or "png", dpi=120)
    except ValueError as error:
        raise InputError(f"the picture {path} cannot be written: {error}") from error
    write_whole(path, content.getvalue())


def _draw_detector(axes: Axes, geometry: Geometry, bits: NDArray[np.uint8]) -> None:
    places: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in KINDS}
    for index, panel in enumerate(geometry.panels):
        x, y = geometry.pixel_corners(index)
        inside = bits[panel.rectangle]
        corners = [(0, 0), (0, -1), (-1, -1), (-1, 0)]
        axes.fill([x[c] for c in corners], [y[c] for c in corners], color=PANEL, zorder=0)
        masked = inside & (BITS["geometry"] | BITS["edge"]) != 0
        # A picture has fewer pixels than a large detector: large regions look the same thinned.
        step = max(1, round(max(geometry.slab_shape) / 1000))
        shown = np.zeros_like(masked)
        shown[::step, ::step] = masked[::step, ::step]
        axes.plot(x[shown], y[shown], ",", color=MASKED, zorder=1)
        for kind in KINDS:
            of_kind = inside & BITS[kind] != 0
            places[kind].append(np.stack([x[of_kind], y[of_kind]]))
    for kind, colour in COLOURS.items():
        x, y = np.concatenate(places[kind], axis=1)
        step = len(x) // MOST_MARKERS + 1
        axes.plot(
            x[::step],
            y[::step],
            ".",
            ms=4,
            mew=0,
            color=colour,
            label=f"{kind}: {len(x)}",
            zorder=2,
        )
    axes.plot([], [], "s", color=MASKED, label="masked by the geometry, or edge")
    axes.plot(0, 0, "+", color="black", ms=8, label="beam")
    axes.set(aspect="equal", xlabel="x (pixels from the beam)", ylabel="y (pixels)")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False, markerscale=1.5
    )


def _draw_histogram(axes: Axes, kind: str, sigma: NDArray[np.float16], threshold: float) -> None:
    low, high = SHOWN_SIGMA
    values = np.minimum(sigma[sigma > low].astype(np.float64), high)
    counts, edges = np.histogram(values, np.geomspace(low, high, 81))
    axes.stairs(counts, edges, fill=True, color=COLOURS[kind])
    axes.set(xscale="log", yscale="log", ylabel="pixels", ylim=(0.7, None))
    if threshold:
        axes.axvline(threshold, color="black", lw=1)
        axes.text(
            threshold * 1.1,
            0.95,
            f"{threshold:g} σ",
            va="top",
            transform=axes.get_xaxis_transform(),
        )
    axes.set_xlabel(f"{kind}: robust σ from the neighbours")
