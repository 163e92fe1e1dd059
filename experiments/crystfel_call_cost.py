"""What a call of CrystFEL costs: a program started for each batch against one that stays.

The peaks of the shared run ``jf1m_lyso_60`` are found once; then batches of its hits are indexed
in three ways, each call at another camera length so that no batch equals another: by files, as
the program is by itself (its main loop sleeps half a second at a time); by files, woken up (see
`wrappers.crystfel.supervision`); and by a program that stays. Seconds are wall time of
one evaluation's indexing, the shortest of several calls, because whatever else the machine does
only adds to it. The first call of the program that stays, which starts it, stands apart.

    python -m experiments.crystfel_call_cost ../shared/data/simulated [--json]
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from tuner.cli.options import print_json
from wrappers.cell import Cell
from wrappers.crystfel.indexer import CrystfelIndexer
from wrappers.crystfel.options import EFFORTS, require_program
from wrappers.crystfel.persistent import PersistentCrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.frames.run import Run
from wrappers.indexing import Indexer, Pattern
from wrappers.peakfinding.peakfinder8 import PeakFinder
from wrappers.settings import Settings

SETTINGS = Settings(min_snr=4.25, threshold=30, min_pix_count=2, max_pix_count=50, min_res=30)
STEP = 1e-5
"""Relative change of the camera length from call to call; nothing an indexer would notice."""


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--jobs", default=len(os.sched_getaffinity(0)), show_default="all cores")
@click.option("--repeats", default=5, show_default=True, help="Calls of each kind.")
@click.option("--effort", type=click.Choice(EFFORTS), default="normal", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(folder: Path, jobs: int, repeats: int, effort: str, as_json: bool) -> None:
    """Time both ways on the run in FOLDER."""
    geometry, cell = Geometry.read(folder / "jf1m.geom"), Cell.read(folder / "lyso.cell")
    hits = find_hits(folder, geometry)
    sizes = {1: hits[:1], 10: hits[:10], 60: hits, 600: hits * 10}
    program = require_program(None)
    # Versions before 0.12 do not sleep, so they are not woken.
    asleep = CrystfelIndexer(
        geometry, cell, program=replace(program, version="0.11"), effort=effort, jobs=jobs
    )
    woken = CrystfelIndexer(geometry, cell, program=program, effort=effort, jobs=jobs)
    rows = []
    with PersistentCrystfelIndexer(
        geometry, cell, program=program, effort=effort, jobs=jobs
    ) as stays:
        if not stays.persistent:
            raise click.ClickException("this CrystFEL, or what is installed here, cannot stay")
        first_call = timed(stays, hits[:10], 0)[0]
        for n_frames, patterns in sizes.items():
            n = max(1, repeats // 3) if n_frames > 100 else repeats
            # Alternating, so that whatever else the machine does hits all.
            turns = [
                [timed(way, patterns, turn) for way in (asleep, woken, stays)]
                for turn in range(1, n + 1)
            ]
            shortest = [min(turn[way][0] for turn in turns) for way in range(3)]
            rows.append(
                {
                    "frames": n_frames,
                    "hits": len(patterns),
                    "files_asleep_s": shortest[0],
                    "files_s": shortest[1],
                    "persistent_s": shortest[2],
                    "gain": shortest[0] / shortest[2],
                    "indexed_differently": max(len(turn[1][1] ^ turn[2][1]) for turn in turns),
                }
            )
    if as_json:
        document = {"indexer": woken.name, "jobs": jobs, "first_call_s": first_call}
        print_json({**document, "batches": rows})
        return
    click.echo(f"{woken.name}, {jobs} processes")
    click.echo(f"first call of the one that stays, 10 frames: {first_call:.2f} s")
    click.echo("frames  hits  files asleep    files    stays   gain  indexed differently")
    for row in rows:
        click.echo(
            "{frames:6}  {hits:4}  {files_asleep_s:10.2f} s  {files_s:5.2f} s  "
            "{persistent_s:5.2f} s  {gain:5.2f}  {indexed_differently:5}".format(**row)
        )


def find_hits(folder: Path, geometry: Geometry) -> list[Pattern]:
    """Return the hits of the run."""
    run, finder = Run.open(folder / "jf1m_lyso_60.h5", geometry), PeakFinder(geometry)
    patterns = [
        Pattern(finder.find(frame, SETTINGS), frame.photon_energy, frame.camera_length)
        for frame in (run[index] for index in range(len(run)))
    ]
    return [pattern for pattern in patterns if len(pattern.peaks) >= SETTINGS.min_peaks]


def timed(indexer: Indexer, patterns: Sequence[Pattern], turn: int) -> tuple[float, set[int]]:
    """Return the seconds of one call and which frames it indexed."""
    moved = [
        Pattern(p.peaks, p.photon_energy, p.camera_length * (1 + STEP * turn)) for p in patterns
    ]
    started = time.perf_counter()
    answers = indexer.index(moved)
    seconds = time.perf_counter() - started
    return seconds, {number for number, answer in enumerate(answers) if answer.indexed}


if __name__ == "__main__":
    main()
