"""How the embedded indexer does on simulated stills (`envs.simulation.stills`), and on noise.

- The share of stills in which the true lattice is found, against errors of the camera length and
  of the beam's position, for lattices of all kinds, few peaks and many, with and without peaks that
  belong to no lattice.
- The same for each of several lattices in one frame.
- Milliseconds of one core that a list of noise takes, by the number of its peaks.
- Frames a second of wall time by the number of threads: the indexer lets others run meanwhile.

    python -m experiments.indexer_simulated [--repeats 20] [--jobs 4] [--picture FILE.png] [--json]
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from envs.simulation.stills import (
    WAVENUMBER,
    is_same_lattice,
    misplace,
    simulate_blank,
    simulate_still,
)
from tuner.cli.options import print_json, stderr
from wrappers.cell import Cell
from wrappers.lattices.fast_indexer import LatticeFinder

CELLS = {
    "tetragonal P 79, 38 Å": Cell(79, 79, 38, 90, 90, 90, "tetragonal", "P", "c"),
    "orthorhombic C 61, 123, 168 Å": Cell(61.4, 122.6, 168, 90, 90, 90, "orthorhombic", "C"),
    "cubic P 96 Å": Cell(96.4, 96.4, 96.4, 90, 90, 90, "cubic", "P"),
    "cubic I 79 Å": Cell(79, 79, 79, 90, 90, 90, "cubic", "I"),
    "orthorhombic F 110, 120, 135 Å": Cell(110, 120, 135, 90, 90, 90, "orthorhombic", "F"),
    "rhombohedral H 82, 195 Å": Cell(82, 82, 195, 90, 90, 120, "hexagonal", "H", "c"),
    "monoclinic P 57, 43, 88 Å": Cell(57, 43, 88, 90, 102, 90, "monoclinic", "P", "b"),
    "triclinic 35, 42, 51 Å": Cell(35, 42, 51, 82, 97, 104),
    "hexagonal P 281, 165 Å": Cell(281, 281, 165.2, 90, 90, 120, "hexagonal", "P", "c"),
    "cubic P 280 Å": Cell(280, 280, 280, 90, 90, 90, "cubic", "P"),
}
LISTS = {
    "8 peaks": (8, 0.0),
    "12 peaks": (12, 0.0),
    "40 peaks, 30 % wrong": (40, 0.3),
    "200 peaks, 30 % wrong": (200, 0.3),
    "500 peaks, 30 % wrong": (500, 0.3),
}
"""Number of peaks, and the share of them that belongs to no lattice."""
CLEN_ERRORS = (-0.04, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.04)
SHIFTS = (0.0, 1.5, 3.0, 4.5)
"""In pixels of 75 µm, 80 mm behind the crystal."""
SEVERAL = (50, 40, 30)
"""Peaks of each of several lattices in a frame."""

TIMED = tuple(CELLS)[:2] + tuple(CELLS)[-2:]
NOISE = (50, 100, 250, 500, 1000, 2000)
THREADS = (1, 2, 3, 4)
FRAMES = 200


@click.command()
@click.option("--repeats", default=20, show_default=True, help="Stills for each point.")
@click.option("--jobs", default=4, show_default=True, help="Processes for the recall.")
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw the recall.")
@click.option("--json", "as_json", is_flag=True)
def main(repeats: int, jobs: int, picture: Path | None, as_json: bool) -> None:
    """Print the tables."""
    result: dict[str, Any] = {"noise": time_noise(repeats), "threads": time_threads()}
    recall: dict[str, dict[str, list[list[float]]]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        tasks = list(itertools.product(CELLS, LISTS))
        names, kinds = zip(*tasks, strict=True)
        for (name, kind), shares in zip(
            tasks, pool.map(measure_recall, names, kinds, itertools.repeat(repeats)), strict=True
        ):
            stderr.print(f"{name}, {kind}", highlight=False)
            recall.setdefault(name, {})[kind] = shares
        several = pool.map(measure_several, CELLS, itertools.repeat(repeats))
        result |= {"recall": recall, "several": dict(zip(CELLS, several, strict=True))}
    if picture:
        draw(recall, picture)
    if as_json:
        print_json(result)
    else:
        print_tables(result)


def measure_recall(name: str, kind: str, repeats: int) -> list[list[float]]:
    """Return the share found, a row for each shift, a column for each camera length."""
    cell, (n_peaks, wrong) = CELLS[name], LISTS[kind]
    finder = LatticeFinder(cell)
    rng = np.random.default_rng(0)
    stills = [simulate_still(cell, rng, n_peaks, wrong) for _ in range(repeats)]
    directions = rng.uniform(0.0, 2.0 * np.pi, repeats)

    def share(error: float, shift: float) -> float:
        right = 0
        for (q, true), direction in zip(stills, directions, strict=True):
            found = finder.find(misplace(q, error, shift, direction), WAVENUMBER)
            right += bool(found) and is_same_lattice(found[0].reciprocal, true, cell)
        return right / repeats

    return [[share(error, shift) for error in CLEN_ERRORS] for shift in SHIFTS]


def measure_several(name: str, repeats: int) -> tuple[float, float]:
    """Return how many of several lattices a frame are found, and how many more, on average."""
    cell = CELLS[name]
    finder = LatticeFinder(cell, max_lattices=len(SEVERAL) + 2)
    rng = np.random.default_rng(0)
    right = wrong = 0
    for _ in range(repeats):
        stills = [simulate_still(cell, rng, n) for n in SEVERAL]
        found = finder.find(np.concatenate([q for q, _ in stills]), WAVENUMBER)
        hits = [
            any(is_same_lattice(one.reciprocal, true, cell) for one in found) for _, true in stills
        ]
        right += sum(hits)
        wrong += len(found) - sum(hits)
    return right / repeats, wrong / repeats


def time_noise(repeats: int) -> dict[str, list[float]]:
    """Return the median milliseconds of a list, by cell, for each number of `NOISE`."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {}
    for name in TIMED:
        finder = LatticeFinder(CELLS[name])
        finder.find(simulate_blank(rng, 60), WAVENUMBER)
        times[name] = []
        for n_peaks in NOISE:
            each = []
            for _ in range(repeats):
                q, strength = simulate_blank(rng, n_peaks), rng.uniform(size=n_peaks)
                started = time.thread_time()
                finder.find(q, WAVENUMBER, strength)
                each.append(1e3 * (time.thread_time() - started))
            times[name].append(float(np.median(each)))
    return times


def time_threads() -> list[float]:
    """Return frames a second, for each number of `THREADS` of one process."""
    cell = CELLS[TIMED[0]]
    finder = LatticeFinder(cell)
    rng = np.random.default_rng(0)
    frames = [simulate_blank(rng, 60) for _ in range(FRAMES)]
    finder.find(frames[0], WAVENUMBER)
    speeds = []
    for n_threads in THREADS:
        with ThreadPoolExecutor(n_threads) as pool:
            started = time.perf_counter()
            list(pool.map(lambda q: finder.find(q, WAVENUMBER), frames))
            speeds.append(FRAMES / (time.perf_counter() - started))
    return speeds


def print_tables(result: dict[str, Any]) -> None:
    """Print tables for people, in Markdown."""
    spread = f"within ± 3 % and 3 px, from {len(LISTS)} kinds of lists"
    print(f"Lowest share found ({spread}), and lattices of {len(SEVERAL)} found (and false ones)\n")
    print_row("", *LISTS, "several")
    print_row(*["---"] * (len(LISTS) + 2))
    inside = [i for i, error in enumerate(CLEN_ERRORS) if abs(error) < 0.031]
    for name, kinds in result["recall"].items():
        lowest = [
            min(
                row[i] for row, shift in zip(rows, SHIFTS, strict=True) for i in inside if shift < 4
            )
            for rows in kinds.values()
        ]
        right, wrong = result["several"][name]
        print_row(name, *(f"{share:.2f}" for share in lowest), f"{right:.2f} ({wrong:.2f})")
    print("\nMilliseconds for noise, by number of peaks\n")
    print_row("", *NOISE)
    print_row(*["---"] * (len(NOISE) + 1))
    for name, times in result["noise"].items():
        print_row(name, *(f"{each:.1f}" for each in times))
    print("\nFrames a second, by number of threads\n")
    print_row(*THREADS)
    print_row(*["---"] * len(THREADS))
    print_row(*(f"{speed:.0f}" for speed in result["threads"]))


def print_row(*cells: object) -> None:
    """Print a row of a table in Markdown."""
    print("|", " | ".join(str(cell) for cell in cells), "|")


def draw(recall: dict[str, dict[str, list[list[float]]]], path: Path) -> None:
    """Draw the recall against the camera length, a line for each shift, as small multiples."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        len(CELLS), len(LISTS), figsize=(10, 12), sharex=True, sharey=True, squeeze=False
    )
    percent = 100 * np.array(CLEN_ERRORS)
    colours = plt.get_cmap("viridis_r")(np.linspace(0.15, 1.0, len(SHIFTS)))
    for axis, kind in zip(grid[0], LISTS, strict=True):
        axis.set_title(kind, fontsize=9)
    for axes, (name, kinds) in zip(grid, recall.items(), strict=True):
        for axis, rows in zip(axes, kinds.values(), strict=True):
            axis.axvspan(-3, 3, color="0.94", linewidth=0)
            for row, shift, colour in zip(rows, SHIFTS, colours, strict=True):
                axis.plot(percent, row, color=colour, linewidth=1.4, label=f"{shift:g} px")
            axis.set_ylim(-0.05, 1.05)
            axis.set_yticks([0, 0.5, 1])
            axis.tick_params(labelsize=7)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        kind_of, _, edges = name.partition(" ")
        axes[0].set_ylabel(f"{kind_of}\n{edges}", fontsize=7)
    for axis in grid[-1]:
        axis.set_xlabel("error of the camera length, %", fontsize=7)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="beam centre off by",
        loc="upper center",
        ncols=len(SHIFTS),
        fontsize=8,
        title_fontsize=8,
        frameon=False,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.955))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
