"""Which true spots the peak finders find, and what of that can be indexed.

The run is ``jf1m_lyso_60`` of the shared data: 60 frames simulated with CrystFEL's pattern_sim,
each with the list of its true spots, and 490 hot, noisy and dead pixels that no mask names. Each
finder is tried with a grid of settings, and shown with three of them: that of best F1 over all
frames with a crystal, that of best F1 where single pixels count as peaks, and that which indexes
most frames. The best of a grid is a little better than it would be on other frames, for all
finders alike. The finders are

- peakfinder8;
- peakfinder8 where the pixels that the noise map calls noisy are masked;
- the robust peak finder, without a noise map;
- the robust peak finder with the noise map.

The noise map is learnt from the frames of the same run in which peakfinder8, at CrystFEL's usual
settings, finds fewer than ten peaks: no truth is used for it.

    python -m experiments.peakfinder_accuracy ../shared/data/simulated [--picture weak.png] [--json]
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peak_batch import Finder, PeakBatch
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USUAL = Settings(min_snr=5, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30)
NON_HIT = 10
"""A frame with fewer peaks at the usual settings is taken for a non-hit."""
MASKED = 2.0
"""Pixels so many times noisier than their rings are masked for peakfinder8."""

MIN_SNR = {"peakfinder8": (3, 3.5, 4, 4.5, 5, 6, 8), "robust": (2, 2.25, 2.5, 2.75, 3, 3.5, 4)}
THRESHOLD = (10, 30)
MIN_PIX_COUNT = (1, 2, 3)
"""The grid; max_pix_count 50, local_bg_radius 3 and min_res 30 as in the recorded lists."""

MIN_PEAKS = 10
"""Frames with fewer peaks are not indexed."""
NEAR = 2.0
"""Pixels between a peak and the true spot that it is."""
CLASSES = ("weak", "medium", "strong", "multi")
COARSE = 8
"""Pixels of the picture are so many of the detector's on a side."""

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is in the frames: a class each, and spots (n, 2) as fs, ss."""

    classes: tuple[str, ...]
    spots: tuple[Floats, ...]

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read the truth beside a simulated run."""
        with h5py.File(path) as file:
            classes = tuple(name.decode() for name in file["class"])
            spots = tuple(
                np.asarray(file[f"frame/{i:04d}"].get("spots_fs_ss_photons", np.empty((0, 3))))
                for i in range(len(classes))
            )
        return cls(classes, tuple(each[:, :2].astype(float) for each in spots))


class Masked:
    """A finder that is given a further mask."""

    def __init__(self, finder: PeakFinder, usable: NDArray[np.bool_]) -> None:
        self._finder, self._usable = finder, usable

    def _masked(self, frame: Frame) -> Frame:
        return dataclasses.replace(frame, mask=frame.mask & self._usable)

    def find(self, frame: Frame, settings: Settings) -> PeakList:
        """Return the peaks of a frame."""
        return self._finder.find(self._masked(frame), settings)

    def prepare(self, frame: Frame, min_snr: float = 2.0) -> Any:
        """Make a frame ready for many settings."""
        return self._finder.prepare(self._masked(frame), min_snr)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), help="PNG of a weak frame to write.")
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, picture: Path | None, as_json: bool) -> None:
    """Print the table for the run in FOLDER."""
    geometry = Geometry.read(folder / "jf1m.geom")
    run = Run.open(folder / "jf1m_lyso_60.h5", geometry)
    truth = Truth.read(folder / "jf1m_lyso_60_truth.h5")
    jobs = len(os.sched_getaffinity(0))
    indexer = FastIndexer(geometry, Cell.read(folder / "lyso.cell"))
    finders, n_learnt = make_finders(geometry, run)
    rows, lists = [], {}
    for name, finder in finders.items():
        stderr.print(f"{name} ...", highlight=False)
        grid = [
            USUAL.replace(min_snr=snr, threshold=threshold, min_pix_count=pixels)
            for snr, threshold, pixels in itertools.product(
                MIN_SNR[name.split()[0]], THRESHOLD, MIN_PIX_COUNT
            )
        ]
        found = list(PeakBatch(finder, run, jobs=jobs).search(range(len(run)), grid))
        columns = [[frame.patterns[i].peaks for frame in found] for i in range(len(grid))]
        scores = [score(peaks, truth, CLASSES) for peaks in columns]
        rates = [index(indexer, run, peaks, truth) for peaks in columns]
        order = sorted(range(len(grid)), key=lambda i: -scores[i]["f1"])
        best = {
            "F1": order[0],
            "1 pixel": next(i for i in order if grid[i].min_pix_count == 1),
            "indexing": max(order, key=lambda i: rates[i][0]),
        }
        for chosen_for, i in best.items():
            rows.append(
                {
                    "finder": name,
                    "chosen_for": chosen_for,
                    "min_snr": grid[i].min_snr,
                    "threshold": grid[i].threshold,
                    "min_pix_count": grid[i].min_pix_count,
                    "all": scores[i],
                    **{each: score(columns[i], truth, (each,)) for each in CLASSES},
                    "peaks_in_blank_frames": count_blank(columns[i], truth),
                    "indexed": rates[i][0],
                    "indexed_weak": rates[i][1],
                    "indexed_blank": rates[i][2],
                }
            )
            lists[name, chosen_for] = columns[i]
    result = {"frames": len(run), "non_hits_learnt_from": n_learnt, "rows": rows}
    if as_json:
        print_json(result)
    else:
        print_table(result)
    if picture is not None:
        draw(run, truth, lists["peakfinder8", "F1"], lists["robust with noise map", "F1"], picture)


def make_finders(geometry: Geometry, run: Run) -> tuple[dict[str, Finder], int]:
    """Return the finders by name, and from how many frames the noise map is learnt."""
    plain, robust = PeakFinder(geometry), RobustPeakFinder(geometry)
    non_hits = [i for i in range(len(run)) if len(plain.find(run[i], USUAL)) < NON_HIT]
    noise = robust.learn_noise(run.select(non_hits))
    return {
        "peakfinder8": plain,
        "peakfinder8 with learnt mask": Masked(plain, noise < MASKED),
        "robust": robust,
        "robust with noise map": RobustPeakFinder(geometry, noise=noise),
    }, len(non_hits)


def matches(peaks: PeakList, spots: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which peaks are true spots and which spots are found, each at most once."""
    right, found = np.zeros(len(peaks), bool), np.zeros(len(spots), bool)
    if len(peaks) and len(spots):
        distance, nearest = cKDTree(spots).query(np.column_stack([peaks.fs, peaks.ss]))
        for i in np.argsort(distance):
            if distance[i] <= NEAR and not found[nearest[i]]:
                right[i] = found[nearest[i]] = True
    return right, found


def score(lists: Sequence[PeakList], truth: Truth, classes: tuple[str, ...]) -> dict[str, float]:
    """Return recall, precision and F1 over the peaks of all frames of some classes."""
    n_right = n_peaks = n_spots = 0
    for peaks, spots, kind in zip(lists, truth.spots, truth.classes, strict=True):
        if kind in classes:
            n_right += int(matches(peaks, spots)[0].sum())
            n_peaks += len(peaks)
            n_spots += len(spots)
    return {
        "recall": n_right / n_spots,
        "precision": n_right / max(n_peaks, 1),
        "f1": 2 * n_right / (n_peaks + n_spots),
    }


def count_blank(lists: Sequence[PeakList], truth: Truth) -> float:
    """Return the mean number of peaks in frames without a crystal."""
    pairs = zip(lists, truth.classes, strict=True)
    return float(np.mean([len(peaks) for peaks, kind in pairs if kind == "blank"]))


def index(
    indexer: FastIndexer, run: Run, lists: Sequence[PeakList], truth: Truth
) -> tuple[int, int, int]:
    """Return how many frames with a crystal, weak ones, and blank ones are indexed."""
    hits = [i for i, peaks in enumerate(lists) if len(peaks) >= MIN_PEAKS]
    patterns = [Pattern(lists[i], run.photon_energy(i), run.camera_length(i)) for i in hits]
    answers = indexer.index(patterns)
    indexed = [truth.classes[i] for i, each in zip(hits, answers, strict=True) if each.indexed]
    blank = indexed.count("blank")
    return len(indexed) - blank, indexed.count("weak"), blank


def print_table(result: dict[str, Any]) -> None:
    """Print the rows for people."""
    print(
        f"{'':52}  {'weak':17}  {'all':17}  F1 of                 peaks   indexed\n"
        f"{'finder':30}best for  snr / thr / pix  recall prec. F1    recall prec. F1    "
        "medium strong multi  a blank  (weak, blank)"
    )
    for row in result["rows"]:
        settings = f"{row['min_snr']:g} / {row['threshold']:g} / {row['min_pix_count']}"
        weak, every = (
            " ".join(f"{row[kind][name]:.3f}" for name in ("recall", "precision", "f1"))
            for kind in ("weak", "all")
        )
        others = "  ".join(f"{row[kind]['f1']:.3f}" for kind in CLASSES[1:])
        print(
            f"{row['finder']:30}{row['chosen_for']:8}  {settings:15} {weak}  {every}  {others}  "
            f"{row['peaks_in_blank_frames']:7.1f}  {row['indexed']} "
            f"({row['indexed_weak']}, {row['indexed_blank']})"
        )


def place(geometry: Geometry, points: Floats) -> Floats:
    """Return where points (n, 2), as fs, ss, are in the laboratory: x, y in pixels.

    Of a geometry whose panels lie one below the other in the slab.
    """
    first_ss = np.array([panel.slab_ss for panel in geometry.panels])
    panel = np.searchsorted(first_ss, points[:, 1], side="right") - 1
    position = geometry.lab_positions(points[:, 0], points[:, 1], panel, 0.0)
    return position[:, :2] * geometry.panels[0].res


def draw_panels(axis: Axes, frame: Frame, geometry: Geometry) -> None:
    """Draw a frame as it lies in the laboratory, averaged: noise makes a file large."""
    for index, panel in enumerate(geometry.panels):
        height, width = panel.height // COARSE, panel.width // COARSE
        usable, image = (
            array[panel.rectangle][: height * COARSE, : width * COARSE]
            .reshape(height, COARSE, width, COARSE)
            .sum((1, 3))
            for array in (frame.mask, np.where(frame.mask, frame.data, 0.0))
        )
        shown = np.ma.masked_where(usable == 0, image) / np.maximum(usable, 1)
        fs, ss = np.meshgrid(np.arange(width + 1) * COARSE, np.arange(height + 1) * COARSE)
        corners = geometry.lab_positions(
            fs.ravel() + panel.slab_fs, ss.ravel() + panel.slab_ss, np.full(fs.size, index), 0.0
        )
        x, y = (corners[:, :2] * panel.res).T.reshape(2, *fs.shape)
        axis.pcolormesh(x, y, shown, cmap="Greys", vmin=0, vmax=60, rasterized=True)


def draw(
    run: Run,
    truth: Truth,
    plain: Sequence[PeakList],
    robust: Sequence[PeakList],
    path: Path,
) -> None:
    """Draw the weak frame with most spots: true, found and missed spots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    weak = [i for i, kind in enumerate(truth.classes) if kind == "weak"]
    chosen = max(weak, key=lambda i: len(truth.spots[i]))
    spots, frame = truth.spots[chosen], run[chosen]
    placed = functools.partial(place, run.geometry)
    figure, axes = plt.subplots(1, 2, figsize=(12, 6.6), sharex=True, sharey=True)
    for axis, lists, name in zip(
        axes, (plain, robust), ("peakfinder8", "robust, with noise map"), strict=True
    ):
        peaks = lists[chosen]
        right, found = matches(peaks, spots)
        wrong = np.column_stack([peaks.fs, peaks.ss])[~right]
        draw_panels(axis, frame, run.geometry)
        for points, marker, colour, label in (
            (spots[~found], "s", "#e69f00", f"{(~found).sum()} true spots, missed"),
            (spots[found], "o", "#0072b2", f"{found.sum()} true spots, found"),
            (wrong, "x", "#d4002a", f"{len(wrong)} peaks that are none"),
        ):
            hollow = {"facecolors": "none", "edgecolors": colour}
            style: dict[str, Any] = {"c": colour} if marker == "x" else hollow
            axis.scatter(
                *placed(points).T, s=30, marker=marker, linewidths=1.3, label=label, **style
            )
        axis.set_aspect("equal")
        axis.set_title(name, fontsize=11)
        axis.set_xlabel("x / px")
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1),
            ncols=3,
            fontsize=8,
            frameon=False,
            handletextpad=0.2,
            columnspacing=1,
        )
    axes[0].set_ylabel("y / px")
    figure.suptitle(f"jf1m_lyso_60, frame {chosen} (weak), each finder at its best F1", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
