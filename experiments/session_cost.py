"""What a session spends, evaluation by evaluation: for studies of what tuning costs."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.session.trial import Trial
from tuner.tuning import tune
from wrappers.files import write_whole
from wrappers.workers.processor_time import processor_seconds

__all__ = ["Spent", "spent_by"]


@dataclass(frozen=True)
class Spent:
    """What a session had spent when each of its trials was done.

    Attributes
    ----------
    trials : list of Trial
    core_seconds, seconds : list of float
        From its beginning on, without what the study itself did meanwhile; of a session that went
        to its end, the whole is one more.
    """

    trials: list[Trial]
    core_seconds: list[float]
    seconds: list[float]


class _CloseEnough(Exception):
    """Ends a session that has nothing more to show."""


def spent_by(
    request: Request,
    directory: Path,
    evaluations: int,
    jobs: int,
    enough: Callable[[Trial], bool],
) -> Spent:
    """Run a session until a trial's winner is good enough, or return what an earlier one spent.

    A session that was interrupted is begun anew: what it had spent is not known.
    """
    record = directory.with_suffix(".json")
    if not record.exists():
        shutil.rmtree(directory, ignore_errors=True)
        trials: list[Trial] = []
        cores: list[float] = []
        walls: list[float] = []
        ours = [0.0, 0.0]
        began = processor_seconds(), time.perf_counter()

        def on_trial(trial: Trial) -> None:
            now = processor_seconds(), time.perf_counter()
            cores.append(now[0] - began[0] - ours[0])
            walls.append(now[1] - began[1] - ours[1])
            trials.append(trial)
            winner = trials[max(trial.best, 0)]
            if trial.stage not in ("confirm", "fresh") and enough(winner):
                raise _CloseEnough
            ours[0] += processor_seconds() - now[0]
            ours[1] += time.perf_counter() - now[1]

        with contextlib.suppress(_CloseEnough):
            tune(request, directory, budget=Budget(evaluations), jobs=jobs, on_trial=on_trial)
            # Its last checks and its report.
            cores.append(processor_seconds() - began[0] - ours[0])
            walls.append(time.perf_counter() - began[1] - ours[1])
        write_whole(record, json.dumps({"core_seconds": cores, "seconds": walls}) + "\n")
    known = json.loads(record.read_text())
    return Spent(SessionStore.open(directory).trials, known["core_seconds"], known["seconds"])
