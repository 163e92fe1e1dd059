"""Reducing runs as they appear, with whatever set is recommended at the moment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tuner.apply.applying import CurrentSet, VetoCheck, check_veto, rate_intervals
from tuner.apply.by_kind import KINDS_FILE, ByKind, known_kinds
from tuner.apply.drift import RateWatch
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import append_line
from wrappers.frames.opening import looks_like_frames, open_source
from wrappers.frames.sampling import sample_frames
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.outputs import check_outputs, companion
from wrappers.peakfinding.finders import NamedFinder
from wrappers.reduction import OtherInputs, Reduction, reduce_run
from wrappers.reduction.parts import Part
from wrappers.schema import Count, read_json_lines

__all__ = ["Watch", "WatchRequest"]

JOURNAL = "watched.jsonl"

HITS = "_hits.cxi"
"""Behind a run's name."""

_Signature = tuple[int, int]
"""A file's size and time of modification (ns)."""

TRIED_AGAIN = 60.0
"""Seconds after which a file that was left out is tried again: a full disk may have room again."""

CLOCKS_DIFFER = 2.0
"""Seconds by which a file may be changed in the future without a word."""


@dataclass(frozen=True)
class WatchRequest:
    """What is to be watched, and how runs are to be reduced.

    Attributes
    ----------
    recommended : Path
        A ``recommended.toml`` or a session's directory; read again whenever it changes.
    folder : Path
        Where runs appear.
    pattern : str
        Which files in it are runs, as for `Path.glob`.
    out : Path
        Folder of the hits.
    settle : float
        A file is a run once it has not changed for so many seconds.
    n_sample : int
        Frames of each run that are indexed to watch the indexing rate; 0 for none.
    jobs : int
    virtual : bool
    mask : Path or None
        The map of bad pixels for sets that mask some; without one each run's own frames make it.
    replace : bool
        Whether files that another than this watch has written may be replaced.
    kinds : Path or None
        Where the kinds of frames are carried on; by default in the folder of the hits. They begin
        with the session's, if it has some, or else with the first run's.
    veto : bool
        Whether frames are left out by their kind. Without it, and without `kinds`, none are told.
    """

    recommended: Path
    folder: Path
    pattern: str
    out: Path
    settle: float = 5.0
    n_sample: int = 100
    jobs: int = 1
    virtual: bool = False
    mask: Path | None = None
    replace: bool = False
    kinds: Path | None = None
    veto: bool = False

    @property
    def kinds_file(self) -> Path | None:
        """Where the kinds of frames are carried on, if they are told."""
        if self.kinds is not None or not self.veto:
            return self.kinds
        return self.out / KINDS_FILE


class Watch:
    """Reduces the runs of a folder, each once.

    What is done stands in ``watched.jsonl`` in the folder of the hits, a line a run, so a watch
    that was stopped goes on where it was, in mid-run too.

    Parameters
    ----------
    request : WatchRequest
    geometry : Geometry
    cell : Cell or None
        None, or no indexer, where only the hit rate is to be watched.
    indexer : Indexer or None
    say : callable
        Called with a sentence for people: alarms, and why a file is no run.
    progress : callable
        Called with the run's file, its number of frames, those done and the hits.

    Raises
    ------
    InputError
        If the folder of the hits cannot be made, the pattern leads elsewhere, the map of bad
        pixels or the kinds cannot be read, or these would replace something.
    """

    def __init__(
        self,
        request: WatchRequest,
        geometry: Geometry,
        cell: Cell | None = None,
        indexer: Indexer | None = None,
        *,
        say: Callable[[str], None] = lambda sentence: None,
        progress: Callable[[Path, int, int, int], None] = lambda *_: None,
    ) -> None:
        self._request, self._geometry, self._cell, self._indexer = request, geometry, cell, indexer
        self._say, self._progress = say, progress
        self._bad_pixels = (
            None if request.mask is None else BadPixelMap.load(request.mask, geometry)
        )
        if ".." in Path(request.pattern).parts or Path(request.pattern).is_absolute():
            raise InputError(
                f"the pattern {request.pattern} leads out of {request.folder}: watch the folder "
                "that it leads to"
            )
        try:
            next(request.folder.glob(request.pattern), None)
        except (ValueError, IndexError, NotImplementedError) as error:
            raise InputError(
                f"--pattern {request.pattern!r} is none ({error}): write one such as *.h5 or "
                "**/*.h5"
            ) from None
        try:
            request.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the folder {request.out} cannot be made: {error.strerror}"
            ) from error
        self._journal = request.out / JOURNAL
        if request.kinds_file is not None:
            read = request.recommended
            session = [each for each in read.iterdir() if each.is_file()] if read.is_dir() else []
            inputs = [read if read.is_file() else None, *session, request.mask, geometry.path]
            check_outputs(request.kinds_file, self._journal, inputs=inputs, force=True)
            known_kinds(request.kinds_file, request.recommended, geometry)
        self._done = self._read_journal()
        self._refused: dict[Path, tuple[_Signature, float, str]] = {}
        self._seen: dict[Path, tuple[_Signature, float]] = {}

    def take_up(self, recommended: Path) -> None:
        """Reduce further runs with what this session, or ``recommended.toml``, recommends."""
        self._request = replace(self._request, recommended=recommended)

    def step(self) -> list[dict[str, Any]]:
        """Reduce what has appeared since the last step; return the journal's new lines."""
        lines = []
        for path, signature in self._ready():
            try:
                run = open_source(path, self._geometry).with_bad_pixels(self._bad_pixels)
                line = self._reduce(path, signature, run)
            except (InputError, ProgramError) as error:
                # It may be no run, not be complete, or be gone, and a disk may be full or away.
                self._refuse(path, signature, f"{path.name} is left out: {error}")
                continue
            append_line(self._journal, json.dumps(line))
            self._done.append(line)
            lines.append(line)
        return lines

    def _refuse(self, path: Path, signature: _Signature, sentence: str) -> None:
        """Leave a file out until it changes, or a while has passed; say why, where that is new."""
        known = self._refused.get(path)
        if known is None or known[0] != signature or known[2] != sentence:
            self._say(sentence)
        self._refused[path] = signature, time.monotonic(), sentence

    def _is_refused(self, path: Path, signature: _Signature) -> bool:
        known, when, _ = self._refused.get(path, (None, 0.0, ""))
        return known == signature and time.monotonic() - when < TRIED_AGAIN

    def _ready(self) -> list[tuple[Path, _Signature]]:
        """Return the files that are new, or have changed, and are no longer being written."""
        done = {(line["file"], line["size"], line["mtime_ns"]) for line in self._done}
        ready = []
        found = sorted(self._request.folder.glob(self._request.pattern))
        places = set(found)
        for path in found:
            if self._is_output(path, places) or not self._may_be_run(path):
                continue
            try:
                size, changed = signature = _signature(path)
            except OSError:
                continue
            if (str(path.absolute()), size, changed) in done or self._is_refused(path, signature):
                continue
            if self._rests(path, signature):
                ready.append((path, signature))
        return ready

    def _rests(self, path: Path, signature: _Signature) -> bool:
        """Whether a file has not changed for long enough, by its own time or by our clock."""
        settle, now = self._request.settle, time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if known != signature:
            self._seen[path] = signature, now
            since = now
        age = time.time() - signature[1] / 1e9
        if age < -CLOCKS_DIFFER and known is None:
            self._say(
                f"{path.name} was changed {-age:.0f} s in the future, by its time of modification "
                f"(clocks that differ?): it is taken once it has rested for {settle:g} s by this "
                "machine's clock"
            )
        return not settle or now - since >= settle or (known == signature and age >= settle)

    def _may_be_run(self, path: Path) -> bool:
        """Whether a file is worth a word if it cannot be read as a run.

        A pattern such as ``*`` means every file, and what else lies in the folder is no fault.
        """
        if path.is_dir():
            return False
        return bool(Path(self._request.pattern).suffix) or looks_like_frames(path)

    def _is_output(self, path: Path, runs: Set[Path]) -> bool:
        """Whether a file is one that this watch writes, which is never reduced again.

        In a folder with the runs it is the hits of one of these `runs`, or of one that has gone
        since, as the journal says; a user's own file may be called the same way.
        """
        place, folder, out = (
            Path(os.path.realpath(each)) for each in (path, self._request.folder, self._request.out)
        )
        if out not in place.parents:
            return False
        if folder in out.parents:
            return True  # a folder of its own for the hits, which holds no runs
        inside = place.relative_to(out).parts
        if any(each.endswith((".parts", ".part")) for each in inside):
            return True
        ours = {os.path.realpath(line["hits"]) for line in self._done}
        of_run = path.with_name(path.name.removesuffix(HITS))
        return str(place) in ours or (path.name.endswith(HITS) and of_run in runs)

    def _reduce(self, path: Path, signature: _Signature, run: FrameSource) -> dict[str, Any]:
        request, (size, changed), out = self._request, signature, self._output(path)
        current = CurrentSet(request.recommended, run, self._say)
        n_tests = sum(line["n_tests"] for line in self._done)
        watch, used, alarms = RateWatch({}, n_tests), "", []

        def begin_test(name: str) -> None:
            nonlocal used
            if name != used:
                used = name
                known = current.recommendations.get(name)
                watch.begin_run({} if known is None else rate_intervals(known))

        def count(rate: str, k: int, n: int) -> None:
            if (alarm := watch.count(rate, k, n)) is not None:
                alarms.append(str(alarm))
                self._say(f"{path.name}: {alarm}")

        by_kind, kinds = None, request.kinds_file
        if kinds is not None:
            n_runs = len(self._done)
            check_outputs(out, companion(out, ".geom"), kinds, force=True)
            session = request.recommended
            by_kind = ByKind.of(run, kinds, session, request.veto, n_runs, jobs=request.jobs)

        def on_part(part: Part) -> None:
            if by_kind is not None:
                by_kind.on_part(part)
            begin_test(part.used.name)
            count("hit rate", part.n_hits, part.n_frames)

        def reduce(resume: bool) -> Reduction:
            return reduce_run(
                run,
                NamedFinder(run.geometry),
                current,
                out,
                jobs=request.jobs,
                virtual=request.virtual,
                resume=resume,
                replace=request.replace or str(out) in {line["hits"] for line in self._done},
                progress=lambda done, hits: self._progress(path, len(run), done, hits),
                kinds=None if by_kind is None else by_kind.kinds,
                veto=request.veto,
                on_part=on_part,
            )

        try:
            reduction = reduce(resume=True)
        except OtherInputs:  # the file has changed since a watch was stopped in the middle of it
            reduction = reduce(resume=False)
        # Before a sample is indexed, which may take long: a watch that is killed then has learnt.
        of_kinds = [] if by_kind is None else by_kind.finish(kinds)
        check = None
        if self._cell is not None and self._indexer is not None and request.n_sample:
            last = reduction.sets[-1]
            begin_test(last.name)
            frames, _ = sample_frames(run, request.n_sample, seed=0)
            check = check_veto(
                run, last.settings, self._cell, self._indexer, frames, jobs=request.jobs
            )
            count("indexing rate", check.n_kept, check.n_frames)
        for sentence in of_kinds:
            alarms.append(sentence)
            self._say(f"{path.name}: {sentence}")
        return {
            "file": str(path.absolute()),
            "size": size,
            "mtime_ns": changed,
            **_summary(reduction, check),
            "n_tests": watch.n_tests - n_tests,
            "alarms": alarms,
        }

    def _output(self, path: Path) -> Path:
        """Return where a run's hits go: in the same folders as the run, under its whole name.

        So no two runs have the same, and each tells its run.
        """
        inside = path.relative_to(self._request.folder)
        out = self._request.out / inside.parent / f"{inside.name}{HITS}"
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {out.parent} cannot be made: {error.strerror}") from error
        return out

    def _read_journal(self) -> list[dict[str, Any]]:
        if not self._journal.exists():
            return []
        remedy = "mend that line, or choose another folder for the hits"
        lines = read_json_lines(self._journal, _Line, "the journal", remedy, mend=True)
        return [dict(line) for line in lines]


class _Line(TypedDict):
    """Of the journal: a run that was reduced."""

    file: str
    size: int
    mtime_ns: int
    hits: str
    n_frames: Count
    n_unreadable: Count
    n_hits: Count
    sets: list[dict[str, Any]]
    sample: dict[str, Any] | None
    n_tests: Count
    alarms: list[str]


def _signature(path: Path) -> _Signature:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _summary(reduction: Reduction, check: VetoCheck | None) -> dict[str, Any]:
    return {
        "hits": str(reduction.hits),
        "n_frames": reduction.n_frames,
        "n_unreadable": len(reduction.unreadable),
        "n_hits": reduction.n_hits,
        "sets": [used.as_dict() for used in reduction.sets],
        "sample": None if check is None else asdict(check),
    }
