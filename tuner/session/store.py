"""What a session has measured, on disk, so that it can be stopped and resumed.

A session directory holds ``session.json`` (what was asked), ``evaluations.jsonl`` (one line
a trial, with the outcome of every frame) and ``trials.csv`` (the same for people). All are
plain text: resuming runs no code that a file was made to carry.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from envs.evaluation import Evaluation
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.settings import with_current_names

__all__ = ["SessionStore", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One evaluation of a session.

    Attributes
    ----------
    number : int
        From 0, in order.
    stage : str
        Why it was made: "baseline", "start", "look", "geometry", "portfolio",
        "search", "confirm" or "fresh".
    evaluation : Evaluation
    reason : str
        Why these settings, in words, where the searcher can say it.
    """

    number: int
    stage: str
    evaluation: Evaluation
    reason: str = ""


class SessionStore:
    """The directory of one session.

    Parameters
    ----------
    directory : Path

    Attributes
    ----------
    config : dict
        What the session was asked to do; plain values.
    trials : list of Trial
        All that was measured so far.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any], trials: list[Trial]) -> None:
        self.directory = directory
        self.config = dict(config)
        self.trials = trials

    @classmethod
    def create(cls, directory: Path, config: Mapping[str, Any]) -> SessionStore:
        """Begin a session in a new or empty directory.

        Raises
        ------
        InputError
            If the directory holds a session already, or cannot be made.
        """
        if (directory / "session.json").exists():
            raise InputError(
                f"{directory} holds a session already: add --resume to go on with it, or name "
                "another directory"
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            write_whole(directory / "session.json", json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"cannot write to {directory}: {error.strerror}") from error
        return cls(directory, config, [])

    @classmethod
    def open(cls, directory: Path) -> SessionStore:
        """Open an existing session.

        A last line that a killed session left half-written is dropped.

        Raises
        ------
        InputError
            If there is no session, or its files are damaged.
        """
        path = directory / "session.json"
        try:
            config = with_current_names(json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise InputError(f"{directory} holds no session: {path} does not exist") from error
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{path} cannot be read as a session: {error}") from error
        log = directory / "evaluations.jsonl"
        trials = []
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        complete = [line for line in lines if line.endswith("\n")]
        for line in complete:
            try:
                fields = json.loads(line)
                trials.append(
                    Trial(
                        int(fields["number"]),
                        str(fields["stage"]),
                        Evaluation.from_dict(fields["evaluation"]),
                        str(fields.get("reason", "")),
                    )
                )
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{log}, line {len(trials) + 1} is damaged: {error}") from error
        if len(complete) < len(lines):
            write_whole(log, "".join(complete))
        return cls(directory, config, trials)

    def add(self, stage: str, evaluation: Evaluation, reason: str = "") -> Trial:
        """Record one more evaluation; it is on disk when this returns."""
        trial = Trial(len(self.trials), stage, evaluation, reason)
        fields = {"number": trial.number, "stage": stage, "evaluation": evaluation.as_dict()}
        line = json.dumps(fields | ({"reason": reason} if reason else {}))
        with (self.directory / "evaluations.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.trials.append(trial)
        write_whole(self.directory / "trials.csv", self.table().to_csv(index=False))
        return trial

    def table(self) -> pd.DataFrame:
        """Return one row a trial: settings, counts, rates and diagnostics."""
        return pd.DataFrame([_row(trial) for trial in self.trials])


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
