"""What a session has measured, in memory or on disk, so that it can be stopped and resumed.

A session directory holds ``session.json`` (what was asked), ``evaluations.jsonl`` (one line
a trial, with the outcome of every frame) and ``trials.csv`` (the same for people). All are
plain text: resuming runs no code that a file was made to carry.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tuner.session.choice import with_best
from tuner.session.config import REMEDY, FoundGeometry, SessionConfig
from tuner.session.ownership import OWNER
from tuner.session.trial import FORMER_BEST, Trial
from wrappers.errors import InputError
from wrappers.files import append_line, write_whole
from wrappers.outputs import require_new_folder
from wrappers.schema import read_json_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BAD_PIXELS",
    "FOUND_CELL",
    "RECORDED",
    "SECOND_CELL",
    "Log",
    "MemoryLog",
    "SessionStore",
    "require_folder_for_session",
    "trial_table",
]

FILES = (
    *("evaluations.jsonl", "trials.csv", "recommended.toml", "report.html"),
    *("bad_pixels.h5", "indexed", "nothing_to_recommend.txt", "look.npz", "sample.json", "map.npz"),
    *("residuals.json", "second.cell", "kinds.json", "kinds.npz"),
)
"""What a session writes into its directory, beside ``session.json``."""


BAD_PIXELS = "bad_pixels.h5"
"""In a session's directory: the map that its settings' masks are made of."""

RECORDED = ("frames.cxi", "frames.cxi.geom", "frames.cxi.mask.h5")
"""In a session's directory: the frames that it took from a stream, their geometry, its mask."""

FOUND_CELL = "found.cell"
"""In a session's directory: the cell that was found, where none was given."""


SECOND_CELL = "second.cell"
"""In a session's directory: the cell of a second crystal form, where there is one."""


def require_folder_for_session(directory: Path) -> None:
    """Refuse a directory that holds anything else: nobody could tell whose files are whose.

    Raises
    ------
    InputError
        If it does, or cannot be made.
    """
    if (directory / "session.json").exists():
        raise InputError(
            f"{directory} holds a session already: add --resume to go on with it, or name "
            "another directory"
        )
    require_new_folder(directory, *FILES)
    for path in directory.iterdir():
        if path.name not in (OWNER, FOUND_CELL, *RECORDED) and not path.name.startswith("."):
            raise InputError(
                f"{directory} holds other files already, such as {path.name}: name a new "
                "directory for the session"
            )


class Log(Protocol):
    """Where a session keeps its trials."""

    @property
    def trials(self) -> Sequence[Trial]:
        """All that was measured so far, in order."""
        ...

    def add(self, trial: Trial) -> None:
        """Keep one more trial, whose number is that of the trials before it."""
        ...


class MemoryLog:
    """A session's trials in memory.

    Attributes
    ----------
    trials : list of Trial
    """

    def __init__(self, trials: Sequence[Trial] = ()) -> None:
        self.trials = list(trials)

    def add(self, trial: Trial) -> None:
        """Keep one more trial."""
        self.trials.append(trial)


class SessionStore:
    """The directory of one session.

    Parameters
    ----------
    directory : Path

    Attributes
    ----------
    config : SessionConfig
        What the session was asked to do.
    trials : list of Trial
        All that was measured so far.
    """

    def __init__(self, directory: Path, config: SessionConfig, trials: Sequence[Trial]) -> None:
        self.directory = directory
        self.config = config
        self.trials = list(trials)

    @classmethod
    def create(cls, directory: Path, config: SessionConfig) -> SessionStore:
        """Begin a session in a new or empty directory.

        Raises
        ------
        InputError
            If the directory holds a session, or anything else, or cannot be made.
        """
        require_folder_for_session(directory)
        store = cls(directory, config, [])
        store._write_config()
        return store

    @classmethod
    def begun(cls, directory: Path, config: SessionConfig, *, resume: bool) -> SessionStore:
        """Begin a session, or go on with the one in a directory, which must have asked the same.

        Raises
        ------
        InputError
            As `create` and `open` do, and if what is to be resumed was begun with something else.
        """
        if not resume:
            return cls.create(directory, config)
        store = cls.open(directory, mend=True)
        store.config.refuse_other(config, directory)
        return store

    @classmethod
    def open(cls, directory: Path, *, mend: bool = False) -> SessionStore:
        """Open an existing session.

        A last line that is not whole is left out: a session was killed while it wrote it, or is
        writing it. `mend` drops it from the file, too, which is for the session's owner to do.

        Raises
        ------
        InputError
            If there is no session, or its files are damaged.
        """
        config = SessionConfig.read(directory / "session.json")
        log = directory / "evaluations.jsonl"
        trials: list[Trial] = []
        if log.exists():
            trials = read_json_lines(log, Trial, "the session's record", REMEDY, mend=mend)
        for number, trial in enumerate(trials):
            if trial.number != number or not FORMER_BEST <= trial.best <= number:
                raise InputError(
                    f"{log}, line {number + 1} is damaged: it is of trial {trial.number}, and the "
                    f"best so far is {trial.best}; {REMEDY}"
                )
        if any(trial.best == FORMER_BEST for trial in trials):
            trials = with_best(trials, config.tuned, config.merit)
        return cls(directory, config, trials)

    def keep(self, found: FoundGeometry) -> None:
        """Record where the frames put the detector."""
        self.config = replace(self.config, found_geometry=found)
        self._write_config()

    def _write_config(self) -> None:
        text = json.dumps(self.config.as_dict(), indent=2) + "\n"
        write_whole(self.directory / "session.json", text)

    def add(self, trial: Trial) -> None:
        """Record one more trial; it is on disk when this returns."""
        fields = {
            "number": trial.number,
            "stage": trial.stage,
            "evaluation": trial.evaluation.as_dict(),
            "best": trial.best,
            **({"reason": trial.reason} if trial.reason else {}),
        }
        append_line(self.directory / "evaluations.jsonl", json.dumps(fields))
        self.trials.append(trial)
        write_whole(self.directory / "trials.csv", _as_csv(self.trials))

    def table(self) -> pd.DataFrame:
        """Return one row a trial: parameter set, counts, rates and diagnostics."""
        return trial_table(self.trials)


def trial_table(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row a trial: parameter set, counts, rates and diagnostics."""
    import pandas as pd  # takes a while to import

    return pd.DataFrame([_row(trial) for trial in trials])


def _as_csv(trials: Sequence[Trial]) -> str:
    """Return `trial_table` as text, by hand: a session has no other use for pandas."""
    rows = [_row(trial) for trial in trials]
    text = io.StringIO()
    # Peak finders have settings of their own, and a baseline may be of another one.
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = [row.get(name) for name in names]
        writer.writerow(["" if _is_missing(value) else value for value in values])
    return text.getvalue()


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _row(trial: Trial) -> dict[str, Any]:
    evaluation = trial.evaluation
    low, high = evaluation.ci95
    return {
        "trial": trial.number,
        "stage": trial.stage,
        **evaluation.settings.as_dict(),
        "n_frames": evaluation.n_frames,
        "n_hits": evaluation.n_hits,
        "n_indexed": evaluation.n_indexed,
        "n_failed": evaluation.n_failed,
        "n_cut": evaluation.n_cut,
        "indexing_rate": evaluation.rate,
        "ci95_low": low,
        "ci95_high": high,
        "false_rate": evaluation.false_rate,
        "explained": evaluation.explained,
        "residual_px": evaluation.residual,
        "cell_scale_deviation": evaluation.scale_deviation,
        **{
            f"{name}_{what}": number
            for name in ("clen", "shift_x", "shift_y")
            for what, number in zip(
                ("refined", "se"), evaluation.refined.get(name, (math.nan, math.nan)), strict=True
            )
        },
        "seconds": evaluation.seconds,
        "core_seconds": evaluation.core_seconds,
        "failure": evaluation.failure,
        "reason": trial.reason,
    }
