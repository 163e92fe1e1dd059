"""How long a first look of the learned finder takes on a megapixel, beside peakfinder8's.

    python -m experiments.spot_speed [--json]

A frame of 1000 × 1000 pixels with 150 spots of 60 photons on a flat background, at several photons
a pixel. Processor time of one thread, the quickest of some tries: of the learned finder, which
judges a thousand candidates wherever there are so many; of peakfinder8's whole search with one set;
and of peakfinder8's preparation of a frame for any number of sets, which is what the learned
finder's look gives, too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from tuner.cli.options import print_json
from tuner.threads import single_threaded_algebra
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings
from wrappers.spots.learned_peaks import LearnedPeakFinder

SIDE = 1000
LEVELS = (0.003, 0.02, 0.1, 0.3, 1.0, 3.0, 30.0, 300.0)
"""Photons a pixel."""

N_SPOTS, PHOTONS, SPREAD = 150, 60, 0.6
TRIES = 15
LEARNED = Settings(peak_finder="learned", min_pix_count=1)
USUAL = Settings(min_snr=4.5, threshold=20)

GEOMETRY = f"""photon_energy = 9000
clen = 0.1
res = 10000
adu_per_photon = 1
data = /entry/data
dim0 = %
dim1 = ss
dim2 = fs
a/min_fs = 0
a/min_ss = 0
a/max_fs = {SIDE - 1}
a/max_ss = {SIDE - 1}
a/corner_x = {-SIDE / 2}
a/corner_y = {-SIDE / 2}
a/fs = +1x +0y
a/ss = +0x +1y
"""


@click.command()
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool) -> None:
    """Print milliseconds by photons a pixel."""
    single_threaded_algebra()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flat.geom"
        path.write_text(GEOMETRY)
        geometry = Geometry.read(path)
    learned, plain = LearnedPeakFinder(geometry), PeakFinder(geometry)
    rows = []
    for level in LEVELS:
        frame = _frame(level)
        rows.append(
            {
                "photons": level,
                "candidates": len(learned.prepare(frame).peaks),
                "learned_ms": _quickest(partial(learned.find, frame, LEARNED)),
                "peakfinder8_ms": _quickest(partial(plain.find, frame, USUAL)),
                "prepared_ms": _quickest(partial(_prepared, plain, frame)),
            }
        )
    if as_json:
        print_json({"levels": rows})
        return
    print("| photons a pixel | candidates | learned, ms | peakfinder8, ms | prepared, ms |")
    print("|---|---|---|---|---|")
    for row in rows:
        times = " | ".join(f"{row[f'{name}_ms']:.1f}" for name in ("learned", "peakfinder8"))
        print(f"| {row['photons']:g} | {row['candidates']} | {times} | {row['prepared_ms']:.1f} |")


def _frame(level: float) -> Frame:
    rng = np.random.default_rng(0)
    data = rng.poisson(level, (SIDE, SIDE)).astype(np.int32)
    for place in rng.uniform(20, SIDE - 20, (N_SPOTS, 2)):
        photons = rng.normal(place, SPREAD, (PHOTONS, 2)).astype(int)
        np.add.at(data, tuple(photons.T), 1)
    return Frame(data, np.ones(data.shape, bool), 9000.0, 0.1, "made", "//0")


def _prepared(finder: PeakFinder, frame: Frame) -> list[PeakList]:
    return finder.prepare(frame).find_all([USUAL])


def _quickest(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(TRIES):
        started = time.thread_time()
        call()
        seconds.append(time.thread_time() - started)
    return 1e3 * min(seconds)


if __name__ == "__main__":
    main()
