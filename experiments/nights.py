"""Simulated nights of the closed loop: what a change costs, and whether nothing is changed for it.

Small frames of one sample are rendered once, with and without a change: the jet moves (a third of
the hits), the background rises four times, the detector's gain falls to two fifths (so do all
thresholds), or the detector moves by 2 % without its header saying so. A night draws ``--before``
frames without the change, and then ``--after`` with it, none twice; ``none`` has no change. Its
loop is that of ``sfx-tuner run`` on a list of these frames, with blocks of 50, the embedded indexer
and short sessions; a session beside the reduction lasts as long as ``--session`` frames.

Told of each night: frames from the change to the alarm, to the set that stays in the end, and the
frames that index with the sets that were in force, after the change, beside those of an oracle:
the set of a longer session on frames with the change, in force from the first of them on. Without a
change: alarms, sessions, and sets that came into force after the first. Nights share their first
sessions, `SESSIONS` of them, and go on from copies of their folders: that is what a resumed night
does.

    python -m experiments.nights -o FOLDER [--seeds 3] [--quiet-seeds 20] [--json]

What FOLDER has is not done again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from envs.evaluators.live import LiveEvaluator
from envs.simulation.simulator import Experiment, RunPaths, demo_experiment, simulate_run
from tuner.cli.options import print_json, stderr
from tuner.closed_loop.events import Alarmed, Begun, Block, Event, Returned, Tuned, Tuning
from tuner.closed_loop.loop import LOG, Loop
from tuner.closed_loop.rules import CUSTOMARY, Rules
from tuner.recommendation import applied_settings, read_recommendation
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.tuning import tune
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.indexers import IndexerChoice, make_indexer
from wrappers.settings import Settings

BASE = demo_experiment(seed=20)
QUIET = "none"
SESSIONS = 5
N_FIRST = 150
"""Frames of a night until its first session is over."""
SIZE, SAMPLE, FRAMES = 50, 25, 60
RULES = Rules(
    n_proof=500,
    n_proof_no_worse=2000,
    n_settled=(200, 1000),
    n_settled_indexed=100,
    n_tests=(25, 200, 1000),
)
"""Those of a night whose blocks are ten times larger, scaled."""
TUNE = ("--indexer", "fast", "--searcher", "map", "--frames", str(FRAMES), "--evaluations", "8")


def _experiments() -> dict[str, Experiment]:
    """Return what is simulated: without a change, and with each."""
    crystals, light, detector = BASE.crystals, BASE.background, BASE.detector
    moved = BASE.clen * 1.02
    changes: dict[str, dict[str, Any]] = {
        QUIET: {},
        "jet": {"crystals": dataclasses.replace(crystals, hit_fraction=crystals.hit_fraction / 3)},
        "background": {"background": dataclasses.replace(light, level=4 * light.level)},
        "gain": {"detector": dataclasses.replace(detector, gain=0.4 * detector.gain)},
        "clen": {"clen": moved, "clen_error": BASE.written_clen / moved - 1},
    }
    return {
        name: dataclasses.replace(BASE, seed=BASE.seed + place, **change)
        for place, (name, change) in enumerate(changes.items())
    }


@click.command()
@click.option("-o", "--folder", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=3, show_default=True, help="Nights of each change.")
@click.option("--quiet-seeds", default=20, show_default=True, help="Nights without a change.")
@click.option("--before", default=500, show_default=True)
@click.option("--after", default=700, show_default=True)
@click.option("--session", "n_session", default=200, show_default=True)
@click.option("--pool", default=1500, show_default=True, help="Frames without a change.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path,
    seeds: int,
    quiet_seeds: int,
    before: int,
    after: int,
    n_session: int,
    pool: int,
    as_json: bool,
) -> None:
    """Print the table."""
    runs = {}
    for kind, experiment in _experiments().items():
        n = pool if kind == QUIET else after
        place = folder / "runs" / f"{kind}-{n}"
        if not place.exists():
            stderr.print(f"rendering {n} frames: {kind}", highlight=False)
            simulate_run(experiment, place, n)
        runs[kind] = RunPaths(*(place / f"run.{s}" for s in ("h5", "geom", "cell", "h5", "h5")))
    rows = []
    for seed in range(max(seeds, quiet_seeds)):
        for kind in runs:
            if seed < (quiet_seeds if kind == QUIET else seeds):
                night = folder / "nights" / f"{kind}-{before}-{after}-{n_session}-{seed}"
                if not (night / "row.json").exists():
                    stderr.print(f"night {seed}: {kind}", highlight=False)
                    shutil.rmtree(night, ignore_errors=True)
                    night.mkdir(parents=True)
                    row = _row(runs, kind, seed, before, after, n_session, night, folder)
                    write_whole(night / "row.json", json.dumps(row))
                rows.append(json.loads((night / "row.json").read_text()))
    if as_json:
        print_json(rows)
    else:
        _print(rows)


class _Loop(Loop):
    """A loop whose sessions last as long as so many frames, whatever the machine has to do."""

    def __init__(self, n_session: int, night: Path, begun: Begun | None) -> None:
        super().__init__(night, begun, rules=RULES)
        self._n_session = n_session

    def _is_early(self) -> bool:
        begun = next(e for e in reversed(self.events) if isinstance(e, Tuning))
        of_last = max(begun.blocks) + 1 + self._n_session // SIZE
        early = self.state.next_block < of_last and not self._frames.ended
        return self.state.used != CUSTOMARY and early

    def _wait_for_session(self) -> None:
        if self._session is not None and not self._is_early():
            super()._wait_for_session()

    def _ended(self) -> Tuned | None:
        if self._session is None or self._is_early():
            return None
        return super()._ended()


def _row(
    runs: dict[str, RunPaths],
    kind: str,
    seed: int,
    before: int,
    after: int,
    n_session: int,
    place: Path,
    folder: Path,
) -> dict[str, Any]:
    """Run a night; return what became of it."""
    quiet, changed = runs[QUIET], runs[kind]
    number = seed % SESSIONS
    begin = np.random.default_rng(number).permutation(_n_frames(quiet))
    first = folder / "first" / str(number)
    if not (first / "done").exists():
        shutil.rmtree(first, ignore_errors=True)
        first.mkdir(parents=True)
        _list(first / "night.lst", [(quiet, begin[:N_FIRST])])
        begun = Begun(
            source=str(first / "night.lst"),
            geometry=str(quiet.geometry),
            tune=(*TUNE, "--cell", str(quiet.cell), "--seed", str(number)),
            n_tuning=2 * FRAMES,
            size=SIZE,
            seconds=1e6,
            n_sample=SAMPLE,
            version="0",
        )
        with _Loop(n_session, first / "night", begun) as loop:
            loop.run()
        (first / "done").touch()
    random = np.random.default_rng(1000 + seed)
    order = random.permutation(begin[N_FIRST:])
    n = before - N_FIRST
    then = order[n : n + after] if kind == QUIET else random.permutation(after)
    _list(place / "night.lst", [(quiet, begin[:N_FIRST]), (quiet, order[:n]), (changed, then)])
    shutil.copytree(first / "night", place / "night")
    log = place / "night" / LOG
    log.write_text(log.read_text().replace(str(first), str(place)))
    with _Loop(n_session, place / "night", None) as loop:
        loop.run()
    told = _told(loop.events, before)
    row = {"kind": kind, "seed": seed, **told}
    if kind != QUIET:
        row.update(_lost(loop.events, changed, then, before, place / "night", folder, kind))
    return row


def _list(path: Path, parts: list[tuple[RunPaths, Any]]) -> None:
    lines = [f"{run.data.absolute()} //{i}\n" for run, frames in parts for i in frames]
    path.write_text("".join(lines))


def _told(events: list[Event], before: int) -> dict[str, Any]:
    """Return when what happened, in frames since the change."""
    frames, alarms, swaps, returns, sessions, early = 0, [], [], 0, 0, 0
    for event in events:
        match event:
            case Block():
                frames = event.first + event.n_frames - before
            case Alarmed():
                alarms.append(frames)
            case Tuning():
                sessions += 1
            case Tuned(outcome="better" | "moved"):
                swaps.append(frames)
            case Returned():
                returns += 1
    early = sum(each <= 0 for each in alarms)
    return {
        "early alarms": early,
        "to the alarm": next((each for each in alarms if each > 0), None),
        "to the set": swaps[0] if swaps else None,
        "sessions": sessions,
        "swaps": len(swaps),
        "returns": returns,
    }


def _lost(
    events: list[Event],
    changed: RunPaths,
    order: Any,
    before: int,
    night: Path,
    folder: Path,
    kind: str,
) -> dict[str, Any]:
    """Return how many frames index after the change with what was in force, and with others."""
    oracle = folder / f"oracle-{kind}"
    if not (oracle / "recommended.toml").exists():
        shutil.rmtree(oracle, ignore_errors=True)
        request = Request(
            changed.data,
            changed.geometry,
            changed.cell,
            searcher="map",
            n_frames=200,
            indexer=IndexerChoice("fast"),
        )
        tune(request, oracle, budget=Budget(16, None))
    blocks = [event for event in events if isinstance(event, Block) and event.first >= before]
    paths = {number: night / f"tuning-{number}" for number in {1, *(b.used for b in blocks)}}
    indexed = {number: _indexed(changed, path) for number, path in paths.items()}
    kept = folder / f"oracle-{kind}.json"
    if not kept.exists():
        kept.write_text(json.dumps(sorted(_indexed(changed, oracle))))
    of_oracle = set(json.loads(kept.read_text()))
    n = 0
    for block in blocks:
        first = block.first - before
        n += sum(int(i) in indexed[block.used] for i in order[first : first + block.n_frames])
    return {
        "indexed": n,
        "indexed by the oracle": len(of_oracle),
        "indexed by the first set": len(indexed[1]),
        "indexed by the last set": len(indexed[blocks[-1].used]),
    }


def _indexed(run: RunPaths, session: Path) -> set[int]:
    geometry, cell = Geometry.read(run.geometry), Cell.read(run.cell)
    with (
        open_source(run.data, geometry) as frames,
        closing(make_indexer(IndexerChoice("fast"), geometry, cell, jobs=1)) as indexer,
        LiveEvaluator(
            frames, cell, indexer, range(len(frames)), max_decoys=0, memory=0
        ) as evaluator,
    ):
        used: Settings = applied_settings(read_recommendation(session), frames.nominal_clen)
        return {each.frame for each in evaluator.evaluate(used).outcomes if each.indexed}


def _n_frames(run: RunPaths) -> int:
    with open_source(run.data, Geometry.read(run.geometry)) as frames:
        return len(frames)


def _print(rows: list[dict[str, Any]]) -> None:
    def median(values: list[Any]) -> str:
        known = [each for each in values if each is not None]
        return f"{statistics.median(known):.0f}" if known else "-"

    click.echo(
        f"{'change':<12}{'nights':>7}{'alarm':>8}{'set':>8}{'swaps':>7}{'returns':>9}"
        f"{'indexed':>9}{'oracle':>8}{'first':>7}{'last':>6}"
    )
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        columns = ("to the alarm", "to the set")
        late = "".join(f"{median([row[c] for row in of]):>8}" for c in columns)
        counts = f"{sum(r['swaps'] for r in of):>7}{sum(r['returns'] for r in of):>9}"
        names = ("indexed", "indexed by the oracle", "indexed by the first set")
        rates = [median([r.get(c) for r in of]) for c in (*names, "indexed by the last set")]
        click.echo(
            f"{kind:<12}{len(of):>7}{late}{counts}"
            + "".join(f"{each:>{w}}" for each, w in zip(rates, (9, 8, 7, 6), strict=True))
        )
    quiet = [row for row in rows if row["kind"] == QUIET]
    alarms = sum(row["to the alarm"] is not None or row["early alarms"] > 0 for row in quiet)
    early = sum(row["early alarms"] for row in rows)
    click.echo(
        f"without a change: {alarms} of {len(quiet)} nights with an alarm, "
        f"{sum(row['swaps'] for row in quiet)} swaps; in all nights {early} alarms before a change"
    )


if __name__ == "__main__":
    main()
