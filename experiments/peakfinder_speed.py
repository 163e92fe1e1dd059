"""How fast the peak finder is, beside cfelpyutils' compiled peakfinder8 and CrystFEL itself.

All search the same made-up frames (`peakfinder_cases`) on one core. In each round, cfelpyutils and
a first look of ours take the next frame, and a sweep goes over all of them, prepared, one after the
other with one parameter set, as in a session. Rounds are repeated and the middle one counts, in
processor time of the thread, so that whatever else the machine does falls on all of them alike.
cfelpyutils is given a copy of the frame as float32, the mask and the radius map ready made.
``again`` is one prepared frame that is searched again and again, so that the processor has it in
its caches and knows its branches.

``indexamajig --indexing=none`` runs with one worker, and the difference of two runs with different
numbers of frames is what a frame costs it, reading the file included. ``sum`` is NumPy's sum over
the frame; ``read`` is the time in which the core reads frame and mask once, as fast as it can.

    python -m experiments.peakfinder_speed [--repeats 15] [--json]

With ``--json`` only the cases of 1, 4 and 16 Mpx are timed, and printed as ``{"cases": [...]}``.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numba import njit
from numpy.typing import NDArray

from experiments.peakfinder_cases import DETECTORS, Case, make_case
from experiments.peakfinder_programs import Cfelpyutils, count_different, time_indexamajig
from tuner.cli.options import print_json, stderr
from wrappers.peakfinding.peak_batch import PeakBatch
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.peakfinding.robust_peaks import RobustPeakFinder
from wrappers.settings import Settings

USUAL = Settings(min_snr=5, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30)
OTHERS = [
    USUAL.replace(min_snr=snr, threshold=threshold, min_pix_count=pixels, local_bg_radius=radius)
    for snr, threshold, pixels, radius in (
        (5, 30, 2, 7),
        (5, 0, 1, 3),
        (4.25, 30, 2, 3),
        (4, 0, 1, 3),
        (4, 0, 1, 7),
        (3.5, 0, 1, 3),
        (3, 30, 2, 3),
        (3, 0, 1, 3),
        (3, 0, 1, 7),
        (3, 0, 2, 3),
        (2.5, 0, 3, 3),
        (2, 0, 1, 3),
        (2, 0, 2, 7),
    )
]
"""How the ratios depend on the settings, at 1 Mpx."""

AGAIN = 8
DIFFERENT = 0.01
"""So many peaks cfelpyutils may find elsewhere: its flood fill joins some that are apart."""


@click.command()
@click.option("--repeats", default=15, show_default=True, help="Rounds of which the middle counts.")
@click.option("--json", "as_json", is_flag=True, help="Only the cases, as JSON.")
def main(repeats: int, as_json: bool) -> None:
    """Print the tables."""
    cases, small = [], {}
    with tempfile.TemporaryDirectory() as directory:
        for mpx in DETECTORS:
            stderr.print(f"{mpx} Mpx ...", highlight=False)
            folder = Path(directory) / str(mpx)
            folder.mkdir()
            case = make_case(mpx, folder)
            row = compare(case, USUAL, repeats)
            row["indexamajig_ms"] = time_indexamajig(case, USUAL, folder)
            cases.append(row)
            if mpx == 1 and not as_json:
                small = {
                    "settings": [compare(case, settings, repeats) for settings in OTHERS],
                    "robust": time_robust(case),
                    "numbers": scale_with_settings(case),
                    "jobs": scale_with_jobs(case),
                }
    if as_json:
        print_json({"cases": cases})
    else:
        print_tables(cases, small)


def rounds(repeats: int, *actions: Callable[[int], object]) -> list[float]:
    """Return the median processor time of each action in ms; they are given the round's number.

    All take their turn in each round, and once before that counts for nothing.
    """
    times = np.empty((repeats + 1, len(actions)))
    for number, (i, action) in itertools.product(range(repeats + 1), enumerate(actions)):
        started = time.thread_time()
        action(number)
        times[number, i] = 1e3 * (time.thread_time() - started)
    return np.median(times[1:], 0).tolist()


def compare(case: Case, settings: Settings, repeats: int) -> dict[str, Any]:
    """Return the times of ours and cfelpyutils for one set, and whether the peaks agree."""
    frames, finder = case.frames, PeakFinder(case.geometry)
    n = len(frames)
    prepared = [finder.prepare(frame) for frame in frames]

    theirs = Cfelpyutils(frames, case.module, settings, finder.layout.radius)

    def sweep(number: int) -> None:
        for each in prepared:
            each.find(settings)

    def again(number: int) -> None:
        for _ in range(AGAIN):
            prepared[-1].find(settings)

    other, first, swept, warm, prepare, plain, read = rounds(
        repeats,
        lambda number: theirs.find(number % n),
        lambda number: finder.find(frames[number % n], settings),
        sweep,
        again,
        lambda number: finder.prepare(frames[number % n]),
        lambda number: frames[number % n].data.sum(),
        lambda number: read_once(frames[number % n].data, frames[number % n].mask),
    )
    quick = swept / n
    same, n_peaks, n_different = True, 0, 0
    for i, frame in enumerate(frames):
        ours, again_ours = finder.find(frame, settings), prepared[i].find(settings)
        same &= all(
            np.array_equal(getattr(ours, field.name), getattr(again_ours, field.name))
            for field in dataclasses.fields(ours)
        )
        n_peaks += len(ours)
        n_different += count_different(ours, *theirs.find(i))
    return {
        "mpx": case.mpx,
        "ours_first_ms": first,
        "ours_prepared_ms": quick,
        "cfelpyutils_ms": other,
        "first_ratio": other / first,
        "prepared_ratio": other / quick,
        "same_peaks": bool(same and n_different <= DIFFERENT * n_peaks),
        "settings": describe(settings),
        "n_peaks": n_peaks / n,
        "n_different": n_different / n,
        "ours_prepared_again_ms": warm / AGAIN,
        "prepare_ms": prepare,
        "prepared_bytes": prepared[0].nbytes,
        "frame_bytes": frames[0].data.nbytes,
        "first_mb_per_s": frames[0].data.nbytes / first / 1e3,
        "plain_sum_mb_per_s": frames[0].data.nbytes / plain / 1e3,
        "read_ms": read,
    }


def describe(settings: Settings) -> str:
    """Return min_snr / threshold / min_pix_count / local_bg_radius."""
    return (
        f"{settings.min_snr:g} / {settings.threshold:g} / {settings.min_pix_count} / "
        f"{settings.local_bg_radius}"
    )


def read_once(*arrays: NDArray[Any]) -> int:
    """Read arrays as fast as memory gives them: summed as 64-bit words."""
    return sum(_sum_words(array.reshape(-1).view(np.int64)) for array in arrays)


@njit(cache=True, nogil=True)
def _sum_words(words):
    total = 0
    for k in range(len(words)):
        total += words[k]
    return total


def time_robust(case: Case) -> dict[str, float]:
    """Return what the robust peak finder takes for a frame, in ms of processor time."""
    settings = USUAL.replace(min_snr=2.5, threshold=10)
    finder, frames = RobustPeakFinder(case.geometry), case.frames
    prepared = finder.prepare(frames[0])
    first, prepare, again = rounds(
        5,
        lambda number: finder.find(frames[number % len(frames)], settings),
        lambda number: finder.prepare(frames[number % len(frames)]),
        lambda number: prepared.find(settings),
    )
    n_peaks = len(prepared.find(settings))
    return {"first_ms": first, "prepare_ms": prepare, "prepared_ms": again, "n_peaks": n_peaks}


def scale_with_settings(case: Case) -> Iterator[dict[str, float]]:
    """Yield what a frame costs with more and more settings, in ms of processor time."""
    finder, frame = PeakFinder(case.geometry), case.frames[0]
    for n in (1, 3, 10, 30, 100, 300):
        grid = [USUAL.replace(min_snr=4 + 4 * i / n) for i in range(n)]

        def together(number: int, grid: list[Settings] = grid) -> None:
            finder.prepare(frame, 4.0).find_all(grid)

        def singly(number: int, grid: list[Settings] = grid) -> None:
            for settings in grid[:10]:
                finder.find(frame, settings)

        prepared, first = rounds(5, together, singly)
        yield {"n_settings": n, "prepared_ms": prepared, "first_looks_ms": first * n / min(n, 10)}


def scale_with_jobs(case: Case) -> Iterator[dict[str, float]]:
    """Yield how many searches a second a batch does with more and more threads."""
    finder, frames = PeakFinder(case.geometry), case.frames
    grid = [USUAL.replace(min_snr=4 + i / 10) for i in range(30)]
    choices = [jobs for jobs in (1, 2, 4, 8, 16, 32) if jobs <= len(os.sched_getaffinity(0))]
    least = dict.fromkeys(choices, np.inf)
    for _, jobs in itertools.product(range(5), choices):
        started = time.perf_counter()
        for _ in PeakBatch(finder, frames, jobs=jobs).search(range(len(frames)), grid):
            pass
        least[jobs] = min(least[jobs], time.perf_counter() - started)
    for jobs, seconds in least.items():
        yield {"jobs": jobs, "searches_per_s": len(frames) * len(grid) / seconds}


def print_tables(cases: list[dict[str, Any]], small: dict[str, Any]) -> None:
    """Print the results for people."""
    print("settings: min_snr / threshold / min_pix_count / local_bg_radius; ms a frame")
    titles = "peaks  cfelpyutils   first    x  prepared     x  again     x  same peaks"
    print(f"\n Mpx  settings           {titles}  indexamajig")
    for row in cases:
        program = row["indexamajig_ms"]
        print(f"{format_row(row)}  {'-' if program is None else f'{program:.1f}':>11}")
    print("\n Mpx  prepare  prepared, per frame byte  GB for 1,000  MB/s: first  sum  read: ms")
    for row in cases:
        print(
            f"{row['mpx']:4d}  {row['prepare_ms']:7.1f}  "
            f"{row['prepared_bytes'] / row['frame_bytes']:24.2f}  "
            f"{row['prepared_bytes'] / 1e6:12.2f}  {row['first_mb_per_s']:11.0f}  "
            f"{row['plain_sum_mb_per_s']:4.0f}  {row['read_ms']:8.2f}"
        )
    print(f"\n Mpx  settings           {titles}")
    for row in small["settings"]:
        print(format_row(row))
    robust = small["robust"]
    print(
        f"\nrobust, 1 Mpx, {robust['n_peaks']} peaks: first look {robust['first_ms']:.1f}, "
        f"prepare {robust['prepare_ms']:.1f}, prepared {robust['prepared_ms']:.2f}"
    )
    print("\nsettings asked of a frame, 1 Mpx: ms prepared, and as first looks")
    for row in small["numbers"]:
        print(f"{row['n_settings']:5d}  {row['prepared_ms']:8.1f}  {row['first_looks_ms']:8.1f}")
    print("\nthreads, 24 frames x 30 settings, 1 Mpx: searches a second of wall time")
    for row in small["jobs"]:
        print(f"{row['jobs']:5d}  {row['searches_per_s']:8.0f}")


def format_row(row: dict[str, Any]) -> str:
    """Return a comparison as a line of the tables."""
    return (
        f"{row['mpx']:4d}  {row['settings']:17}  {row['n_peaks']:5.0f}  "
        f"{row['cfelpyutils_ms']:11.1f}  {row['ours_first_ms']:6.2f}  {row['first_ratio']:3.1f}  "
        f"{row['ours_prepared_ms']:8.3f}  {row['prepared_ratio']:4.0f}  "
        f"{row['ours_prepared_again_ms']:5.3f}  "
        f"{row['cfelpyutils_ms'] / row['ours_prepared_again_ms']:4.0f}  "
        f"{'yes' if row['same_peaks'] else 'NO':>10}"
    )


if __name__ == "__main__":
    main()
