"""The closed loop as a user has it: one program plays a run as a stream, the other tunes on it.

``sfx-tuner simulate --play`` plays DATA in a loop at ``--rate`` frames a second, by any protocol,
and ``sfx-tuner run`` makes a night of it. Once the first set has been in force for some blocks the
player is ended, and another plays the same frames with more background: so many photons, Poisson,
in each pixel. What is told: when the first set came, and what it indexes in the file, beside the
set of a session on the file itself; when the change was noticed, mended and proved, and what the
sets index in the changed frames. All frames are copies of sixty, so proofs come easier than from
as many different ones.

    python -m experiments.loop_shown jf1m_lyso_60.h5 jf1m.geom lyso.cell -o FOLDER
        [--protocol dectris|karabo] [--rate 100] [--photons 4] [--json]

The session on the file is not run again where FOLDER has it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
import h5py
import hdf5plugin  # also the file's filter
import numpy as np

from envs.evaluators.live import LiveEvaluator
from tuner.cli.options import print_json, stderr
from tuner.recommendation import applied_settings, read_recommendation
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import ProgramError
from wrappers.frames.opening import open_source
from wrappers.indexers import IndexerChoice, make_indexer

PORT = 31871
PROGRAM = (sys.executable, "-P", "-c", "from tuner.cli import main; main()")
BLOCKS_BEFORE_CHANGE = 3


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("geometry", type=click.Path(exists=True, path_type=Path))
@click.argument("cell", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--folder", type=click.Path(path_type=Path), required=True)
@click.option("--protocol", default="dectris", show_default=True)
@click.option("--rate", default=100.0, show_default=True)
@click.option("--photons", default=4.0, show_default=True, help="Of background that is added.")
@click.option("--frames", default=60, show_default=True)
@click.option("--evaluations", default=12, show_default=True)
@click.option("--indexer", default="fast", show_default=True)
@click.option("--searcher", default="map", show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    data: Path,
    geometry: Path,
    cell: Path,
    folder: Path,
    protocol: str,
    rate: float,
    photons: float,
    frames: int,
    evaluations: int,
    indexer: str,
    searcher: str,
    jobs: int,
    as_json: bool,
) -> None:
    """Print what became of the night."""
    folder.mkdir(parents=True, exist_ok=True)
    night = folder / f"night-{protocol}-{time.strftime('%H%M%S')}"
    url = f"{protocol}+tcp://127.0.0.1:{PORT}"
    how = ["-p", cell, "--indexer", indexer, "--searcher", searcher]
    how += ["--frames", frames, "--evaluations", evaluations]
    of_file = folder / "of_file"
    if not (of_file / "recommended.toml").exists():
        begin = ["tune", data, "-g", geometry, "-o", of_file, *how, "-j", jobs]
        subprocess.run([*PROGRAM, *map(str, begin)], check=True, stdout=sys.stderr)
    changed = _changed(data, folder / f"changed-{photons:g}.h5", Geometry.read(geometry), photons)
    told: dict[str, Any] = {"protocol": protocol, "rate": rate, "photons": photons, "jobs": jobs}
    begun, clock = time.monotonic(), time.time()
    run = [*PROGRAM, *map(str, ["run", url, "-g", geometry, "-o", night, *how, "-j", jobs])]
    run += ["--block", "200", "--seconds", "10", "--json"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as loop:
        try:
            with _player(data, geometry, url, rate):
                _until(loop, "tuned")
                told["first set, s"] = time.monotonic() - begun
                told["load then"] = os.getloadavg()[0]
                for _ in range(BLOCKS_BEFORE_CHANGE):
                    _until(loop, "block")
            change = time.monotonic()
            with _player(changed, geometry, url, rate):
                _until(loop, "alarm")
                told["alarm, s after the change"] = time.monotonic() - change
                outcome = _until(loop, "tuned")["outcome"]
                told[f"re-tuned ({outcome}), s after the change"] = time.monotonic() - change
                end = _until(loop, *(("kept", "returned") if outcome == "better" else ("settled",)))
                told[f"{end['kind']}, s after the change"] = time.monotonic() - change
                _until(loop, "block")
        finally:
            loop.send_signal(signal.SIGINT)
    events = [json.loads(line) for line in (night / "night.jsonl").read_text().splitlines()]
    told["load in the end"] = os.getloadavg()[0]
    told["events"] = [e for e in events if e["kind"] not in ("block", "begun")]
    told["seconds from the start"] = _times(night, events, clock)
    blocks = [e for e in events if e["kind"] == "block"]
    told["frames received"], told["dropped"] = (blocks[-1][k] for k in ("received", "dropped"))
    told["frames searched"] = sum(block["n_frames"] for block in blocks)
    sets = {"of the file": of_file, "tuning-1": night / "tuning-1", "tuning-2": night / "tuning-2"}
    for name, path in (("indexed in the run", data), ("indexed in the changed run", changed)):
        told[name] = _indexed(path, geometry, cell, indexer, sets, jobs)
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        click.echo(f"{key:>30}  {value:.0f}" if isinstance(value, float) else f"{key:>30}  {value}")


def _times(night: Path, events: list[dict[str, Any]], clock: float) -> dict[str, float]:
    """Return when what was done: events of the night, and what its sessions had written last."""
    found: dict[str, float] = {}
    for event in events:
        found.setdefault(
            f"{event['kind']} {event.get('number', event.get('used', ''))}", event["time"]
        )
    for number in (1, 2):
        for name in (
            "look.npz",
            "session.json",
            "evaluations.jsonl",
            "residuals.json",
            "report.html",
        ):
            path = night / f"tuning-{number}" / name
            if path.exists():
                found[f"tuning-{number}: {name}"] = path.stat().st_mtime
    at = sorted((place, name) for name, place in found.items() if not name.startswith("block "))
    return {name: round(place - clock, 1) for place, name in at}


def _changed(data: Path, path: Path, geometry: Geometry, photons: float) -> Path:
    """Write the run with more background."""
    if path.exists():
        return path
    block = geometry.blocks[0].data
    adu = geometry.panels[0].adu_per_photon or 1.0
    random = np.random.default_rng(0)
    part = path.with_suffix(".part")
    with h5py.File(data) as source, h5py.File(part, "w") as target:
        frames = source[block]
        written = target.create_dataset(
            block,
            frames.shape,
            frames.dtype,
            chunks=(1, *frames.shape[1:]),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        limits = np.iinfo(frames.dtype)
        for place, frame in enumerate(frames):
            more = frame + adu * random.poisson(photons, frame.shape)
            written[place] = np.clip(more, limits.min, limits.max)
    part.rename(path)
    return path


@contextmanager
def _player(data: Path, geometry: Path, url: str, rate: float) -> Iterator[None]:
    play = ["simulate", "--play", data, geometry, "--stream", url, "--rate", rate, "--loops", 0]
    with subprocess.Popen([*PROGRAM, *map(str, play)], stderr=subprocess.DEVNULL) as player:
        try:
            yield
        finally:
            player.kill()  # the sender is lost without a word


def _until(loop: subprocess.Popen[str], *kinds: str) -> dict[str, Any]:
    """Wait for an event of the night, and return it."""
    assert loop.stdout is not None
    for line in loop.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["kind"] != "block":
            stderr.print(f"{time.strftime('%H:%M:%S')} {line[:300].strip()}", markup=False)
        if event["kind"] in kinds:
            return event
    raise ProgramError("the night has ended by itself: see what it said")


def _indexed(
    data: Path, geometry: Path, cell: Path, indexer: str, sets: dict[str, Path], jobs: int
) -> dict[str, int]:
    """Return how many frames of a run index with each set."""
    found = {}
    unit, read = Cell.read(cell), Geometry.read(geometry)
    with (
        open_source(data, read) as run,
        closing(make_indexer(IndexerChoice(indexer), read, unit, jobs=jobs)) as made,
        LiveEvaluator(run, unit, made, range(len(run)), jobs=jobs, max_decoys=0) as evaluator,
    ):
        for name, session in sets.items():
            if (session / "recommended.toml").exists():
                used = applied_settings(read_recommendation(session), run.nominal_clen)
                found[name] = evaluator.evaluate(used).n_indexed
    return found


if __name__ == "__main__":
    main()
