"""How fast the peak finder is, beside cfelpyutils' compiled peakfinder8 and CrystFEL itself.

Frames of 1, 4 and 16 Mpx are made up: modules of 512 x 1024 pixels with gaps between them, a
background of single photons with a water ring, readout noise, 200 Bragg spots, and a few masked
and a few hot pixels, in 16-bit integers. All programs search the same frames in this process on
one core, in turn, each several times; the quickest run counts, in processor time, which does not
count the time that other programs take. A copy of the frame as float32, the mask and the radius
map are given to cfelpyutils ready made. ``indexamajig --indexing=none`` runs with one worker,
and the difference of two runs with different numbers of frames is what a frame costs it, reading
the file included.

    python -m experiments.peakfinder_speed [--json] [--repeats 7]
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tuner.cli.options import print_json, stderr
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Frame
from wrappers.peakfinding.peak_batch import search_frames
from wrappers.peakfinding.peakfinder8 import MAX_N_PEAKS, PeakFinder
from wrappers.peaks import PeakList
from wrappers.settings import Settings

DETECTORS = {1: (2, 1), 4: (8, 1), 16: (32, 4)}
"""Number of modules, and of their columns, by size in Mpx."""
HEIGHT, WIDTH = 512, 1024
N_SPOTS = 200

USUAL = Settings(min_snr=5, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30)
OTHERS = {
    "near the best of a tuning session": USUAL.replace(min_snr=4.25),
    "no threshold": USUAL.replace(threshold=0),
    "large background": USUAL.replace(local_bg_radius=7),
    "loose: thousands of noise peaks": USUAL.replace(min_snr=3, threshold=0, min_pix_count=1),
    "loosest prepared": USUAL.replace(min_snr=2, threshold=0, min_pix_count=1),
}
"""How the ratios depend on the settings, at 1 Mpx."""

DIFFERENT = 0.01
"""So many peaks cfelpyutils may find elsewhere: its flood fill joins some that are apart."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A detector and one of its frames."""

    mpx: int
    geometry: Geometry
    frame: Frame


@click.command()
@click.option("--repeats", default=7, show_default=True, help="Runs of which the quickest counts.")
@click.option("--json", "as_json", is_flag=True)
def main(repeats: int, as_json: bool) -> None:
    """Print the tables."""
    result: dict[str, Any] = {"cases": []}
    with tempfile.TemporaryDirectory() as directory:
        for mpx in DETECTORS:
            stderr.print(f"{mpx} Mpx ...", highlight=False)
            folder = Path(directory) / str(mpx)
            folder.mkdir()
            case = make_case(mpx, folder)
            row = compare(case, USUAL, repeats)
            row["indexamajig_ms"] = time_indexamajig(case, folder)
            result["cases"].append(row)
            if mpx == 1:
                result["settings"] = [
                    {"name": name, **compare(case, settings, repeats)}
                    for name, settings in OTHERS.items()
                ]
                result["numbers_of_settings"] = scale_with_settings(case, repeats)
                result["jobs"] = scale_with_jobs(case, repeats)
    if as_json:
        print_json(result)
    else:
        print_tables(result)


def make_case(mpx: int, folder: Path) -> Case:
    """Write a geometry and make up a frame for it."""
    n_modules, n_columns = DETECTORS[mpx]
    lines = [
        "photon_energy = 9300 eV",
        "adu_per_photon = 10",
        "clen = 0.1 m",
        "res = 13333.3",
        "data = /data",
        "dim0 = %",
        "dim1 = ss",
        "dim2 = fs",
        "mask0_data = /mask",
        "mask0_goodbits = 0x00",
        "mask0_badbits = 0x01",
    ]
    for i in range(n_modules):
        row, column = divmod(i, n_columns)
        fields = {
            "min_fs": 0,
            "max_fs": WIDTH - 1,
            "min_ss": i * HEIGHT,
            "max_ss": (i + 1) * HEIGHT - 1,
            "corner_x": (column - n_columns / 2) * (WIDTH + 10) + 5.3,
            "corner_y": (row - n_modules / n_columns / 2) * (HEIGHT + 20) + 10.2,
            "fs": "x",
            "ss": "y",
        }
        lines += [f"m{i}/{name} = {value}" for name, value in fields.items()]
    (folder / "x.geom").write_text("\n".join(lines) + "\n")
    geometry = Geometry.read(folder / "x.geom")
    data, mask = make_frame(geometry.radius_map(), np.random.default_rng(mpx))
    return Case(mpx, geometry, Frame(data, mask, 9300.0, 0.1, "x.h5", "//0"))


def make_frame(
    radius: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return a frame in ADU, 10 a photon, and its usable pixels."""
    share = radius / radius.max()
    photons = 0.3 + 4 * np.exp(-(((share - 0.35) / 0.15) ** 2)) + 3 * np.exp(-6 * share)
    steps = np.arange(-2, 3)
    for _ in range(N_SPOTS):
        ss, fs = (rng.uniform(2, length - 3) for length in radius.shape)
        rows, columns = int(ss) + steps[:, None], int(fs) + steps
        profile = np.exp(-((rows + 0.5 - ss) ** 2 + (columns + 0.5 - fs) ** 2) / 0.98)
        photons[rows, columns] += rng.exponential(60) * profile / profile.sum()
    data = 10 * rng.poisson(photons) + rng.normal(0, 3, radius.shape)
    data[rng.random(radius.shape) < 1e-4] = 2000
    return np.rint(data).astype(np.int16), rng.random(radius.shape) > 0.003


def quickest(repeats: int, *actions: Callable[[], object]) -> list[float]:
    """Return the least processor time of each action in ms, run in turn, once before."""
    for action in actions:
        action()
    times = np.full((repeats, len(actions)), np.inf)
    for row, (i, action) in itertools.product(range(repeats), enumerate(actions)):
        started = time.thread_time()
        action()
        times[row, i] = 1e3 * (time.thread_time() - started)
    return times.min(0).tolist()


def compare(case: Case, settings: Settings, repeats: int) -> dict[str, Any]:
    """Return the times of ours and cfelpyutils for one frame and settings."""
    from cfelpyutils.peakfinding.peakfinder8 import peakfinder_8

    frame, finder = case.frame, PeakFinder(case.geometry)
    radius = finder.layout.radius
    usable = (frame.mask & (radius > settings.min_res)).astype(np.int8)
    floats = frame.data.astype(np.float32)
    prepared = finder.prepare(frame)

    def theirs() -> Any:
        return peakfinder_8(
            MAX_N_PEAKS,
            floats,
            usable,
            radius,
            WIDTH,
            HEIGHT,
            1,
            DETECTORS[case.mpx][0],
            settings.threshold,
            settings.min_snr,
            settings.min_pix_count,
            settings.max_pix_count,
            settings.local_bg_radius,
        )

    # A session asks one prepared frame after the other, so the caches hold what the last left.
    first, other, plain, prepare = quickest(
        repeats,
        lambda: finder.find(frame, settings),
        theirs,
        lambda: frame.data.sum(),
        lambda: finder.prepare(frame),
    )
    quick = quickest(3 * repeats, lambda: prepared.find(settings))[0]
    ours, again = finder.find(frame, settings), prepared.find(settings)
    n_different = count_different(ours, *(np.array(each) + 0.5 for each in theirs()[:2]))
    identical = all(
        np.array_equal(getattr(ours, field.name), getattr(again, field.name))
        for field in dataclasses.fields(ours)
    )
    return {
        "mpx": case.mpx,
        "ours_first_ms": first,
        "ours_prepared_ms": quick,
        "cfelpyutils_ms": other,
        "first_ratio": other / first,
        "prepared_ratio": other / quick,
        "same_peaks": identical and n_different <= DIFFERENT * len(ours),
        "n_different": n_different,
        "n_peaks": len(ours),
        "prepare_ms": prepare,
        "prepared_bytes_per_frame_byte": prepared.nbytes / frame.data.nbytes,
        "first_mb_per_s": frame.data.nbytes / first / 1e3,
        "plain_sum_mb_per_s": frame.data.nbytes / plain / 1e3,
    }


def count_different(ours: PeakList, fs: Floats, ss: Floats) -> int:
    """Return the number of peaks of either list that are not within 0.02 px of the other's."""
    if not len(ours) or not len(fs):
        return max(len(ours), len(fs))
    first, second = np.column_stack([ours.fs, ours.ss]), np.column_stack([fs, ss])
    return max(
        int((cKDTree(a).query(b)[0] > 0.02).sum()) for a, b in ((first, second), (second, first))
    )


def time_indexamajig(case: Case, folder: Path) -> float | None:
    """Return what a frame costs ``indexamajig --indexing=none`` in ms of processor time."""
    program = find_indexamajig()
    if program is None:
        return None
    most = 24 if case.mpx < 16 else 8
    with h5py.File(folder / "x.h5", "w") as file:
        shape = (most, *case.frame.data.shape)
        data = file.create_dataset("data", shape, np.int16, chunks=(1, *shape[1:]))
        for i in range(most):
            data[i] = case.frame.data
        file["mask"] = (~case.frame.mask).astype(np.uint8)
    spent = {most // 4: np.inf, most: np.inf}
    for _, n_frames in itertools.product(range(2), spent):
        listed = "".join(f"{folder / 'x.h5'} //{i}\n" for i in range(n_frames))
        (folder / "x.lst").write_text(listed)
        options = {
            "peaks": "peakfinder8",
            "indexing": "none",
            "min-snr": USUAL.min_snr,
            "threshold": USUAL.threshold,
            "min-pix-count": USUAL.min_pix_count,
            "max-pix-count": USUAL.max_pix_count,
            "local-bg-radius": USUAL.local_bg_radius,
            "min-res": USUAL.min_res,
            "temp-dir": folder,
        }
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [program.path, "-i", "x.lst", "-g", "x.geom", "-o", "x.stream", "-j1"]
            + [f"--{name}={value}" for name, value in options.items()],
            cwd=folder,
            env={**os.environ, "HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)},
            capture_output=True,
            check=True,
            start_new_session=True,
            timeout=300,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cost = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent[n_frames] = min(spent[n_frames], cost)
    return float(1e3 * (spent[most] - spent[most // 4]) / (most - most // 4))


def scale_with_settings(case: Case, repeats: int) -> list[dict[str, float]]:
    """Return what a frame costs with more and more settings, in ms of processor time."""
    finder = PeakFinder(case.geometry)
    rows = []
    for n in (1, 3, 10, 30, 100, 300):
        grid = [USUAL.replace(min_snr=4 + 4 * i / n) for i in range(n)]

        def together(grid: list[Settings] = grid) -> None:
            prepared = finder.prepare(case.frame, 4.0)
            for settings in grid:
                prepared.find(settings)

        def singly(grid: list[Settings] = grid) -> None:
            for settings in grid[:10]:
                finder.find(case.frame, settings)

        prepared, first = quickest(min(repeats, 3), together, singly)
        rows.append(
            {"n_settings": n, "prepared_ms": prepared, "first_looks_ms": first * n / min(n, 10)}
        )
    return rows


def scale_with_jobs(case: Case, repeats: int) -> list[dict[str, float]]:
    """Return the wall time of a batch of frames with more and more threads."""
    finder, frames = PeakFinder(case.geometry), [case.frame] * 24
    grid = [USUAL.replace(min_snr=4 + i / 10) for i in range(30)]
    rows = []
    for jobs in (1, 2, 3, 4, 8, 16, 32):
        if jobs > len(os.sched_getaffinity(0)):
            break
        least = np.inf
        for _ in range(min(repeats, 3)):
            started = time.perf_counter()
            for _ in search_frames(finder, frames, grid, jobs):
                pass
            least = min(least, time.perf_counter() - started)
        rows.append({"jobs": jobs, "frames_times_settings_per_s": len(frames) * len(grid) / least})
    return rows


def print_tables(result: dict[str, Any]) -> None:
    """Print the result for people."""
    print("usual settings: min_snr 5, threshold 30, min_pix_count 2, local_bg_radius 3; ms a frame")
    print(
        "Mpx  first look  prepared  cfelpyutils  indexamajig  first x  prepared x  same peaks  "
        "prepare  prepared / frame bytes  MB/s (plain sum)"
    )
    for row in result["cases"]:
        program = row["indexamajig_ms"]
        print(
            f"{row['mpx']:3d}  {row['ours_first_ms']:10.2f}  {row['ours_prepared_ms']:8.3f}  "
            f"{row['cfelpyutils_ms']:11.1f}  {'-' if program is None else f'{program:.1f}':>11}  "
            f"{row['first_ratio']:7.1f}  {row['prepared_ratio']:10.0f}  "
            f"{'yes' if row['same_peaks'] else 'NO':>10}  {row['prepare_ms']:7.1f}  "
            f"{row['prepared_bytes_per_frame_byte']:22.2f}  "
            f"{row['first_mb_per_s']:.0f} ({row['plain_sum_mb_per_s']:.0f})"
        )
    print("\nother settings, 1 Mpx")
    for row in result["settings"]:
        print(
            f"{row['name']:34} {row['n_peaks']:5d} peaks  first {row['ours_first_ms']:6.2f}  "
            f"prepared {row['ours_prepared_ms']:6.3f}  cfelpyutils {row['cfelpyutils_ms']:6.1f}  "
            f"x {row['first_ratio']:.1f}  x {row['prepared_ratio']:.0f}  "
            f"{'same peaks' if row['same_peaks'] else 'other peaks'}"
        )
    print("\nsettings a frame, 1 Mpx: ms prepared, and as first looks")
    for row in result["numbers_of_settings"]:
        print(f"{row['n_settings']:5d}  {row['prepared_ms']:8.1f}  {row['first_looks_ms']:8.1f}")
    print("\nthreads, 24 frames x 30 settings, 1 Mpx: searches a second (wall time)")
    for row in result["jobs"]:
        print(f"{row['jobs']:5d}  {row['frames_times_settings_per_s']:8.0f}")


if __name__ == "__main__":
    main()
