"""What a comparison has measured so far, on disk, so that it can be stopped and resumed.

A directory holds ``asked.json`` (what was asked) and, until the comparison is finished,
``unfinished/``: the regrets of the families, and every evaluation on frames. Searches are
repeatable, so those evaluations lead a resumed one to where the stopped one was.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from envs.evaluation import Evaluation, Evaluator
from envs.look import FrameLook, LatticeCounts, Looks
from tuner.comparison.results import Results, read_results, write_results
from wrappers.errors import InputError
from wrappers.files import append_line, write_whole
from wrappers.outputs import require_new_folder
from wrappers.schema import read_json, read_json_lines
from wrappers.settings import Settings

__all__ = ["ComparisonStore", "Recorded", "RecordedLooks"]

SECONDS_BETWEEN_SAVES = 20.0


class ComparisonStore:
    """Where a comparison goes.

    Parameters
    ----------
    directory : Path or None
        None keeps nothing.
    asked : str
        For ``asked.json``.

    Attributes
    ----------
    results : dict of str to Results
        By family; to be filled in place.
    """

    def __init__(self, directory: Path | None, asked: str = "") -> None:
        self.directory = directory
        self.results: dict[str, Results] = {}
        self._asked = asked
        self._saved = -math.inf

    @classmethod
    def open(
        cls, directory: Path | None, asked: Mapping[str, Any], *, resume: bool
    ) -> ComparisonStore:
        """Begin a comparison in a new or empty directory, or go on with an unfinished one.

        Parameters
        ----------
        directory : Path or None
        asked : mapping
            All that the figures depend on; plain values.
        resume : bool

        Raises
        ------
        InputError
            If the directory cannot be written, holds another comparison, or none to go on with.
        """
        if directory is None:
            if resume:
                raise InputError("--resume needs the directory to go on with: name it with -o")
            return cls(None)
        path, text = directory / "asked.json", json.dumps(asked, indent=1) + "\n"
        if (directory / "comparison.json").exists():
            raise InputError(f"{directory} holds a finished comparison: name another directory")
        if path.exists() and not resume:
            raise InputError(
                f"{directory} holds an unfinished comparison: add --resume to go on with it, or "
                "name another directory"
            )
        if resume and not path.exists():
            raise InputError(
                f"{directory} holds no comparison to go on with: leave --resume out, or name "
                "another directory"
            )
        _make_writable(directory)
        if not resume:
            require_new_folder(directory, "comparison.md", "results.npz", "unfinished")
        store = cls(directory, text)
        if resume:
            _check(directory, path, json.loads(text))
            store.results = read_results(directory / "unfinished" / "results.npz")
        return store

    @property
    def begun(self) -> bool:
        """Whether there is something on disk to go on with."""
        return self.directory is not None and (self.directory / "unfinished").exists()

    def keep(self, *, now: bool = False) -> None:
        """Write the results, if the last time is a while ago or `now`; call it after each."""
        late = time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES
        if self.directory is not None and self.results and (now or late):
            write_results(self._begun(self.directory) / "results.npz", self.results)
            self._saved = time.monotonic()

    def recorded(self, evaluator: Evaluator, name: str) -> Recorded:
        """Return the evaluator with a record of what it has measured; `name` is that of a file."""
        directory = self.directory
        path = None if directory is None else self._begun(directory) / f"{name}.jsonl"
        if isinstance(evaluator, Looks):
            return RecordedLooks(evaluator, path)
        return Recorded(evaluator, path)

    def finish(self) -> None:
        """Forget what was only kept to go on with."""
        if self.directory is not None:
            shutil.rmtree(self.directory / "unfinished", ignore_errors=True)

    def _begun(self, directory: Path) -> Path:
        """Return where unfinished work goes; a directory is only taken once there is some."""
        if not (directory / "asked.json").exists():
            write_whole(directory / "asked.json", self._asked)
        (directory / "unfinished").mkdir(exist_ok=True)
        return directory / "unfinished"


class Recorded:
    """An evaluator that measures nothing twice, and appends what it measures to a file.

    Parameters
    ----------
    evaluator : Evaluator
    path : Path, optional
        Without it the record is kept in memory only. A last line that was left half-written is
        measured anew.

    Raises
    ------
    InputError
        If the record is damaged.
    """

    def __init__(self, evaluator: Evaluator, path: Path | None = None) -> None:
        self._evaluator, self._path = evaluator, path
        self._known: dict[tuple[Settings, int], Evaluation] = {}
        if path is None or not path.exists():
            return
        for found in read_json_lines(
            path, Evaluation, "the record of evaluations", "delete the line", mend=True
        ):
            self._known[found.settings, found.n_frames] = found

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        return self._evaluator.n_frames

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what the parameter set gives on the first `n_frames` frames, or on all."""
        n = self.n_frames if n_frames is None else min(n_frames, self.n_frames)
        if (settings, n) not in self._known:
            found = self._evaluator.evaluate(settings, n)
            self._known[settings, n] = found
            if self._path is not None:
                append_line(self._path, json.dumps(found.as_dict()))
        return self._known[settings, n]


class _LookingEvaluator(Evaluator, Looks, Protocol):
    """An evaluator that looks at its frames."""


class RecordedLooks(Recorded):
    """The same of an evaluator that looks at its frames, which it does anew where it is asked.

    Parameters
    ----------
    evaluator : Evaluator
        That can look at its frames.
    path : Path, optional
    """

    def __init__(self, evaluator: _LookingEvaluator, path: Path | None = None) -> None:
        super().__init__(evaluator, path)
        self._looks = evaluator

    @property
    def embedded(self) -> bool:
        """Whether it indexes with the embedded indexer."""
        return self._looks.embedded

    @property
    def primitive_volume(self) -> float:
        """Of the cell whose lattices are sought, in Å³."""
        return self._looks.primitive_volume

    def look(self, settings: Sequence[Settings]) -> FrameLook:
        """Return the peak counts of the sample."""
        return self._looks.look(settings)

    def lattice_counts(
        self, measured: Settings, settings: Sequence[Settings], frames: Sequence[int] | None = None
    ) -> LatticeCounts:
        """Return how many peaks of each set are on the lattices that `measured` leads to."""
        return self._looks.lattice_counts(measured, settings, frames)


def _make_writable(directory: Path) -> None:
    """Make the directory, or raise InputError where nothing could be written in it."""
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file: name a directory with -o")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{directory} cannot be written ({error.strerror}): choose another place"
        ) from None
    if not os.access(directory, os.W_OK):
        raise InputError(f"{directory} may not be written: choose another place")


def _check(directory: Path, path: Path, asked: Mapping[str, Any]) -> None:
    """Raise InputError where the directory was begun with something else."""
    begun = read_json(path, dict[str, Any], "the comparison", "name another directory")
    differing = [name for name in {**begun, **asked} if begun.get(name) != asked.get(name)]
    if differing:
        raise InputError(
            f"the comparison in {directory} was begun with other {', '.join(differing)}: give "
            "the same again, or name another directory"
        )
