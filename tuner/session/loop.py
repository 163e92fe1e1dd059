"""A tuning session: what is measured, in which order, and what comes of it.

Every decision follows from the trials measured so far, so a resumed session goes on as if it
had not been stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from envs.evaluation import Evaluation, Evaluator
from envs.geometry_rule import near_geometry
from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import ParameterSpace
from tuner.agent.policy import Policy
from tuner.search.contract import SearcherKind, SearchTask
from tuner.searchers import SEARCHERS
from tuner.session.initial_design import baseline, next_initial
from tuner.session.proposals import Proposals
from tuner.session.racing import INDIFFERENCE, Race, separated
from tuner.session.store import Log
from tuner.session.trial import Trial, tuning_trials
from wrappers.errors import ProgramError
from wrappers.settings import Settings

__all__ = ["Budget", "Outcome", "run_session"]

FAILURES_TO_END = 2
"""Evaluations in a row that fail as a whole before a session ends."""


@dataclass(frozen=True)
class Budget:
    """When a session has spent enough.

    Attributes
    ----------
    evaluations : int or None
        Evaluations on the tuning sample, the initial design included.
    minutes : float or None
        Wall time, over all resumptions.
    """

    evaluations: int | None = None
    minutes: float | None = None

    def left(self, evaluations: int, seconds: float) -> bool:
        """Whether there is any left when so much has been spent."""
        if self.evaluations is not None and evaluations >= self.evaluations:
            return False
        return self.minutes is None or seconds < 60 * self.minutes


@dataclass(frozen=True)
class Outcome:
    """The recommended parameter set and CrystFEL's defaults, measured on the same frames.

    Attributes
    ----------
    best, baseline : Evaluation
    on_fresh_frames : bool
        Whether those were kept out of the search.
    ended_by_failure : str
        What kept the session from going on with its budget, or "".
    choice : str
        Why it is not the trial with the highest merit that is recommended, or "".
    """

    best: Evaluation
    baseline: Evaluation
    on_fresh_frames: bool
    ended_by_failure: str = ""
    choice: str = ""


def run_session(
    log: Log,
    evaluator: Evaluator,
    space: ParameterSpace,
    *,
    searcher: str | SearcherKind,
    budget: Budget,
    seed: int,
    merit: Merit = USUAL_MERIT,
    race: Race = Race(),  # noqa: B008 (frozen)
    fresh: Evaluator | None = None,
    stop_early: bool = False,
    policy: Policy | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_proposal: Callable[[float], None] = lambda seconds: None,
) -> Outcome | None:
    """Spend the budget; return what to recommend, or None if nothing was ever indexed.

    Every evaluation is in the log before the next begins, so an interruption loses only
    the one under way. After the budget the winner is measured once more at the geometry that
    the lattices fix and, where there are fresh frames, it and the baseline on those: the best of
    many noisy rates flatters itself.

    An evaluation that fails as a whole is tried once more, then recorded as failed. After two
    of those in a row, or one when the winner is measured again, the session ends with what it has:
    its best trial at the geometry that the lattices fix, if that is as good as any.

    Parameters
    ----------
    log : Log
        New, or of an interrupted session.
    evaluator : Evaluator
        On the tuning sample.
    space : ParameterSpace
    searcher : str or SearcherKind
        Its name in `tuner.searchers.SEARCHERS`, or one that is not registered.
    budget : Budget
    seed : int
        Of the searcher.
    merit : Merit
        What is maximised.
    race : Race
        Decides when a candidate is dropped before it has seen every frame.
    fresh : Evaluator, optional
        On frames that the tuning sample does not have.
    stop_early : bool
        End before the budget is spent, once the winner is `racing.separated` from the rest.
    policy : Policy, optional
        For a searcher that takes one; the shipped one by default.
    on_trial : callable
        Called with each new trial.
    on_proposal : callable
        Called before each new trial of the search with the seconds that its proposal took.

    Raises
    ------
    InputError
        If the searcher is not known, or the policy was trained for another merit.
    ProgramError
        If the indexer cannot be run, and nothing indexed was measured before.
    """
    kind = SEARCHERS.get(searcher) if isinstance(searcher, str) else searcher
    # The first evaluation, of CrystFEL's defaults, is not the searcher's.
    proposed = budget.evaluations and max(budget.evaluations - 1, 1)
    proposals = Proposals(kind, SearchTask(space, seed, proposed, merit, policy))

    def add(stage: str, evaluation: Evaluation, reason: str = "") -> None:
        number = len(log.trials)
        best: Trial | None = Trial(number, stage, evaluation)
        if stage == "fresh":
            best = log.trials[log.trials[-1].best]
        elif stage != "confirm" and best is not None:
            best = proposals.best([*tuning_trials(log.trials), best])
        trial = Trial(number, stage, evaluation, reason, -1 if best is None else best.number)
        log.add(trial)
        on_trial(trial)

    def measure(stage: str, settings: Settings, by: Evaluator) -> Evaluation:
        """Evaluate, unless that was done already."""
        for trial in log.trials:
            same_frames = (trial.stage == "fresh") == (stage == "fresh")
            whole = trial.evaluation.n_frames == by.n_frames
            if same_frames and whole and trial.evaluation.settings == settings:
                return trial.evaluation
        evaluation = _attempt(lambda: by.evaluate(settings), settings)
        if evaluation.failure:
            raise ProgramError(evaluation.failure)
        add(stage, evaluation)
        return evaluation

    def next_move(tuning: Sequence[Trial], best: Trial | None) -> tuple[str, Settings] | None:
        if not tuning:
            return "baseline", baseline(space)
        if not kind.starts_itself:
            initial = next_initial(tuning, space, best, proposals.fixed(tuning))
            if initial is not None:
                return initial
        started = time.perf_counter()
        settings = proposals.propose(tuning)
        on_proposal(time.perf_counter() - started)
        return None if settings is None else ("search", settings)

    tuning = tuning_trials(log.trials)
    proposals.replay(tuning)
    earlier = sum(trial.evaluation.seconds for trial in log.trials)
    started = time.perf_counter()
    broken = ""
    while budget.left(len(tuning), earlier + time.perf_counter() - started):
        best = proposals.best(tuning)
        if stop_early and best is not None and separated(best, tuning):
            break
        move = next_move(tuning, best)
        if move is None:
            break
        stage, settings = move
        incumbent = None if best is None else best.evaluation
        evaluation = _attempt(lambda: race.run(evaluator, settings, incumbent), settings)  # noqa: B023
        if evaluation.failure and not tuning:
            raise ProgramError(evaluation.failure)
        add(stage, evaluation, proposals.reason if stage == "search" else "")
        tuning = tuning_trials(log.trials)
        n_failures = _failures_at_the_end(tuning)
        if n_failures and n_failures % FAILURES_TO_END == 0:
            broken = evaluation.failure
            break
    return _conclude(tuning, proposals, space, merit, evaluator, fresh, measure, broken)


def _failures_at_the_end(trials: Sequence[Trial]) -> int:
    """Return how many of the last evaluations in a row failed as a whole."""
    good = [n for n, trial in enumerate(trials) if not trial.evaluation.failure]
    return len(trials) - 1 - max(good, default=-1)


def _conclude(
    tuning: Sequence[Trial],
    proposals: Proposals,
    space: ParameterSpace,
    merit: Merit,
    evaluator: Evaluator,
    fresh: Evaluator | None,
    measure: Callable[[str, Settings, Evaluator], Evaluation],
    broken: str,
) -> Outcome | None:
    """Measure the winner at the geometry that the lattices fix, and on fresh frames."""
    winner = proposals.best(tuning)
    if winner is None:
        if broken:
            raise ProgramError(broken)
        return None
    best, first = winner.evaluation, tuning[0].evaluation
    choice = _passed_over(winner, proposals.highest(tuning), merit)
    fixed = proposals.fixed(tuning)
    if not broken:
        try:
            if not near_geometry(best.settings, fixed, space, resolutions=1):
                best = measure("confirm", best.settings.replace(**fixed), evaluator)
            if fresh is None:
                return Outcome(best, first, False, choice=choice)
            fresh_first = measure("fresh", first.settings, fresh)
            best = measure("fresh", best.settings, fresh)
            return Outcome(best, fresh_first, True, choice=choice)
        except ProgramError as error:
            broken = str(error)
    if not near_geometry(best.settings, fixed, space, resolutions=1):
        best, remark = _best_measured(winner, tuning, fixed, space, proposals, merit)
        broken += remark
    return Outcome(best, first, False, broken, choice)


def _passed_over(winner: Trial, highest: Trial | None, merit: Merit) -> str:
    if highest is None or merit(highest.evaluation) <= merit(winner.evaluation):
        return ""
    better, taken = (
        f"trial {trial.number} ({trial.evaluation.n_indexed} frames indexed, "
        f"{trial.evaluation.n_hits - trial.evaluation.n_indexed} hits not indexed)"
        for trial in (highest, winner)
    )
    return (
        f"{better} measured better than {taken}, which may be luck: from all that was measured, "
        "the agent's selector expects more of the latter"
    )


def _best_measured(
    winner: Trial,
    tuning: Sequence[Trial],
    fixed: Mapping[str, float],
    space: ParameterSpace,
    proposals: Proposals,
    merit: Merit,
) -> tuple[Evaluation, str]:
    """Return what to recommend where nothing can be measured any more, and a remark on it.

    It is the best trial at the geometry that the lattices fix, if that is as good as the winner.
    """
    near = [
        trial
        for trial in tuning
        if trial.evaluation.n_frames == winner.evaluation.n_frames
        and near_geometry(trial.evaluation.settings, fixed, space, resolutions=1)
    ]
    other = proposals.highest(near)
    if other is not None and merit(other.evaluation) > merit(winner.evaluation) - INDIFFERENCE:
        return other.evaluation, ""
    wanted = " and ".join(f"{name} = {value:.6g} m" for name, value in fixed.items())
    return winner.evaluation, f"; the lattices fix {wanted}, which was not measured"


def _attempt(measure: Callable[[], Evaluation], settings: Settings) -> Evaluation:
    """Measure, a second time if need be; what fails twice is an outcome, too."""
    with suppress(ProgramError):
        return measure()
    try:
        return measure()
    except ProgramError as error:
        return Evaluation(settings, (), failure=str(error))
