"""A tuning session: what is measured, in which order, and what comes of it.

Every decision follows from the trials measured so far, so a resumed session goes on as if it
had not been stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from envs.evaluation import Evaluation, Evaluator
from envs.geometry_rule import near_geometry
from envs.look import Looks
from envs.objective import USUAL_MERIT, Merit
from envs.parameter_space import ParameterSpace
from tuner.search.contract import Policy, SearcherKind, SearchTask
from tuner.searchers import SEARCHERS
from tuner.session.budget import Budget
from tuner.session.initial_design import convincing, next_initial, opening
from tuner.session.outcome import Outcome
from tuner.session.proposals import Proposals
from tuner.session.racing import INDIFFERENCE, Race
from tuner.session.stopping import why_stop
from tuner.session.store import Log
from tuner.session.trial import Trial, tuning_trials
from wrappers.errors import InputError, ProgramError
from wrappers.settings import Settings

__all__ = ["run_session"]

FAILURES_TO_END = 2
"""Evaluations in a row that fail as a whole before a session ends."""


def run_session(
    log: Log,
    evaluator: Evaluator,
    space: ParameterSpace,
    *,
    searcher: str | SearcherKind,
    budget: Budget,
    seed: int,
    start: Settings | None = None,
    merit: Merit = USUAL_MERIT,
    race: Race = Race(),  # noqa: B008 (frozen)
    fresh: Evaluator | None = None,
    stop_early: bool = False,
    policy: Policy | None = None,
    map_file: Path | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    on_proposal: Callable[[float], None] = lambda seconds: None,
) -> Outcome | None:
    """Spend the budget; return what to recommend, or None if nothing was ever indexed.

    Every evaluation is in the log before the next begins, so an interruption loses only
    the one under way. After the budget the winner is measured once more at the geometry that
    the lattices fix and, where there are fresh frames, it and what it is held against on those:
    the best of many noisy rates flatters itself.

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
    start : Settings, optional
        What is in use today; it is measured first. Without it CrystFEL's defaults are the bar.
    merit : Merit
        What is maximised.
    race : Race
        Decides when a candidate is dropped before it has seen every frame.
    fresh : Evaluator, optional
        On frames that the tuning sample does not have.
    stop_early : bool
        End before the budget is spent, once there is nothing to gain; see `stopping.why_stop`.
    policy : Policy, optional
        For a searcher that takes one; the shipped one by default.
    map_file : Path, optional
        Where the response map is kept, of a searcher that goes by one.
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
    # The first evaluations are not the searcher's.
    first = opening(space, start)
    looks = evaluator if isinstance(evaluator, Looks) else None
    if kind.looks and looks is None:
        raise InputError(
            "this searcher looks at frames, of which there are none where responses were recorded "
            "or are simulated: choose another"
        )
    # How many evaluations a budget of frames is worth, the races decide.
    known = None if budget.frames else budget.evaluations
    proposed = known and max(known - len(first), 1)
    session = _Session(
        log,
        evaluator,
        space,
        Proposals(kind, SearchTask(space, seed, proposed, merit, policy, looks)),
        first=first,
        starts_itself=kind.starts_itself,
        looks=kind.looks,
        merit=merit,
        race=race,
        fresh=fresh,
        map_file=map_file,
        on_trial=on_trial,
        on_proposal=on_proposal,
    )
    return session.conclude(*session.search(budget, stop_early))


@dataclass(frozen=True)
class _Session:
    """A session under way; see `run_session`."""

    log: Log
    evaluator: Evaluator
    space: ParameterSpace
    proposals: Proposals
    first: Sequence[tuple[str, Settings]]
    starts_itself: bool
    looks: bool
    merit: Merit
    race: Race
    fresh: Evaluator | None
    map_file: Path | None
    on_trial: Callable[[Trial], None]
    on_proposal: Callable[[float], None]

    def search(self, budget: Budget, stop_early: bool) -> tuple[str, str]:
        """Spend the budget; return what broke the search, and why it stopped before; each or ""."""
        tuning = tuning_trials(self.log.trials)
        self.proposals.replay(tuning)
        earlier = sum(trial.evaluation.seconds for trial in self.log.trials)
        started = time.perf_counter()
        while budget.left(tuning, earlier + time.perf_counter() - started):
            best = self.proposals.best(tuning)
            ready = len(tuning) >= len(self.first) and self._partly_measured(best) is None
            if stop_early and best is not None and ready:
                enough = why_stop(best, tuning, raced=not self.proposals.chooses_frames)
                if enough:
                    return "", f"{enough} (--whole-budget goes on)"
            move = self._next(tuning, best)
            if move is None:
                return self._complete(tuning), self.proposals.ended
            stage, settings = move
            # What the result is held against is measured on every frame.
            rival = None if best is None or stage == "baseline" else best.evaluation
            some = self.proposals.n_frames if stage == "search" else None
            evaluation = self._measure(settings, rival, some)
            if evaluation.failure and not tuning:
                raise ProgramError(evaluation.failure)
            self._add(stage, evaluation)
            tuning = tuning_trials(self.log.trials)
            n_failures = _failures_at_the_end(tuning)
            if n_failures and n_failures % FAILURES_TO_END == 0:
                return evaluation.failure, ""
        return self._complete(tuning), ""

    def _complete(self, tuning: Sequence[Trial]) -> str:
        """Measure the best on all frames, as long as it was on a part of them; say what broke."""
        asked: set[Settings] = set()
        while (best := self._partly_measured(self.proposals.best(tuning))) is not None:
            if (settings := best.evaluation.settings) in asked:
                break
            asked.add(settings)
            evaluation = _attempt(partial(self.evaluator.evaluate, settings), settings)
            self._add("search", evaluation, reason="the best of a part of the frames, on all")
            if evaluation.failure:
                return evaluation.failure
            tuning = tuning_trials(self.log.trials)
        return ""

    def _partly_measured(self, best: Trial | None) -> Trial | None:
        """Return the best if it was measured on a part of the frames, and its searcher knows."""
        partly = best is not None and best.evaluation.n_frames < self.evaluator.n_frames
        return best if partly and self.proposals.recommends_parts else None

    def _next(self, tuning: Sequence[Trial], best: Trial | None) -> tuple[str, Settings] | None:
        """Return the next stage and parameter set, or None when nothing is left to try."""
        if len(tuning) < len(self.first):
            return self.first[len(tuning)]
        seen = tuning if self._partly_measured(best) else [best] if best else []
        searched = sum(each.stage == "search" for each in tuning) >= self.proposals.patience
        unconvinced = searched and not any(convincing(each.evaluation) for each in seen)
        if not self.starts_itself and (not self.looks or unconvinced):
            initial = next_initial(tuning, self.space, best, self.proposals.fixed(tuning))
            if initial is not None:
                return initial
        settings = self.proposals.propose(tuning)
        self.on_proposal(self.proposals.seconds())
        return None if settings is None else ("search", settings)

    def _measure(
        self, settings: Settings, rival: Evaluation | None, n_frames: int | None
    ) -> Evaluation:
        """Measure settings on some frames, or in a race against what is best so far."""
        if n_frames is not None:
            return _attempt(lambda: self.evaluator.evaluate(settings, n_frames), settings)
        return _attempt(lambda: self.race.run(self.evaluator, settings, rival), settings)

    def _add(self, stage: str, evaluation: Evaluation, reason: str = "") -> None:
        """Put one more trial into the log, with the best so far."""
        number = len(self.log.trials)
        trial = Trial(number, stage, evaluation, reason)
        if stage == "search" and not reason:
            reason = self.proposals.explained([*tuning_trials(self.log.trials), trial])
            trial = replace(trial, reason=reason)
        if stage == "confirm":
            best = number
        elif stage == "fresh":
            best = self.log.trials[-1].best
        else:
            leader = self.proposals.best([*tuning_trials(self.log.trials), trial])
            best = -1 if leader is None else leader.number
        trial = replace(trial, best=best)
        self.log.add(trial)
        if self.map_file is not None and stage not in ("confirm", "fresh"):
            self.proposals.keep_map(tuning_trials(self.log.trials), self.map_file)
        self.on_trial(trial)

    def conclude(self, broken: str, stopped: str) -> Outcome | None:
        """Measure the winner at the geometry that the lattices fix, and on fresh frames.

        Parameters
        ----------
        broken : str
            What ended the search; then nothing more is measured.
        stopped : str
            Why it ended before its budget was spent.
        """
        tuning = tuning_trials(self.log.trials)
        winner = self.proposals.best(tuning)
        if winner is None:
            if broken:
                raise ProgramError(broken)
            return None
        best, bars = winner.evaluation, [trial.evaluation for trial in tuning[: len(self.first)]]
        choice = self._passed_over(winner, self.proposals.highest(tuning))
        fixed = self.proposals.recommended_geometry(tuning, best)

        def outcome(fresh: bool, ended_by: str = "") -> Outcome:
            start = bars[0] if self.first[0][0] == "start" else None
            return Outcome(best, bars[-1], fresh, ended_by, choice, start, stopped)

        if not broken:
            try:
                # A budget of minutes may have ended before all of it was measured.
                bars = [self._measured(*each, self.evaluator) for each in self.first]
                if not near_geometry(best.settings, fixed, self.space, resolutions=1):
                    best = self._measured("confirm", best.settings.replace(**fixed), self.evaluator)
                if self.fresh is None:
                    return outcome(False)
                bars_there = [self._measured("fresh", bar.settings, self.fresh) for bar in bars]
                best, bars = self._measured("fresh", best.settings, self.fresh), bars_there
                return outcome(True)
            except ProgramError as error:
                broken = str(error)
        if not near_geometry(best.settings, fixed, self.space, resolutions=1):
            best, remark = self._best_measured(winner, tuning, fixed)
            broken += remark
        return outcome(False, broken)

    def _measured(self, stage: str, settings: Settings, by: Evaluator) -> Evaluation:
        """Return what an evaluator gives, which may be in the log already."""
        for trial in self.log.trials:
            same_frames = (trial.stage == "fresh") == (stage == "fresh")
            whole = trial.evaluation.n_frames == by.n_frames
            if same_frames and whole and trial.evaluation.settings == settings:
                return trial.evaluation
        evaluation = _attempt(lambda: by.evaluate(settings), settings)
        if evaluation.failure:
            raise ProgramError(evaluation.failure)
        self._add(stage, evaluation)
        return evaluation

    def _passed_over(self, winner: Trial, highest: Trial | None) -> str:
        """Return why the winner is not the trial with the highest merit, or ""."""
        if highest is None or self.merit(highest.evaluation) <= self.merit(winner.evaluation):
            return ""
        better, taken = (
            f"trial {trial.number} ({trial.evaluation.n_indexed} frames indexed, "
            f"{trial.evaluation.n_hits - trial.evaluation.n_indexed} hits not indexed)"
            for trial in (highest, winner)
        )
        return (
            f"{better} measured better than {taken}, which may be luck: from all that was "
            "measured, the searcher expects more of the latter"
        )

    def _best_measured(
        self, winner: Trial, tuning: Sequence[Trial], fixed: Mapping[str, float]
    ) -> tuple[Evaluation, str]:
        """Return what to recommend where nothing can be measured any more, and a remark on it.

        It is the best trial at the geometry that the lattices fix, if that is as good as the
        winner.
        """
        near = [
            trial
            for trial in tuning
            if trial.evaluation.n_frames == winner.evaluation.n_frames
            and near_geometry(trial.evaluation.settings, fixed, self.space, resolutions=1)
        ]
        other, least = self.proposals.highest(near), self.merit(winner.evaluation) - INDIFFERENCE
        if other is not None and self.merit(other.evaluation) > least:
            return other.evaluation, ""
        wanted = " and ".join(f"{name} = {value:.6g} m" for name, value in fixed.items())
        return winner.evaluation, f"; the lattices fix {wanted}, which was not measured"


def _failures_at_the_end(trials: Sequence[Trial]) -> int:
    """Return how many of the last evaluations in a row failed as a whole."""
    good = [n for n, trial in enumerate(trials) if not trial.evaluation.failure]
    return len(trials) - 1 - max(good, default=-1)


def _attempt(measure: Callable[[], Evaluation], settings: Settings) -> Evaluation:
    """Measure, a second time if need be; what fails twice is an outcome, too."""
    with suppress(ProgramError):
        return measure()
    try:
        return measure()
    except ProgramError as error:
        return Evaluation(settings, (), failure=str(error))
