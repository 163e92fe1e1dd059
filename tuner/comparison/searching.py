"""One method on one task: what it tries, and what it would recommend on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import ParameterSpace
from tuner.agent.searcher import AgentSearcher
from tuner.comparison.methods import METHODS, Kit
from tuner.comparison.statistics import net_rate
from tuner.searchers import Searcher
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = ["Searched", "run_method", "run_searcher"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Searched:
    """One method on one task.

    Attributes
    ----------
    settings : list of Settings
        What was evaluated, in order.
    picks : list of int
        After each evaluation, the place in `settings` of what the method would recommend.
    seconds : float array (budget,)
        That the method took to come up with each, without the evaluation.
    """

    settings: list[Settings]
    picks: list[int]
    seconds: Array

    def recommended(self) -> list[Settings]:
        """Return the settings that the method would recommend after each evaluation."""
        return [self.settings[pick] for pick in self.picks]


def run_method(
    name: str, evaluator: Evaluator, space: ParameterSpace, kit: Kit, *, budget: int, seed: int
) -> Searched:
    """Let a method of `METHODS` spend the budget.

    Settings that were evaluated before cost one of the budget, but are not measured anew: the
    frames are the same, so the answer is.
    """
    make = METHODS[name]
    if make is not None:
        return run_searcher(make(space, seed, budget, kit), evaluator, space, budget=budget)
    base = space.base
    defaults = CRYSTFEL_DEFAULTS.replace(clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y)
    return Searched([defaults] * budget, [0] * budget, np.zeros(budget))


def run_searcher(
    searcher: Searcher, evaluator: Evaluator, space: ParameterSpace, *, budget: int
) -> Searched:
    """Let a searcher spend the budget; see `run_method`.

    The agent's selector says what it recommends; of other searches it is the highest net rate.
    """
    known: dict[Settings, Evaluation] = {}
    settings, merits, picks, seconds = [], [], [], []
    for _ in range(budget):
        started = time.perf_counter()
        values = searcher.suggest()
        suggested = time.perf_counter()
        tried = space.settings(values)
        if tried not in known:
            known[tried] = evaluator.evaluate(tried)
        evaluated = time.perf_counter()
        settings.append(tried)
        merits.append(net_rate(known[tried]))
        searcher.ingest(values, merits[-1], known[tried])
        if isinstance(searcher, AgentSearcher):
            picks.append(searcher.favourite())
        else:
            picks.append(int(np.argmax(merits)))
        seconds.append(suggested - started + time.perf_counter() - evaluated)
    return Searched(settings, picks, np.array(seconds))
