"""A tuning session: what to measure next, and what to recommend in the end.

Every decision follows from the trials measured so far, so a resumed session goes on where
it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from envs import geometry_rule, objective
from envs.evaluation import Evaluation, Evaluator
from envs.parameter_space import ParameterSpace
from tuner.agent.policy import Policy
from tuner.searchers import AGENTS, Searcher, make_searcher
from tuner.session.racing import INDIFFERENCE, Race, separated
from tuner.session.store import SessionStore, Trial
from wrappers.errors import ProgramError
from wrappers.settings import CRYSTFEL_DEFAULTS, Settings

__all__ = [
    "Budget",
    "Outcome",
    "best_trial",
    "merit",
    "recommended_trial",
    "refined_geometry",
    "run_session",
]

WORTH_A_LOOK = 6
"""In resolutions of the parameter: a correction that is measured at once."""

COARSE_CLEN = (0.03, -0.03, 0.05, -0.05, 0.015, -0.015)
"""Relative offsets to look at where nothing indexes: an indexer accepts about ± 2 %."""

PORTFOLIO = ((0.85, 0.3, 2), (0.8, 0.3, 3), (1.2, 0.3, 2))
"""Settings that are often good, tried before any searcher proposes: min_snr and threshold relative
to the base settings', min_pix_count. They are the ridge of CrystFEL's rates on a simulated run."""

FAILURES_TO_END = 2
"""Evaluations in a row that fail as a whole before a session ends."""


@dataclass(frozen=True)
class Budget:
    """When a session has spent enough.

    Attributes
    ----------
    evaluations : int or None
        Evaluations on the tuning sample, the opening looks included.
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
    """The recommended settings and CrystFEL's defaults, measured on the same frames.

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
    store: SessionStore,
    evaluator: Evaluator,
    space: ParameterSpace,
    *,
    searcher: str,
    budget: Budget,
    seed: int,
    race: Race = Race(),  # noqa: B008 (frozen)
    fresh: Evaluator | None = None,
    stop_early: bool = False,
    policy: Policy | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Outcome | None:
    """Spend the budget; return what to recommend, or None if nothing was ever indexed.

    Every evaluation is in the store before the next begins, so an interruption loses only
    the one under way. After the budget the winner is measured once more at the geometry that
    the indexed frames ask for and, where there are fresh frames, it and the baseline on
    those: the best of many noisy rates flatters itself.

    An evaluation that fails as a whole is tried once more, then recorded as failed. After two
    of those in a row, or one when the winner is measured again, the session ends with what it has:
    its best trial at the geometry that the lattices ask for, if that is as good as any.

    Parameters
    ----------
    store : SessionStore
        New, or of an interrupted session.
    evaluator : Evaluator
        On the tuning sample.
    space : ParameterSpace
    searcher : str
        A name in `tuner.searchers.SEARCHERS`.
    budget : Budget
    seed : int
        Of the searcher.
    race : Race
        Decides when a candidate is dropped before it has seen every frame.
    fresh : Evaluator, optional
        On frames that the tuning sample does not have.
    stop_early : bool
        End before the budget is spent, once the winner is `racing.separated` from the rest.
    policy : Policy, optional
        Of the agent, if the searcher is one; the shipped one by default.
    on_trial : callable
        Called with each new trial.

    Raises
    ------
    ProgramError
        If the indexer cannot be run, and nothing indexed was measured before.
    """
    agent = searcher in AGENTS
    search = (
        _AgentSearch(searcher, space, seed, budget.evaluations, policy)
        if agent
        else _Search(searcher, space, seed)
    )

    def measure(stage: str, settings: Settings, by: Evaluator) -> Evaluation:
        """Evaluate, unless that was done already."""
        for trial in store.trials:
            same_frames = (trial.stage == "fresh") == (stage == "fresh")
            whole = trial.evaluation.n_frames == by.n_frames
            if same_frames and whole and trial.evaluation.settings == settings:
                return trial.evaluation
        evaluation = _attempt(lambda: by.evaluate(settings), settings)
        if evaluation.failure:
            raise ProgramError(evaluation.failure)
        on_trial(store.add(stage, evaluation))
        return evaluation

    earlier = sum(trial.evaluation.seconds for trial in store.trials)
    started = time.perf_counter()
    failures = 0
    while budget.left(
        len(tuning := tuning_trials(store.trials)), earlier + time.perf_counter() - started
    ):
        winner = best_trial(tuning, space)
        incumbent = None if winner is None else winner.evaluation
        if stop_early and winner is not None and separated(winner, tuning):
            break
        # The agent needs no looks around, but what it gains is told against the baseline.
        opening = None if agent and tuning else opening_move(tuning, space)
        move = opening or search.move(tuning)
        if move is None:
            break
        evaluation = _attempt(lambda: race.run(evaluator, move[1], incumbent), move[1])  # noqa: B023
        failures = failures + 1 if evaluation.failure else 0
        if evaluation.failure and not tuning:
            raise ProgramError(evaluation.failure)
        on_trial(store.add(move[0], evaluation, "" if opening else search.reason))
        if failures == FAILURES_TO_END:
            break

    tuning = tuning_trials(store.trials)
    winner = recommended_trial(tuning, space, searcher, policy)
    broken = tuning[-1].evaluation.failure if failures == FAILURES_TO_END else ""
    if winner is None:
        if broken:
            raise ProgramError(broken)
        return None
    best, baseline = winner.evaluation, tuning[0].evaluation
    choice = _passed_over(winner, best_trial(tuning, space))
    asked = refined_geometry(tuning, space)
    if not broken:
        try:
            if not _near(best.settings, asked, space, resolutions=1):
                best = measure("confirm", best.settings.replace(**asked), evaluator)
            if fresh is None:
                return Outcome(best, baseline, False, choice=choice)
            fresh_baseline = measure("fresh", baseline.settings, fresh)
            best = measure("fresh", best.settings, fresh)
            return Outcome(best, fresh_baseline, True, choice=choice)
        except ProgramError as error:
            broken = str(error)
    if not _near(best.settings, asked, space, resolutions=1):
        best, remark = _best_measured(winner, tuning, asked, space)
        broken += remark
    return Outcome(best, baseline, False, broken, choice)


def _passed_over(winner: Trial, highest: Trial | None) -> str:
    if highest is None or merit(highest.evaluation) <= merit(winner.evaluation):
        return ""
    better, taken = (
        f"trial {trial.number} ({trial.evaluation.n_indexed} frames indexed, "
        f"{trial.evaluation.n_hits - trial.evaluation.n_indexed} hits in vain)"
        for trial in (highest, winner)
    )
    return (
        f"{better} measured better than {taken}, which may be luck: from all that was measured, "
        "the agent's selector expects more of the latter"
    )


def _best_measured(
    winner: Trial, tuning: Sequence[Trial], asked: Mapping[str, float], space: ParameterSpace
) -> tuple[Evaluation, str]:
    """Return what to recommend where nothing can be measured any more, and a remark on it.

    It is the best trial at the geometry that is asked for, if that is as good as the winner.
    """
    near = [
        trial
        for trial in tuning
        if trial.evaluation.n_frames == winner.evaluation.n_frames
        and _near(trial.evaluation.settings, asked, space, resolutions=1)
    ]
    other = best_trial(near, space)
    if other is not None and merit(other.evaluation) > merit(winner.evaluation) - INDIFFERENCE:
        return other.evaluation, ""
    wanted = " and ".join(f"{name} = {value:.6g} m" for name, value in asked.items())
    return winner.evaluation, f"; the indexed frames ask for {wanted}, which was not measured"


def _attempt(measure: Callable[[], Evaluation], settings: Settings) -> Evaluation:
    """Measure, a second time if need be; what fails twice is an outcome, too."""
    with suppress(ProgramError):
        return measure()
    try:
        return measure()
    except ProgramError as error:
        return Evaluation(settings, (), failure=str(error))


def tuning_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that the search goes by."""
    return [trial for trial in trials if trial.stage not in ("confirm", "fresh")]


def merit(evaluation: Evaluation) -> float:
    """Return what a session maximises.

    It is `envs.objective.merit`: the indexing rate, less what chance alone would index, less a
    price for each hit that is not indexed.
    """
    return float(
        objective.merit(
            evaluation.n_frames,
            evaluation.n_hits,
            evaluation.n_indexed,
            evaluation.n_decoys,
            evaluation.n_decoys_indexed,
        )
    )


def best_trial(trials: Sequence[Trial], space: ParameterSpace) -> Trial | None:
    """Return the trial with the highest merit, or None if none indexed anything.

    Trials that were dropped before they had seen every frame do not count. Of several equal
    ones the one nearest the middle of their extent in the unit cube wins: the middle of a plateau
    is the farthest from its cliffs. (Their mean or medoid would be where the search crowds.)
    """
    n_frames = max((trial.evaluation.n_frames for trial in trials), default=0)
    indexed = [
        trial
        for trial in trials
        if trial.evaluation.n_indexed and trial.evaluation.n_frames == n_frames
    ]
    if not indexed:
        return None
    top = max(merit(trial.evaluation) for trial in indexed)
    equal = [trial for trial in indexed if merit(trial.evaluation) > top - 1e-9]
    points = np.array([space.encode(trial.evaluation.settings) for trial in equal])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return equal[int(np.argmin(np.linalg.norm(points - middle, axis=1)))]


def recommended_trial(
    trials: Sequence[Trial], space: ParameterSpace, searcher: str, policy: Policy | None = None
) -> Trial | None:
    """Return the trial that a session with this searcher recommends, or None if none indexed.

    It is `best_trial`, or what the selector of the agent's policy takes, unless what the agent was
    not told of, CrystFEL's defaults, is best.
    """
    highest = best_trial(trials, space)
    if highest is None or searcher not in AGENTS:
        return highest
    agent = _AgentSearch(searcher, space, seed=0, budget=None, policy=policy)
    favourite = agent.favourite(trials)
    if favourite is None or not agent.knows(highest) or not favourite.evaluation.n_indexed:
        return highest
    return favourite


def refined_geometry(trials: Sequence[Trial], space: ParameterSpace) -> dict[str, float]:
    """Return the geometry that the indexed frames ask for, by name of the tuned setting.

    It comes from the best of the evaluations that know it well enough; what none knows is
    left out.
    """

    def knows(evaluation: Evaluation, name: str) -> bool:
        return name in evaluation.refined and bool(
            geometry_rule.knows_geometry(
                evaluation.n_indexed, evaluation.refined[name][1], space[name].resolution
            )
        )

    asked = {}
    for name in geometry_rule.GEOMETRY:
        if name in space.names:
            known = [t.evaluation for t in trials if knows(t.evaluation, name)]
            if known:
                best = max(known, key=merit)
                asked[name] = space[name].clip(best.refined[name][0])
    return asked


def opening_move(trials: Sequence[Trial], space: ParameterSpace) -> tuple[str, Settings] | None:
    """Return the next of the looks that every session begins with, or None when done.

    First CrystFEL's defaults, then the space's base settings; where nothing indexes, a
    coarse look over camera lengths and looser and stricter peaks; once frames index, the
    best settings at the geometry that their lattices ask for, then the `PORTFOLIO`.
    """
    base = space.base
    if not trials:
        return "baseline", CRYSTFEL_DEFAULTS.replace(
            clen=base.clen, shift_x=base.shift_x, shift_y=base.shift_y
        )
    if len(trials) == 1:
        return "start", base
    best = best_trial(trials, space)
    if best is None:
        tried = {trial.evaluation.settings for trial in trials}
        looks = (look for look in _coarse_looks(trials[1], space) if look not in tried)
        return next((("look", look) for look in looks), None)
    asked = refined_geometry(trials, space)
    if not any(_near(trial.evaluation.settings, asked, space, WORTH_A_LOOK) for trial in trials):
        return "geometry", best.evaluation.settings.replace(**asked)
    n_done = sum(trial.stage == "portfolio" for trial in trials)
    portfolio = _portfolio(space)
    if n_done < len(portfolio):
        return "portfolio", portfolio[n_done].replace(**asked)
    return None


def _portfolio(space: ParameterSpace) -> list[Settings]:
    points = [
        space.settings(
            space.values(
                space.base.replace(
                    min_snr=snr * space.base.min_snr,
                    threshold=threshold * space.base.threshold,
                    min_pix_count=min_pix_count,
                )
            )
        )
        for snr, threshold, min_pix_count in PORTFOLIO
    ]
    return list(dict.fromkeys(point for point in points if point != space.base))


def _coarse_looks(start: Trial, space: ParameterSpace) -> list[Settings]:
    """Return what to try where nothing indexes, the likelier mend first."""
    base, peaks, geometry = space.base, [], []
    for snr, threshold in ((0.8, 1 / 3), (1.4, 3.0)):
        values = space.values(
            base.replace(min_snr=snr * base.min_snr, threshold=threshold * base.threshold)
        )
        peaks.append(space.settings(values))
    if "clen" in space.names and base.clen is not None:
        for offset in COARSE_CLEN:
            values = space.values(base.replace(clen=base.clen * (1 + offset)))
            geometry.append(space.settings(values))
    enough_hits = start.evaluation.n_hits >= geometry_rule.FEWEST_INDEXED
    return geometry + peaks if enough_hits else peaks + geometry


def _near(
    settings: Settings, asked: Mapping[str, float], space: ParameterSpace, resolutions: float
) -> bool:
    """Whether the settings' geometry is within so many resolutions of the one asked for."""
    return all(
        abs(getattr(settings, name) - value) <= resolutions * space[name].resolution
        for name, value in asked.items()
    )


class _Search:
    """A searcher that stops varying the geometry once the lattices have told it."""

    reason = ""

    def __init__(self, name: str, space: ParameterSpace, seed: int) -> None:
        self._name, self._seed = name, seed
        self._whole = self._space = space
        self._searcher: Searcher | None = None
        self._ingested = 0

    def move(self, trials: Sequence[Trial]) -> tuple[str, Settings] | None:
        """Return the searcher's next proposal, or None if nothing is left to vary."""
        asked = refined_geometry(trials, self._whole)
        space = self._whole.fixed(**asked)
        if not space.parameters:
            return None
        if self._searcher is None or space.names != self._space.names:
            # The number of trials keeps a resumed search from repeating its random start.
            self._searcher = make_searcher(self._name, space, self._seed + len(trials))
            self._ingested = 0
        self._space = space
        for trial in trials[self._ingested :]:
            self._ingest(self._searcher, trial.evaluation, asked)
        self._ingested = len(trials)
        return "search", space.settings(self._searcher.suggest())

    def _ingest(
        self, searcher: Searcher, evaluation: Evaluation, asked: Mapping[str, float]
    ) -> None:
        settings = evaluation.settings
        values = self._space.values(settings)
        # CrystFEL's defaults, say, differ from the base in more than the tuned parameters.
        comparable = self._space.settings(values) == settings.replace(**asked)
        if comparable and _near(settings, asked, self._whole, geometry_rule.MISLEADING):
            searcher.ingest(values, merit(evaluation))


class _AgentSearch:
    """The agent, who sees every evaluation of the whole space and says why it moves."""

    def __init__(
        self,
        name: str,
        space: ParameterSpace,
        seed: int,
        budget: int | None,
        policy: Policy | None,
    ) -> None:
        self._space = space
        # The first evaluation, of CrystFEL's defaults, is not the agent's.
        self._searcher = AGENTS[name](space, seed, budget and max(budget - 1, 1), policy)
        self._seen = 0
        self._told: list[Trial] = []
        self.reason = ""

    def move(self, trials: Sequence[Trial]) -> tuple[str, Settings] | None:
        """Return the agent's next proposal, at the geometry that the lattices ask for.

        None if nothing is left to vary.
        """
        asked = refined_geometry(trials, self._space)
        if not self._space.fixed(**asked).parameters:
            return None
        self._tell(trials)
        proposed = self._space.settings(self._searcher.suggest())
        self.reason = self._searcher.reason
        return "search", proposed.replace(**asked)

    def favourite(self, trials: Sequence[Trial]) -> Trial | None:
        """Return the trial that its selector takes, of those that it can be told of."""
        self._tell(trials)
        return self._told[self._searcher.favourite()] if self._told else None

    def knows(self, trial: Trial) -> bool:
        """Whether it was told of the trial."""
        return trial in self._told

    def _tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials[self._seen :]:
            settings = trial.evaluation.settings
            values = self._space.values(settings)
            # CrystFEL's defaults differ from the base in more than the tuned parameters.
            if self._space.settings(values) == settings:
                self._searcher.ingest(values, merit(trial.evaluation), trial.evaluation)
                self._told.append(trial)
        self._seen = len(trials)
