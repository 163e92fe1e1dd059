"""How fast the reduction core is, against a plain read of the same file.

The run is ``jf1m_lyso_60`` of the shared data (1 Mpx int16, a compressed chunk a frame), its frames
repeated as often as asked. For each number of processes the file is read frame by frame, reduced
with copied images, and reduced with virtual ones, one after the other, several times; rates count
from the first finished batch to the finished file, so that starting processes does not count. In
the end the processor time of each way in a single process is told, which other work on the
machine disturbs less.

    python -m experiments.reduction_speed ../shared/data/simulated [--picture speed.png]
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import h5py
import hdf5plugin  # noqa: F401  (the file's filter)
from matplotlib.figure import Figure

from tuner.cli.options import print_json, progress_bar
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.reduction import reduce_run
from wrappers.settings import Settings

DATA = "/entry/data/data"
SETTINGS = Settings(min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_peaks=10)
STRICT = SETTINGS.replace(min_peaks=60)
BATCH = 20


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--frames", default=600, show_default=True, help="Frames of the run.")
@click.option("--processes", default="1,2,4", show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the rates.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path, frames: int, processes: str, repeats: int, picture: Path | None, as_json: bool
) -> None:
    """Print the table for the run in FOLDER."""
    numbers = [int(number) for number in processes.split(",")]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        run = _repeated(folder, work, frames)
        finder = PeakFinder(run.geometry)

        def reduce(jobs: int, settings: Settings, virtual: bool) -> float:
            out = work / "hits.cxi"
            return _rate(
                lambda tick: reduce_run(
                    run,
                    finder,
                    settings,
                    out,
                    jobs=jobs,
                    virtual=virtual,
                    progress=lambda done, hits: tick(done),
                ),
                frames,
            )

        ways: dict[str, Callable[[int], float]] = {
            "read": lambda jobs: _rate(lambda tick: _read(run, jobs, tick), frames),
            "copied": lambda jobs: reduce(jobs, SETTINGS, False),
            "copied, few hits": lambda jobs: reduce(jobs, STRICT, False),
            "virtual": lambda jobs: reduce(jobs, SETTINGS, True),
        }
        with progress_bar("measuring", len(numbers) * repeats * len(ways)) as show:
            done = 0
            for jobs in numbers:
                rates: dict[str, list[float]] = {name: [] for name in ways}
                for _ in range(repeats):
                    for name, measure in ways.items():
                        rates[name].append(measure(jobs))
                        show(done := done + 1)
                best = {name: statistics.median(values) for name, values in rates.items()}
                ratios = {name: rate / best["read"] for name, rate in best.items()}
                rows.append({"processes": jobs, "frames_per_second": best, "of_read": ratios})
        shares = {
            name: sum(len(finder.find(run[i], SETTINGS)) >= settings.min_peaks for i in range(60))
            for name, settings in (("hits", SETTINGS), ("few hits", STRICT))
        }
        megabytes = run[0].data.nbytes / 1e6
        processor = {
            "frames": _processor_ms(lambda: _frames(run), len(run)),
            "frames + search": _processor_ms(lambda: _search(run, finder), len(run)),
        }
        for name, measure in ways.items():
            processor[name] = _processor_ms(functools.partial(measure, 1), len(run))
    load = os.getloadavg()[0]
    if picture is not None:
        _draw(picture, rows, f"{frames} frames of {megabytes:.1f} MB, load {load:.1f}")
    if as_json:
        print_json(
            {
                "rows": rows,
                "processor_ms": processor,
                "hits_of_60": shares,
                "megabytes": megabytes,
                "load": load,
            }
        )
        return
    print(
        f"{frames} frames of {megabytes:.1f} MB, {shares['hits']} hits in 60 ({shares['few hits']} "
        f"for few hits); frames/s, and relative to the read; load {load:.1f}"
    )
    print("processes" + "".join(f"{name:>22}" for name in ways))
    for row in rows:
        cells = (
            f"{row['frames_per_second'][name]:14.0f} {row['of_read'][name]:6.0%} " for name in ways
        )
        print(f"{row['processes']:9d}" + "".join(cells))
    print("processor time of one process, ms a frame (frames: read as the reduction reads them)")
    print(", ".join(f"{name} {each:.1f}" for name, each in sorted(processor.items(), key=_second)))


def _draw(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    processes = [row["processes"] for row in rows]
    for name in rows[0]["frames_per_second"]:
        rates = [row["frames_per_second"][name] for row in rows]
        style = "k--" if name == "read" else "o-"
        axes.plot(processes, rates, style, label="plain read" if name == "read" else name)
    axes.set(xlabel="processes", ylabel="frames/s", ylim=(0, None), xticks=processes, title=title)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _repeated(folder: Path, work: Path, frames: int) -> Run:
    """Write the run again and again into one file, its frames compressed as they are."""
    with h5py.File(folder / "jf1m_lyso_60.h5") as source, h5py.File(work / "run.h5", "w") as file:
        file.create_dataset("/entry/mask", data=source["/entry/mask"][()])
        old = source[DATA]
        code, _, options, _ = old.id.get_create_plist().get_filter(0)
        new = file.create_dataset(
            DATA,
            (frames, *old.shape[1:]),
            old.dtype,
            chunks=old.chunks,
            compression=code,
            compression_opts=options[3:],  # before them stands what the filter adds itself
        )
        for row in range(frames):
            filters, chunk = old.id.read_direct_chunk((row % len(old), 0, 0))
            new.id.write_direct_chunk((row, 0, 0), chunk, filters)
    text = (folder / "jf1m.geom").read_text().replace("jf1m_lyso_60.h5", str(work / "run.h5"))
    (work / "run.geom").write_text(text)
    return Run.open(work / "run.h5", Geometry.read(work / "run.geom"))


def _rate(work: Callable[[Callable[[int], None]], object], frames: int) -> float:
    """Return frames a second from the first sign of progress to the end."""
    first: list[tuple[float, int]] = []

    def tick(done: int) -> None:
        if not first:
            first.append((time.perf_counter(), done))

    work(tick)
    started, done = first[0]
    return (frames - done) / (time.perf_counter() - started)


def _processor_ms(work: Callable[[], object], frames: int) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) / frames * 1e3


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _frames(run: Run) -> None:
    for index in range(len(run)):
        run[index]


def _search(run: Run, finder: PeakFinder) -> None:
    for index in range(len(run)):
        finder.find(run[index], SETTINGS)


def _read(run: Run, jobs: int, tick: Callable[[int], None]) -> None:
    path = str(run.files[0])
    batches = [range(i, min(i + BATCH, len(run))) for i in range(0, len(run), BATCH)]
    if jobs == 1:
        for batch in batches:
            _read_batch(path, batch)
            tick(batch.stop)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, context) as pool:
        for batch, _ in zip(
            batches, pool.map(_read_batch, [path] * len(batches), batches), strict=True
        ):
            tick(batch.stop)


def _read_batch(path: str, batch: range) -> float:
    with h5py.File(path) as file:
        dataset = file[DATA]
        return float(sum(dataset[index].item(0) for index in batch))


if __name__ == "__main__":
    main()
