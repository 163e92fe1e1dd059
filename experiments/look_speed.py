"""What a free look costs: the peak counts of a frame with the parameter sets of a design.

The design is a session's (`envs.look.look_design` over the box that the frames' own background
gives). Each frame is read, prepared and counted in one thread, as a process of a pool does it, and
the processor time is added up; the same sets are then searched for peak lists by `find_all`, and a
few of them by first looks. All numbers must be the same.

Frames are rendered (an integrating detector and a photon counter of 1 and 4 Mpx), and real or
simulated by CrystFEL, where a folder of data is given.

    python -m experiments.look_speed [../shared/data] [--frames 12] [--json]
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from envs.environments.tasks import run_space
from envs.evaluators.live import LiveEvaluator
from envs.look import look_design
from envs.simulation.experiment import Detector, Experiment, tiled
from envs.simulation.simulator import simulate_run
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

TUNED = ("min_snr", "threshold", "min_pix_count")
MODULES = {1: (2, 1), 4: (4, 2)}
"""Rows and columns of modules of 512 x 1024 pixels, by size in Mpx."""
DATA = {
    "jf1m_lyso_60, integrating": ("simulated/jf1m_lyso_60.h5", "simulated/jf1m.geom"),
    "thaumatin, photon counter": (
        "frames/thaumatin_p6m_crop1320_19.h5",
        "frames/thaumatin_p6m_crop1320.geom",
    ),
    "thermolysin, integrating": (
        "frames/thermolysin_cspad_4.h5",
        "frames/thermolysin_cspad.geom",
    ),
}
FEW = 12
"""So many of the sets are searched by first looks, too."""

R = TypeVar("R")


@click.command()
@click.argument("data", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=12, show_default=True, help="Frames of each run.")
@click.option("--json", "as_json", is_flag=True, help="JSON.")
def main(data: Path | None, frames: int, as_json: bool) -> None:
    """Print what a look costs a frame."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, run, cell in runs(Path(folder), data, frames):
            stderr.print(f"{name} ...", highlight=False)
            rows.append({"run": name, **measure(run, frames), **split(run, cell, frames)})
    if as_json:
        print_json({"runs": rows})
    else:
        print_table(rows)


def runs(
    folder: Path, data: Path | None, n_frames: int
) -> Iterator[tuple[str, FrameSource, Cell | None]]:
    """Yield runs with their names, and the cell where it is known."""
    for mpx, (rows, columns) in MODULES.items():
        place = tiled(rows, columns, (512, 1024), (20, 10))
        integrating = Detector(place, (512, 1024))
        counter = dataclasses.replace(integrating, gain=1.0, read_noise=0.0)
        for kind, detector in (("integrating", integrating), ("photon counter", counter)):
            name = f"rendered, {kind}, {mpx} Mpx"
            experiment = Experiment(detector=detector, clen=0.08 * mpx**0.5, seed=mpx)
            paths = simulate_run(experiment, folder / name.replace(" ", "_"), n_frames)
            source = open_source(str(paths.data), Geometry.read(paths.geometry))
            yield name, source, Cell.read(paths.cell)
    if data is None:
        return
    for name, (frames, geometry) in DATA.items():
        yield name, open_source(str(data / frames), Geometry.read(data / geometry)), None


def design(run: FrameSource, n_frames: int) -> tuple[Settings, ...]:
    """Return the sets of a session's look at this run."""
    space = run_space(run, range(n_frames), TUNED, fixed={"min_res": 30})
    return look_design(space)


def timed(action: Callable[..., R], *arguments: Any) -> tuple[R, float]:
    """Return what something returns, and the processor time of this thread in ms."""
    started = time.thread_time()
    result = action(*arguments)
    return result, 1e3 * (time.thread_time() - started)


def first_looks(finder: PeakFinder, frame: Frame, sets: Sequence[Settings]) -> None:
    """Search a frame that is not prepared, set by set."""
    for each in sets:
        finder.find(frame, each)


def measure(run: FrameSource, n_frames: int) -> dict[str, Any]:
    """Return milliseconds a frame, and how the counts compare with the lists."""
    n = min(n_frames, len(run))
    sets = design(run, n)
    finder = PeakFinder(run.geometry)
    least = min(each.min_snr for each in sets)
    finder.prepare(run[0], least).count_all(sets)  # compiles
    finder.find(run[0], sets[0])
    times = []
    same, saturated, most = True, 0.0, 0
    few = sets[:: len(sets) // FEW]
    for index in range(n):
        frame, read = timed(run.__getitem__, index)
        prepared, prepare = timed(finder.prepare, frame, least)
        counts, count = timed(prepared.count_all, sets)
        lists, find_all = timed(prepared.find_all, sets)
        _, first = timed(first_looks, finder, frame, few)
        times.append((read, prepare, count, find_all, first / len(few) * len(sets)))
        same &= counts.tolist() == [len(peaks) for peaks in lists]
        saturated += float((counts >= 2048).mean()) / n
        most = max(most, int(counts.max()))
    read, prepare, count, find_all, first = np.mean(times, axis=0).tolist()
    return {
        "mpx": run[0].data.size / 1e6,
        "dtype": str(run[0].data.dtype),
        "n_sets": len(sets),
        "n_frames": n,
        "min_snr_from": least,
        "read_ms": read,
        "prepare_ms": prepare,
        "count_ms": count,
        "look_ms": prepare + count,
        "find_all_ms": find_all,
        "find_all_ratio": (prepare + find_all) / (prepare + count),
        "first_looks_ms": first,
        "same": bool(same),
        "saturated": saturated,
        "most_peaks": most,
    }


def split(run: FrameSource, cell: Cell | None, n_frames: int) -> dict[str, Any]:
    """Return what it costs to tell own peaks from others, a frame with a lattice."""
    if cell is None:
        return {}
    sets = design(run, n_frames)
    measured = sets[len(sets) // 2].replace(min_snr=4.5)
    frames = range(min(n_frames, len(run)))
    with LiveEvaluator(
        run, cell, FastIndexer(run.geometry, cell), frames, max_decoys=0
    ) as evaluator:
        evaluator.lattice_counts(measured, sets[:1])  # compiles, and indexes
        found, milliseconds = timed(evaluator.lattice_counts, measured, sets)
    n = len(found.frames)
    return {"n_lattices": n, "split_ms": milliseconds / n if n else None}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a line a run."""
    print(
        "| run | Mpx | sets | read¹ | prepare | count | look | lists instead, × | first looks, × | "
        "counts at the limit | own and others² |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = (
            row["run"],
            f"{row['mpx']:.1f}",
            row["n_sets"],
            *(f"{row[key]:.1f}" for key in ("read_ms", "prepare_ms", "count_ms")),
            f"**{row['look_ms']:.1f}**",
            f"{row['find_all_ratio']:.1f}",
            f"{row['first_looks_ms'] / row['look_ms']:.0f}",
            f"{row['saturated']:.1%}",
            f"{row['split_ms']:.0f}" if row.get("split_ms") else "",
        )
        print("| " + " | ".join(map(str, cells)) + " |")
    print("\n¹ from a file that the system has in memory; ² of a frame whose lattice is known")
    print(f"\nCounts are the lists' lengths: {all(row['same'] for row in rows)}")


if __name__ == "__main__":
    main()
