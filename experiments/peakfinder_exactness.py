"""How many peaks differ from those of other programs, and with a frame prepared.

- The recorded lists of ``indexamajig`` for the run ``jf1m_lyso_60`` of the shared data.
- ``indexamajig`` itself, if there is one, on that run and on two real ones.
- cfelpyutils' compiled peakfinder8, whose flood fill is older, on the same frames and settings.
- Prepared frames against first looks, where a peak is the same if its place in the list and all its
  bits are.

A peak of either list without a partner in the other counts as different.

    python -m experiments.peakfinder_exactness ../shared/data [--json]
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from experiments.peakfinder_programs import Cfelpyutils, count_different, run_indexamajig
from tuner.cli.options import print_json, stderr
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.crystfel.stream import Stream
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

SIMULATED = "simulated/jf1m.geom", "simulated/jf1m_lyso_60.h5"
RUNS = {
    "jf1m_lyso_60": (*SIMULATED, (1024, 512)),
    "thermolysin": ("frames/thermolysin_cspad.geom", "frames/thermolysin_cspad_4.h5", (194, 185)),
    "thaumatin": (
        "frames/thaumatin_p6m_crop1320.geom",
        "frames/thaumatin_p6m_crop1320_19.h5",
        (1320, 1320),
    ),
}
"""Geometry, data, and the panels' width and height."""

BASE = Settings(min_snr=5, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30)
TRIED = {
    "jf1m_lyso_60": (BASE, BASE.replace(min_snr=4.25, threshold=10), BASE.replace(max_res=450)),
    "thermolysin": (BASE.replace(threshold=400), BASE.replace(min_snr=4, threshold=10)),
    "thaumatin": (BASE.replace(threshold=400), BASE.replace(min_snr=4, threshold=10)),
}
GRID = [
    BASE.replace(
        min_snr=min_snr,
        threshold=threshold,
        min_pix_count=1 + i % 3,
        max_pix_count=(4, 20, 200)[i % 3],
        local_bg_radius=1 + i % 7,
        max_res=(0, 300, 499)[i // 2 % 3],
    )
    for i, (min_snr, threshold) in enumerate(
        itertools.product([2, 2.3, 2.6, 3, 4.25, 5, 8], [-1000, 0, 30, 100, 400])
    )
]
"""For prepared frames, of which there are `N_PREPARED`."""
N_PREPARED = 12

Row = dict[str, str | int]


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, as_json: bool) -> None:
    """Print what differs, for the shared data in FOLDER."""
    rows = []
    for row in itertools.chain(
        compare_recorded(folder), compare_programs(folder), compare_prepared(folder)
    ):
        stderr.print(f"{row['against']} ...", highlight=False)
        rows.append(row)
    if as_json:
        print_json({"rows": rows})
        return
    print(f"{'against':32}  searches   peaks  different")
    for row in rows:
        print(
            f"{row['against']:32}  {row['searches']:8d}  {row['peaks']:6d}  {row['different']:9d}"
        )


def open_run(folder: Path, name: str) -> tuple[Run, PeakFinder]:
    """Return a run of the shared data and a finder for it."""
    geometry = Geometry.read(folder / RUNS[name][0])
    return Run.open(folder / RUNS[name][1], geometry), PeakFinder(geometry)


def compare_recorded(folder: Path) -> Iterator[Row]:
    """Compare with the recorded lists."""
    run, finder = open_run(folder, "jf1m_lyso_60")
    row: Row = {"against": "recorded lists", "searches": 0, "peaks": 0, "different": 0}
    with np.load(folder / "simulated" / "indexamajig_peaks.npz") as recorded:
        lists = {key: recorded[key] for key in recorded}
    for index, (key, rows) in itertools.product(range(len(run)), lists.items()):
        snr, threshold, pixels, radius = (float(part) for part in key.split("_"))
        settings = BASE.replace(
            min_snr=snr, threshold=threshold, min_pix_count=pixels, local_bg_radius=radius
        )
        fs, ss, intensity = rows[rows[:, 0] == index].T[1:4]
        different = count_different(finder.find(run[index], settings), fs, ss, intensity)
        row = added(row, len(fs), different)
    yield row


def compare_programs(folder: Path) -> Iterator[Row]:
    """Compare with CrystFEL, if there is one, and with cfelpyutils."""
    program = find_indexamajig()
    jobs = len(os.sched_getaffinity(0))
    for name, (geometry, data, module) in RUNS.items():
        run, finder = open_run(folder, name)
        crystfel: Row = {"against": f"indexamajig, {name}", "searches": 0, "peaks": 0}
        compiled: Row = {"against": f"cfelpyutils, {name}", "searches": 0, "peaks": 0}
        crystfel["different"] = compiled["different"] = 0
        for settings in TRIED[name]:
            frames = [run[index] for index in range(len(run))]
            found = [finder.find(frame, settings) for frame in frames]
            theirs = Cfelpyutils(frames, module, settings, finder.layout.radius)
            for index, peaks in enumerate(found):
                fs, ss, intensity = theirs.find(index)
                compiled = added(compiled, len(fs), count_different(peaks, fs, ss, intensity))
            if program is None:
                continue
            with tempfile.TemporaryDirectory() as directory:
                (Path(directory) / "x.lst").write_text(f"{(folder / data).absolute()}\n")
                stream = run_indexamajig(
                    program, Path(directory), (folder / geometry).absolute(), settings, jobs
                )
                chunks = {chunk.event: chunk.peaks for chunk in Stream(stream)}
            for index, peaks in enumerate(found):
                other = chunks[run.name(index)[1]]
                assert other is not None, "indexamajig always writes its peaks"
                different = count_different(peaks, other.fs, other.ss, other.intensity)
                crystfel = added(crystfel, len(other), different)
        if program is not None:
            yield crystfel
        yield compiled


def compare_prepared(folder: Path) -> Iterator[Row]:
    """Compare prepared frames with first looks, bit for bit."""
    run, finder = open_run(folder, "jf1m_lyso_60")
    row: Row = {"against": "first looks, by prepared frames", "searches": 0, "peaks": 0}
    row["different"] = 0
    for index in range(0, len(run), len(run) // N_PREPARED):
        prepared = finder.prepare(run[index])
        for settings in GRID:
            expected, found = finder.find(run[index], settings), prepared.find(settings)
            first, second = (
                [*zip(*(getattr(peaks, f.name) for f in dataclasses.fields(peaks)), strict=True)]
                for peaks in (expected, found)
            )
            different = sum(a != b for a, b in itertools.zip_longest(first, second))
            row = added(row, len(expected), different)
    yield row


def added(row: Row, peaks: int, different: int) -> Row:
    """Return a row with a further search."""
    return {
        "against": row["against"],
        "searches": int(row["searches"]) + 1,
        "peaks": int(row["peaks"]) + peaks,
        "different": int(row["different"]) + different,
    }


if __name__ == "__main__":
    main()
