"""Figures of peaks and lattices: how strong, how far out, how many, and the cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from envs.evaluation import FrameOutcome
from tuner.report.colours import COLOURS
from tuner.report.drawing import TOKENS, svg
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Indexing, Pattern

__all__ = ["Spots", "histograms", "peakogram"]

Floats = NDArray[np.float64]

EDGES = "a", "b", "c"
ANGLES = "al", "be", "ga"
SYMBOLS = dict(zip((*EDGES, *ANGLES), ("a", "b", "c", "α", "β", "γ"), strict=True))

REACH = 0.95
"""Quantile of an indexed frame's peaks that tells its resolution."""

TICKS = (20, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1)
"""Resolutions in Å that may be written at an axis."""


@dataclass(frozen=True, eq=False)
class Spots:
    """The peaks of some frames, and their lattices.

    Attributes
    ----------
    inverse_d : float array (n,)
        1/d of each peak, in 1/Å.
    largest : float array (n,)
        Its largest pixel less the background, in ADU.
    indexed : bool array (n,)
        Whether its frame is.
    n_peaks : mapping of str to array of int
        Peaks of the frames that are indexed, hits not indexed, and no hits.
    resolution : float array (m,)
        1/d that nineteen in twenty of an indexed frame's peaks are within.
    cells : float array (k, 6)
        Edges in Å and angles in degrees of the lattices.
    reference : array of 6 float
        The session's cell.
    """

    inverse_d: Floats
    largest: Floats
    indexed: NDArray[np.bool_]
    n_peaks: Mapping[str, NDArray[np.int64]]
    resolution: Floats
    cells: Floats
    reference: Floats

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        cell: Cell,
        patterns: Mapping[int, Pattern],
        answers: Mapping[int, Indexing],
        outcomes: Mapping[int, FrameOutcome],
    ) -> Spots:
        """Gather what patterns and lattices of some frames say, with what became of the frames."""
        inverse_d, largest, indexed, reach = [], [], [], []
        for frame, pattern in patterns.items():
            q = np.linalg.norm(
                geometry.scattering_vectors(
                    pattern.peaks,
                    pattern.photon_energy,
                    pattern.camera_length,
                    pattern.shift_x,
                    pattern.shift_y,
                ),
                axis=1,
            )
            inverse_d.append(q)
            largest.append(pattern.peaks.max_value)
            indexed.append(np.full(len(q), outcomes[frame].indexed))
            if outcomes[frame].indexed and len(q):
                reach.append(float(np.quantile(q, REACH)))
        kinds = {"indexed": [], "hits not indexed": [], "no hits": []}  # type: dict[str, list[int]]
        for frame in patterns:
            o = outcomes[frame]
            kind = "indexed" if o.indexed else "hits not indexed" if o.hit else "no hits"
            kinds[kind].append(o.n_peaks)
        lattices = [each.reciprocal for a in answers.values() for each in a.lattices]
        return cls(
            np.concatenate([np.empty(0), *inverse_d]),
            np.concatenate([np.empty(0), *largest]),
            np.concatenate([np.empty(0, bool), *indexed]),
            {kind: np.array(values, np.int64) for kind, values in kinds.items()},
            np.array(reach),
            np.array([_cell_of(each) for each in lattices]).reshape(-1, 6),
            np.array([getattr(cell, name) for name in (*EDGES, *ANGLES)]),
        )


def _cell_of(reciprocal: Floats) -> Floats:
    """Return edges in Å and angles in degrees of a lattice's cell."""
    axes = np.linalg.inv(reciprocal).T
    lengths = np.linalg.norm(axes, axis=1)
    cosines = [axes[i] @ axes[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    return np.array([*lengths, *np.degrees(np.arccos(np.clip(cosines, -1, 1)))])


def peakogram(spots: Spots, saturation: float) -> Markup | None:
    """Draw the largest pixel of each peak against its resolution, or return None without peaks.

    Parameters
    ----------
    spots : Spots
    saturation : float
        The smallest ``max_adu`` of the panels; infinite where the geometry names none.
    """
    good = (spots.inverse_d > 0) & (spots.largest > 0)
    if not good.any():
        return None
    x, y, indexed = spots.inverse_d[good], spots.largest[good], spots.indexed[good]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        # As a picture they cannot follow the page's colours by night.
        for kind, colour in ((~indexed, COLOURS["grey"][0]), (indexed, COLOURS["blue"][0])):
            axes.plot(
                x[kind],
                y[kind],
                ".",
                ms=3.2,
                color=colour,
                alpha=0.6,
                mew=0,
                rasterized=True,
            )
        axes.set_yscale("log")
        if np.isfinite(saturation):
            axes.axhline(saturation, color=TOKENS["vermilion"], lw=1.2)
            axes.text(
                0.01,
                saturation,
                " saturation (max_adu)",
                transform=axes.get_yaxis_transform(),
                color=TOKENS["vermilion"],
                va="bottom",
            )
            axes.set_ylim(top=max(float(y.max()), saturation) * 2)
        _resolution_axis(figure)
        axes.set_ylabel("largest pixel (ADU)")

    return svg(
        draw,
        size=(480, 300),
        name="peakogram",
        alternative=f"The largest pixel of {len(x)} peaks against their resolution",
    )


def histograms(spots: Spots, min_peaks: int) -> tuple[Markup, ...]:
    """Draw peaks of a frame, the resolution of indexed frames, and the cells of their lattices."""
    found = [_peaks_histogram(spots, min_peaks)]
    if len(spots.resolution):
        found.append(_resolution_histogram(spots))
    if len(spots.cells):
        found += [
            _cell_histogram(spots, number, name) for number, name in enumerate((*EDGES, *ANGLES))
        ]
    return tuple(found)


def _peaks_histogram(spots: Spots, min_peaks: int) -> Markup:
    every = np.concatenate([*spots.n_peaks.values()])
    top = max(float(every.max(initial=1)), 2.0)
    bins = np.unique(np.round(np.geomspace(1, top + 1, 22))) - 0.5
    bins[0] = -0.5
    colours = {"indexed": "blue", "hits not indexed": "vermilion", "no hits": "grey"}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.hist(
            [*spots.n_peaks.values()],
            bins=[*bins],
            stacked=True,
            color=[TOKENS[colours[kind]] for kind in spots.n_peaks],
        )
        axes.set_xscale("symlog", linthresh=10)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(left=-0.5)
        if min_peaks:
            axes.axvline(min_peaks - 0.5, color=TOKENS["ink"], lw=0.9, ls=(0, (4, 3)))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel="peaks of a frame", ylabel="frames")

    numbers = ", ".join(f"{len(values)} {kind}" for kind, values in spots.n_peaks.items())
    return svg(
        draw, size=(310, 215), left=46, name="peaks-of-frames", alternative=f"Peaks: {numbers}"
    )


def _resolution_histogram(spots: Spots) -> Markup:
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.hist(spots.resolution, bins=16, color=TOKENS["blue"])
        _resolution_axis(figure)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(ylabel="indexed frames")

    middle = 1 / float(np.median(spots.resolution))
    return svg(
        draw,
        size=(310, 215),
        left=46,
        name="resolution",
        alternative=f"Resolution of {len(spots.resolution)} indexed frames, {middle:.2f} Å mostly",
    )


def _cell_histogram(spots: Spots, number: int, name: str) -> Markup:
    values, reference = spots.cells[:, number], float(spots.reference[number])
    middle = float(np.median(values))
    # Not wider than nine tenths of the lattices ask for; a whole per cent at least.
    half = max(float(np.quantile(np.abs(values - reference), 0.95)), 0.01 * reference)
    unit = "Å" if name in EDGES else "°"

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.hist(
            np.clip(values, reference - half, reference + half),
            bins=21,
            range=(reference - half, reference + half),
            color=TOKENS["blue"],
        )
        axes.axvline(reference, color=TOKENS["ink"], lw=0.9, ls=(0, (4, 3)))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel=f"{SYMBOLS[name]} ({unit})", ylabel="lattices")

    return svg(
        draw,
        size=(310, 215),
        left=46,
        name=f"cell-{name}",
        alternative=f"{SYMBOLS[name]} of {len(values)} lattices: {middle:.2f} {unit} mostly, "
        f"{reference:g} {unit} in the cell file",
    )


def _resolution_axis(figure: Figure) -> None:
    """Write resolutions in Å at an axis of 1/d."""
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    inside = [d for d in TICKS if max(low, 0) < 1 / d < high]
    # Not so many that they run into one another.
    chosen: list[float] = []
    for d in inside:
        if not chosen or 1 / d - 1 / chosen[-1] > 0.11 * (high - low):
            chosen.append(d)
    axes.set_xticks([1 / d for d in chosen], [f"{d:g}" for d in chosen])
    axes.set_xlim(low, high)
    axes.set_xlabel("resolution (Å)")
