"""Which reading of the robust signal-to-noise ratio tells spots from noise best.

The formula (mean of peak - mean of background) / (sigma of peak + sigma of background) leaves open
what the peak's sigma is, and what its number of pixels n does. Candidates are the regions of two
or more pixels that are 2.5 standard deviations above their ring, in the frames with a crystal of
the run ``jf1m_lyso_60``, with the noise map of `peakfinder_accuracy`. Each reading is shown with
the F1 at its best threshold, once for the weak frames and once for the others.

    python -m experiments.peakfinder_snr ../shared/data/simulated [--json]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from experiments.peakfinder_accuracy import CLASSES, NEAR, USUAL, Floats, Truth, make_finders
from tuner.cli.options import print_json, stderr
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.run import Run
from wrappers.peakfinding.kernel_arguments import flat
from wrappers.peakfinding.peak_regions import join_pixels
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.peakfinding.robust_statistics import measure_regions, outstanding_pixels

OUTSTANDING = 2.5
MIN_PIXELS, MAX_PIXELS, RADIUS = 2, 50, 3
N_THRESHOLDS = 400


@dataclass(frozen=True, eq=False)
class Candidates:
    """Regions of bright pixels: arrays (n,).

    Attributes
    ----------
    position : float64 array (n, 2)
        fs and ss.
    n_pixels, excess, spread : float64 array
        Number, mean over the background, and standard deviation of their pixels.
    photons, background : float64 array
        Standard deviation of the photons in the mean pixel, and of the background.
    """

    position: Floats
    n_pixels: Floats
    excess: Floats
    spread: Floats
    photons: Floats
    background: Floats


READINGS = {
    "spread of the peak's pixels": lambda c: c.excess / (c.spread + c.background),
    "spread, with root n": lambda c: np.sqrt(c.n_pixels) * c.excess / (c.spread + c.background),
    "photon noise": lambda c: c.excess / (c.photons + c.background),
    "photon noise, with root n": lambda c: (
        np.sqrt(c.n_pixels) * c.excess / (c.photons + c.background)
    ),
    "none: sum over the background's": lambda c: c.n_pixels * c.excess / c.background,
}


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, as_json: bool) -> None:
    """Print the F1 of each reading, for the run in FOLDER."""
    geometry = Geometry.read(folder / "jf1m.geom")
    run = Run.open(folder / "jf1m_lyso_60.h5", geometry)
    truth = Truth.read(folder / "jf1m_lyso_60_truth.h5")
    finder = make_finders(geometry, run)[0]["robust with noise map"]
    assert isinstance(finder, RobustPeakFinder)
    chosen = [i for i, kind in enumerate(truth.classes) if kind in CLASSES]
    stderr.print(f"{len(chosen)} frames ...", highlight=False)
    found = {i: find_candidates(finder, run[i], geometry) for i in chosen}
    weak = [i for i in chosen if truth.classes[i] == "weak"]
    others = [i for i in chosen if i not in weak]
    rows = [
        {
            "reading": name,
            "f1_weak": best_f1([found[i] for i in weak], [truth.spots[i] for i in weak], name),
            "f1_others": best_f1(
                [found[i] for i in others], [truth.spots[i] for i in others], name
            ),
        }
        for name in READINGS
    ]
    if as_json:
        print_json({"rows": rows})
        return
    print(f"{'sigma of the peak':32}  F1: weak  others")
    for row in rows:
        print(f"{row['reading']:32}  {row['f1_weak']:8.3f}  {row['f1_others']:6.3f}")


def find_candidates(finder: RobustPeakFinder, frame: Frame, geometry: Geometry) -> Candidates:
    """Return a frame's candidates whose mean is above the background."""
    gain = geometry.adu_per_photon(frame.photon_energy)
    layout = finder.layout
    radius, width = layout.radius.reshape(-1), layout.radius.shape[1]
    data, mask, noise = flat(frame.data), flat(frame.mask), flat(finder.noise)
    bright, _ = outstanding_pixels(
        data, mask, noise, radius, *finder.ring_statistics(frame), OUTSTANDING
    )
    bright = bright[radius[bright] > USUAL.min_res]
    free = np.zeros(data.size // 64 + 2, np.uint64)
    start, pixel, owner = join_pixels(bright, width, layout.panels, MIN_PIXELS, MAX_PIXELS, free)
    rows = []
    for i in range(len(owner)):
        pixels = pixel[start[i] : start[i + 1]]
        region = np.array([0, len(pixels)]), pixels, owner[i : i + 1]
        for fs, ss, intensity, snr, _, n, _ in measure_regions(
            data, mask, noise, width, layout.panels, layout.max_adu, region, 0.0, RADIUS, gain
        ):
            excess = intensity / n
            photons = np.sqrt(gain * excess)
            background = np.sqrt(n) * excess / snr - photons
            spread = data[pixels].astype(float).std()
            rows.append((fs, ss, n, excess, spread, photons, background))
    columns = np.array(rows, float).reshape(-1, 7).T
    return Candidates(columns[:2].T, *columns[2:])


def best_f1(found: Sequence[Candidates], spots: Sequence[Floats], reading: str) -> float:
    """Return the F1 over all frames at the best of many thresholds."""
    snr = [READINGS[reading](each) for each in found]
    nearest = [nearest_spot(each.position, true) for each, true in zip(found, spots, strict=True)]
    n_spots = sum(len(true) for true in spots)
    best = 0.0
    for threshold in np.quantile(np.concatenate(snr), np.linspace(0, 1, N_THRESHOLDS)):
        kept = [spot[values >= threshold] for spot, values in zip(nearest, snr, strict=True)]
        n_right = sum(len(np.unique(spot[spot >= 0])) for spot in kept)
        best = max(best, 2 * n_right / (sum(len(spot) for spot in kept) + n_spots))
    return best


def nearest_spot(position: Floats, spots: Floats) -> NDArray[np.intp]:
    """Return the true spot that each candidate is, or -1."""
    distance, nearest = cKDTree(spots).query(position)
    return np.where(distance <= NEAR, nearest, -1)


if __name__ == "__main__":
    main()
