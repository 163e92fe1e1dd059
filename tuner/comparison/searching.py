"""One method on one task: the session that a user would get, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluator
from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import ParameterSpace
from tuner.map_agent.policy import MapPolicy
from tuner.search.contract import SearcherKind
from tuner.session.budget import Budget
from tuner.session.choice import recommended_settings
from tuner.session.loop import run_session
from tuner.session.store import MemoryLog
from tuner.session.trial import Trial, tuning_trials
from wrappers.settings import Settings

__all__ = ["Searched", "run_method"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Searched:
    """One method on one task.

    Attributes
    ----------
    trials : list of Trial
        What was evaluated within the budget, in order.
    recommended : list of Settings
        After each evaluation, what the session would recommend if it ended there; as many as the
        budget has, where it is their number.
    seconds : float array (budget,)
        That the method took to come up with each, without the evaluation.
    """

    trials: list[Trial]
    recommended: list[Settings]
    seconds: Array


def run_method(
    searcher: str | SearcherKind,
    evaluator: Evaluator,
    space: ParameterSpace,
    *,
    budget: int | Budget,
    seed: int,
    policy: MapPolicy | None = None,
    merit: Merit = USUAL_MERIT,
) -> Searched:
    """Run a session with a searcher; one that ends early keeps its recommendation.

    With a `Budget` there are as many recommendations as evaluations.

    Nothing is measured after the budget: neither the winner at the geometry that the lattices fix,
    which is nevertheless recommended, nor fresh frames.
    """
    log = MemoryLog()
    seconds: dict[int, float] = {}

    def on_proposal(spent: float) -> None:
        seconds[len(log.trials)] = spent

    run_session(
        log,
        evaluator,
        space,
        searcher=searcher,
        budget=Budget(budget) if isinstance(budget, int) else budget,
        seed=seed,
        merit=merit,
        policy=policy,
        on_proposal=on_proposal,
    )
    trials = tuning_trials(log.trials)
    if isinstance(budget, int):
        trials = trials[
            :budget
        ]  # a searcher's best of a part of the frames is then measured on all
    recommended = [
        recommended_settings(trials[:k], space, merit) for k in range(1, len(trials) + 1)
    ]
    n = budget if isinstance(budget, int) else len(trials)
    recommended += recommended[-1:] * (n - len(trials))
    return Searched(trials, recommended, np.array([seconds.get(k, 0.0) for k in range(n)]))
