"""Mutated files of every kind that the program itself writes; see `tests.fuzz`."""

from __future__ import annotations

import functools
import io
import json
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.table import TABLES, TableEvaluator
from envs.look import LOOK_FILE, FrameLook, take_look
from envs.response_map.model import MapModel
from envs.response_map.session_map import ResponseMap
from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    N_ACTIONS,
    SESSION_FEATURES,
)
from envs.response_map.stored import MAP_FILE, read_map, write_map
from envs.simulation.simulator import read_truth
from tests.fuzz_mutations import flip, mutated_json, strange_arrays
from tuner.apply.applying import rate_intervals, session_cell, session_indexer
from tuner.apply.by_kind import KINDS_FILE
from tuner.apply.watching import Watch, WatchRequest
from tuner.closed_loop import events as night
from tuner.closed_loop.events import append_event, as_line
from tuner.closed_loop.feed import TAKEN, note_taken, taken_before
from tuner.closed_loop.loop import LOG, Loop
from tuner.closed_loop.page import night_content
from tuner.closed_loop.rules import due
from tuner.closed_loop.words import in_words
from tuner.comparison.results import write_results
from tuner.comparison.store import ComparisonStore
from tuner.export.exporters import TARGETS, write_export
from tuner.fingerprint import fingerprint
from tuner.map_agent.checkpoints import read_curve, write_curve
from tuner.map_agent.policy import POLICY_FILE, MapPolicy
from tuner.recommendation import (
    at_edge,
    clen_change,
    files_of_session,
    read_recommendation,
    recommend,
    session_geometry,
    write_recommendation,
)
from tuner.report import write_report
from tuner.search.warm_start import SHIPPED, WARM_START, WarmStart
from tuner.session.config import SessionConfig
from tuner.session.kinds import TOLD_FILE, read_told
from tuner.session.ownership import OWNER, owned
from tuner.session.request import begun_with
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.frame_kinds import KINDS as NAMES
from wrappers.frame_kinds import FrameKinds
from wrappers.frame_kinds.features import FEATURES, GRID, N_DIRECTIONS, Reference
from wrappers.frame_kinds.kinds import shipped_parts
from wrappers.frame_kinds.layout import ALONG
from wrappers.frame_kinds.measures import RINGS
from wrappers.frames.opening import open_source
from wrappers.indexing import Indexing, Lattice, Pattern
from wrappers.indexing_cache import FILE, CachedIndexer
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import FrameCounts
from wrappers.peaks import PeakList
from wrappers.processes import this_process
from wrappers.reduction import reduce_run
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = ["KINDS"]

SETTINGS = Settings(min_snr=4, threshold=20, min_pix_count=1, min_peaks=1, clen=0.08)
CELL = Cell(79.0, 79.0, 38.0, 90.0, 90.0, 90.0, "tetragonal", "P", "c")
Rng = np.random.Generator


def evaluation(settings: Settings, rng: Rng, n_frames: int = 12) -> Evaluation:
    indexed = rng.random(n_frames) < 0.6
    return Evaluation(
        settings,
        tuple(FrameOutcome(i, 20, True, int(is_)) for i, is_ in enumerate(indexed)),
        *(10, 1, 0.9, 0.5, 0.001),
        refined={name: (0.0801, 1e-5) for name in ("clen", "shift_x", "shift_y")},
        frame_clens=tuple((i, 0.08, 1e-5) for i in np.flatnonzero(indexed).tolist()),
        seconds=1.0,
        core_seconds=2.0,
    )


@functools.cache
def template() -> Path:
    """Return a folder with one valid file of each kind."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-own-"))
    rng = np.random.default_rng(0)
    session = folder / "session"
    session.mkdir()
    config = SessionConfig(
        *("run.h5", "run.geom", "x.cell", "gp", 12, ("min_snr", "threshold", "clen")),
        fixed={"min_peaks": 1.0},
        bounds={"min_snr": (3.0, 9.0)},
        indexer="fast 0.1.0",
        indexer_choice={"name": "fast", "method": None, "effort": "normal"},
        evaluations=8,
    )
    store = SessionStore.create(session, config)
    stages = ("baseline", "start", "initial", "search", "search", "confirm", "fresh", "fresh")
    for number, stage in enumerate(stages):
        tried = CRYSTFEL_DEFAULTS if number in (0, 7) else SETTINGS.replace(min_snr=3 + number % 5)
        store.add(Trial(number, stage, evaluation(tried, rng), "a reason", max(number - 1, 0)))
    best, baseline = (store.trials[i].evaluation for i in (6, 7))
    known = {
        "tuned": list(config.tuned),
        "geometry_clen": 0.08,
        "clen_bounds": [0.076, 0.084],
        "pixel_size": 1e-4,
        "measured_on_fresh_frames": True,
        "indexer": "fast 0.1.0",
        "indexer_name": "fast",
        "date": "2026-11-29",
        "merit": config.merit.as_dict(),
    }
    checks = {
        "crystfel_own_search": {"same_peaks": 8, "n_frames": 10, "n_indexed": 4, "same_indexed": 9}
    }
    write_recommendation(recommend(best, baseline, known, checks), session / "recommended.toml")

    regret = {"agent": {"regret": np.zeros((2, 2, 5)), "seconds": np.ones((2, 2, 5))}}
    (folder / "comparison" / "unfinished").mkdir(parents=True)
    write_results(folder / "comparison" / "unfinished" / "results.npz", {"test": regret})
    (folder / "comparison" / "asked.json").write_text(json.dumps({"methods": ["agent"], "n": 3}))
    lines = [json.dumps(trial.evaluation.as_dict()) for trial in store.trials[:3]]
    (folder / "comparison" / "unfinished" / "run.jsonl").write_text("\n".join(lines) + "\n")

    shutil.copy(SHIPPED / WARM_START, folder)
    shutil.copy(next(TABLES.glob("*.npz")), folder / "table.npz")
    row = {"steps": 10.0, "score": 0.1}
    write_curve(folder, [row, row])
    (folder / OWNER).write_text(json.dumps(asdict(replace(this_process(), pid=2**22 - 7))))
    line = {
        **{"file": "/a.h5", "size": 3, "mtime_ns": 4, "hits": "/h.cxi", "n_frames": 5},
        **{"n_unreadable": 0, "n_hits": 1, "sets": [], "sample": None, "n_tests": 1, "alarms": []},
    }
    (folder / "watched.jsonl").write_text((json.dumps(line) + "\n") * 2)
    with h5py.File(folder / "truth.h5", "w") as file:
        file["class"] = np.array([b"weak", b"multi"], "S8")
        file["photon_energy"] = file["background"] = np.full(2, 9300.0)
        for name, shape in (("reciprocal", (3, 3)), ("spots", (3,)), ("photons", ())):
            file[name] = np.ones((3, *shape))
            file[f"{name}_start"] = np.array([0, 1, 3])
    return folder


def changed_bytes(path: Path, rng: Rng) -> None:
    content = bytearray(path.read_bytes())
    flip(content, rng, int(rng.integers(1, 20)))
    if rng.random() < 0.2:
        del content[int(rng.integers(len(content) + 1)) :]
    path.write_bytes(content)


def changed_json(path: Path, rng: Rng) -> None:
    """Change one line of a file of JSON lines, or all of a JSON file."""
    if rng.random() < 0.15:
        return changed_bytes(path, rng)
    if path.suffix == ".jsonl":
        lines: list[Any] = path.read_bytes().splitlines(keepends=True)
        i = int(rng.integers(len(lines)))
        lines[i] = mutated_json(lines[i], rng) + b"\n"
        path.write_bytes(b"".join(lines))
    else:
        path.write_bytes(mutated_json(path.read_bytes(), rng))
    return None


def changed_toml(path: Path, rng: Rng) -> None:
    """Change a value of a TOML file, whose values are almost JSON's."""
    lines = path.read_text().splitlines()
    for _ in range(int(rng.integers(1, 4))):
        i = int(rng.integers(len(lines)))
        key, equals, value = lines[i].partition(" = ")
        if equals and rng.random() < 0.8:
            text = value.partition(" # ")[0].encode()
            try:
                value = mutated_json(text, rng).decode()
            except (ValueError, RecursionError):  # it was changed before
                value = "3"
            lines[i] = f"{key} = {value}"
        elif rng.random() < 0.5:
            lines[i] = ""
        else:
            lines.insert(i, lines[int(rng.integers(len(lines)))])
    path.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")
    if rng.random() < 0.1:
        changed_bytes(path, rng)


def changed_hdf5(path: Path, rng: Rng) -> None:
    if rng.random() < 0.3:
        return changed_bytes(path, rng)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        name = str(rng.choice(names))
        shape = file[name].shape
        del file[name]
        if rng.random() < 0.9:
            file[name] = strange_arrays(rng, shape)
    return None


def changed_npz(path: Path, rng: Rng) -> None:
    if rng.random() < 0.4:
        return changed_bytes(path, rng)
    with np.load(path) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    name = str(rng.choice(list(arrays)))
    if name in ("about", "settings", "unreadable") and rng.random() < 0.8:
        arrays[name] = np.frombuffer(mutated_json(arrays[name].tobytes(), rng), np.uint8)
    else:
        other = strange_arrays(rng, arrays[name].shape)
        arrays[name] = other if isinstance(other, np.ndarray) else np.zeros(3, "U5")
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.write_bytes(content.getvalue())
    return None


def copied(folder: Path, name: str) -> Path:
    source, target = template() / name, folder / name
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target


def fuzz_session(folder: Path, rng: Rng) -> None:
    session = copied(folder, "session")
    changed_json(session / str(rng.choice(["session.json", "evaluations.jsonl"])), rng)
    store = SessionStore.open(session, mend=bool(rng.integers(2)))
    begun_with(store.config)
    store.table().to_csv()
    if rng.random() < 0.1:
        write_report(store, read_recommendation(session), session / "report.html")


def fuzz_recommendation(folder: Path, rng: Rng) -> None:
    session = copied(folder, "session")
    (folder / "x.cell").write_text(CELL.text)
    path = session / "recommended.toml"
    text = path.read_text().replace(
        "[provenance]\n",
        (
            f'[provenance]\ngeometry = "{folder / "run.geom"}"\n'
            f'geometry_sha256 = "{fingerprint(folder / "run.geom")}"\ncell = "{folder}/x.cell"\n'
        ),
    )
    path.write_text(text)
    changed_toml(path, rng)
    found = read_recommendation(session)
    for use in (rate_intervals, session_cell, files_of_session, clen_change, session_indexer):
        use(found)
    at_edge(found.settings, {}, found.provenance)
    session_geometry(found)
    target = TARGETS.get(str(rng.choice(list(TARGETS))))
    write_export(found, target, folder / f"out-{target.file}", inputs=[path], replace=True)
    if rng.random() < 0.1:
        write_report(SessionStore.open(session), found, session / "report.html")


def fuzz_warm_start(folder: Path, rng: Rng) -> None:
    changed_json(copied(folder, WARM_START), rng)
    assert all(
        0 <= value <= 1 for point in WarmStart.load(folder).points for value in point.values()
    )


class Measured:
    n_frames = 12

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        return evaluation(settings, np.random.default_rng(0))


def fuzz_comparison(folder: Path, rng: Rng) -> None:
    comparison = copied(folder, "comparison")
    name = str(rng.choice(["asked.json", "unfinished/results.npz", "unfinished/run.jsonl"]))
    (changed_npz if name.endswith(".npz") else changed_json)(comparison / name, rng)
    store = ComparisonStore.open(comparison, {"methods": ["agent"], "n": 3}, resume=True)
    store.recorded(Measured(), "run").evaluate(SETTINGS)


def fuzz_table(folder: Path, rng: Rng) -> None:
    path = copied(folder, "table.npz")
    changed_npz(path, rng)
    table = TableEvaluator(path)
    table.evaluate(SETTINGS)
    table.take([0]).evaluate(Settings(), 1)


def fuzz_curve(folder: Path, rng: Rng) -> None:
    changed_bytes(copied(folder, "curve.csv"), rng)
    read_curve(folder)


def fuzz_owner(folder: Path, rng: Rng) -> None:
    for left in folder.glob(".owner*"):
        left.unlink()
    changed_json(copied(folder, OWNER), rng)
    with owned(folder):
        pass


def fuzz_journal(folder: Path, rng: Rng) -> None:
    changed_json(copied(folder, "watched.jsonl"), rng)
    request = WatchRequest(folder, folder / "none", "*.h5", folder)
    Watch(request, Geometry.read(folder / "run.geom")).step()


def fuzz_truth(folder: Path, rng: Rng) -> None:
    path = copied(folder, "truth.h5")
    changed_hdf5(path, rng)
    read_truth(path)


def fuzz_reduction(folder: Path, rng: Rng) -> None:
    """Break off a reduction, damage what it left, and go on with it."""
    run = open_source(folder / "run.h5", Geometry.read(folder / "run.geom"))
    out = folder / "hits.cxi"
    for left in (out, folder / "hits.cxi.geom"):
        left.unlink(missing_ok=True)
    shutil.rmtree(folder / "hits.cxi.parts", ignore_errors=True)
    stopped = KeyboardInterrupt()

    def stop(done: int, hits: int) -> None:
        if done == len(run):
            raise stopped

    def go_on(progress: Callable[[int, int], None] = lambda *_: None) -> None:
        reduce_run(run, NamedFinder(run.geometry), SETTINGS, out, resume=True, progress=progress)

    if rng.random() < 0.2:
        go_on()
        changed_hdf5(out, rng)
    else:
        try:
            go_on(stop)
        except KeyboardInterrupt as error:
            assert error is stopped
        parts = sorted((folder / "hits.cxi.parts").glob("*.cxi"))
        if parts and rng.random() < 0.7:
            changed_hdf5(parts[int(rng.integers(len(parts)))], rng)
        else:
            changed_json(folder / "hits.cxi.parts" / "plan.json", rng)
    go_on()


class Answers:
    name, parallel = "answers 1", False

    def index(self, patterns: Sequence[Pattern], done: object = None) -> list[Indexing]:
        return [Indexing((Lattice(np.eye(3) / 50),)) for _ in patterns]


def fuzz_indexed(folder: Path, rng: Rng) -> None:
    one = np.ones(12)
    peaks = PeakList(one, one, one, one, np.zeros(12, np.int32), one.astype(np.int32), one)
    patterns = [Pattern(peaks, 9300.0, 0.08 + i) for i in range(3)]
    for left in folder.glob(f"{FILE}*"):
        left.unlink()
    geometry = Geometry.read(folder / "run.geom")

    def ask() -> list[Indexing]:
        return CachedIndexer(Answers(), folder, geometry, CELL).index(patterns)  # type: ignore[arg-type]

    ask()
    if rng.random() < 0.5:
        changed_bytes(folder / FILE, rng)
    else:
        strange = (b"", b"x", b"\xff" * 72, b"\0" * 72, 3, 2.5, "text", b"a" * 7200, None)
        with sqlite3.connect(folder / FILE) as file:
            new = strange[int(rng.integers(len(strange)))]
            file.execute("UPDATE OR IGNORE answers SET lattices = ?", [new])
        file.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = ask()
    assert all(np.isfinite(each.reciprocal).all() for a in answers for each in a.lattices)


class Counts:
    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        return {i: FrameCounts(i, np.full(len(settings), i, np.uint16)) for i in frames}


def fuzz_look(folder: Path, rng: Rng) -> None:
    path, sets = folder / LOOK_FILE, [Settings(min_snr=snr) for snr in (4, 5, 6)]

    def look() -> FrameLook:
        return take_look(Counts(), range(5), sets, stored=path)

    path.unlink(missing_ok=True)
    look()
    changed_npz(path, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = look()
    assert (found.counts.shape, found.counts.dtype) == ((5, 3), np.uint16) and not found.failures


def fuzz_map(folder: Path, rng: Rng) -> None:
    path, sets = folder / MAP_FILE, tuple(Settings(min_snr=snr) for snr in (4, 5, 6))
    counts = np.arange(15, dtype=np.uint16).reshape(5, 3)
    look = FrameLook(sets, (0, 1, 2, 3, 4), counts, {4: "it is gone"})
    write_map(path, ResponseMap(look, 2e5, MapModel.shipped()))
    changed_npz(path, rng)
    with suppress(InputError):
        assert np.isfinite(read_map(path).forecast().mean).all()


def fuzz_map_agent(folder: Path, rng: Rng) -> None:
    path = folder / POLICY_FILE
    shutil.copy(SHIPPED / POLICY_FILE, path)
    changed_bytes(path, rng)
    with suppress(InputError):
        policy = MapPolicy.load(path)
        shown = np.zeros((CANDIDATES, len(CANDIDATE_FEATURES))), np.zeros(len(SESSION_FEATURES))
        assert policy.scores(*shown).shape == (N_ACTIONS,)


def fuzz_kinds(folder: Path, rng: Rng) -> None:
    path, points = folder / KINDS_FILE, rng.normal(0, 2, (20, len(FEATURES)))
    usual = (1.0,) * GRID**2
    always = (0.0,) * RINGS, (0.0,) * N_DIRECTIONS
    reference = Reference(1.0, 1.0, 0.1, usual, usual, 0.01, 1.0, *always, (3, 5))
    places = ((0.01, 0.02),) * ALONG**2
    learnt, _ = FrameKinds(reference, shipped_parts(), (4, 4), 0, places).learn(points)
    learnt.write(path)
    changed_json(path, rng)
    kinds = FrameKinds.read(path)
    with np.errstate(all="ignore"):
        learnt, _ = kinds.learn(points)
        assert {*learnt.assign(points)} <= {*NAMES}
        assert sum(learnt.shares().values()) == 0 or abs(sum(learnt.shares().values()) - 1) < 1e-6


def fuzz_told(folder: Path, rng: Rng) -> None:
    path = folder / TOLD_FILE
    np.savez(path, frames=np.arange(5), kinds=np.array([0, 1, 2, 3, 3]), spread=np.arange(3))
    changed_npz(path, rng)
    told = read_told(folder)
    assert told is not None and {*told.names.values()} <= {*NAMES}


def fuzz_night(folder: Path, rng: Rng) -> None:
    """Go on with a night whose log is changed, and show it."""
    (folder / LOG).unlink(missing_ok=True)
    pairs, interval = (
        night.Pairs(40, 9, 1, 20),
        {"hit rate": (0.1, 0.3), "indexing rate": (0.0, 1.0)},
    )
    for event in (
        night.Begun("run.lst", "run.geom", ("--cell", "x.cell"), 400, 50, 9.0, 20, "0.1.0"),
        night.Block(1, 0, 50, 0, 10, 0, "a.cxi", n_sampled=20, n_indexed=5, level=1.5),
        night.Tuning(1, (1,)),
        night.Tuned(1, "first", intervals=interval),
        night.Block(2, 50, 48, 2, 30, 1, "b.cxi", n_sampled=20, n_indexed=20, level=1.5, n_light=9),
        night.Settled(interval),
        night.Alarmed("hit rate", 30, 48, 0.1, 0.3),
        night.Tuning(2, (2,)),
        night.Tuned(2, "better", "of 40 frames more index", pairs, interval),
        night.Block(3, 100, 50, 0, 10, 2, n_sampled=20, n_indexed=5, beam="off", pairs=pairs),
        night.Kept(2, pairs),
        night.Returned(1, 2, pairs),
        night.Noted("a series has ended"),
        night.Ended("it was stopped"),
        night.Resumed(),
    ):
        append_event(folder / LOG, event)
    changed_json(folder / LOG, rng)
    loop = Loop(folder, None)
    night_content("night", loop.events, loop.state)
    for event in loop.events:
        in_words(event), as_line(event)
    due(loop.state, loop._rules)


def fuzz_taken(folder: Path, rng: Rng) -> None:
    (folder / TAKEN).unlink(missing_ok=True)
    for block in (1, 2, 3):
        note_taken(folder, block, [("a.h5", f"//{block}"), ("b.h5", "")])
    changed_json(folder / TAKEN, rng)
    assert all(len(each) == 2 for each in taken_before(folder, 3))


KINDS: dict[str, Callable[[Path, Rng], None]] = {
    "night": fuzz_night,
    "taken": fuzz_taken,
    "map agent": fuzz_map_agent,
    "session": fuzz_session,
    "recommendation": fuzz_recommendation,
    "warm start": fuzz_warm_start,
    "comparison": fuzz_comparison,
    "table": fuzz_table,
    "curve": fuzz_curve,
    "owner": fuzz_owner,
    "journal": fuzz_journal,
    "truth": fuzz_truth,
    "reduction": fuzz_reduction,
    "indexed": fuzz_indexed,
    "look": fuzz_look,
    "map": fuzz_map,
    "kinds": fuzz_kinds,
    "told": fuzz_told,
}
