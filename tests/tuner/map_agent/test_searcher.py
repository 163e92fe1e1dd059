"""The agent in a session: parts of the frames count, and what they say is checked."""

from __future__ import annotations

import numpy as np
import pytest

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from envs.response_map.situation import PORTIONS, STOP, Situation, _portions
from tuner.comparison.searching import run_method
from tuner.map_agent.policy import MapPolicy
from tuner.map_agent.searcher import MapAgentSearcher
from tuner.search.contract import SearcherKind, SearchTask
from tuner.search.map_searcher import WHOLE
from tuner.session.budget import Budget
from tuner.session.loop import run_session
from tuner.session.store import MemoryLog
from tuner.session.trial import Trial

N_FRAMES = 120


class ByRule(MapPolicy):
    """Does what the map's rule does, so that tests do not depend on a training."""

    def act(self, situation: Situation) -> int:
        return situation.rule()


class Eager(MapPolicy):
    """Measures a few sets on an eighth, and stops."""

    def act(self, situation: Situation) -> int:
        n_tried = round(10 * float(situation.session[6]))
        return STOP if n_tried > 3 else int(np.flatnonzero(situation.allowed)[0])


def kind_of(policy: MapPolicy) -> SearcherKind:
    return SearcherKind(
        lambda task: MapAgentSearcher(task, policy), handles_geometry=True, looks=True
    )


@pytest.fixture(scope="module")
def evaluator() -> RecordedEvaluator:
    record = FrameRecord.read(RECORDS / "test_003.npz")
    order = np.random.default_rng(0).permutation(len(record.counts))
    return RecordedEvaluator(record, order[:N_FRAMES].tolist())


def session(
    evaluator: RecordedEvaluator, policy: MapPolicy, trials: list[Trial] = (), **options
) -> MemoryLog:
    log = MemoryLog(list(trials))
    fresh = evaluator.on(evaluator._rows.tolist())
    budget = options.pop("budget", Budget(12))
    run_session(log, fresh, fresh.space, searcher=kind_of(policy), seed=1, budget=budget, **options)
    return log


def told(log: MemoryLog) -> list[tuple]:
    return [(t.stage, t.evaluation.settings, t.evaluation.n_frames, t.best) for t in log.trials]


def test_a_session_measures_parts_and_recommends_what_was_measured_on_all(
    evaluator: RecordedEvaluator,
) -> None:
    log = session(evaluator, ByRule({}))
    searched = [trial for trial in log.trials if trial.stage == "search"]
    sizes = [trial.evaluation.n_frames for trial in searched]
    assert sizes[0] == round(PORTIONS[0] * N_FRAMES)
    assert "the agent's choice" in searched[0].reason
    # A part of the frames is enough to be the best so far ...
    early = log.trials[searched[0].best].evaluation
    assert early.n_frames < N_FRAMES and early.settings == searched[0].evaluation.settings
    # ... but not to be what the session comes to.
    last = log.trials[log.trials[-1].best].evaluation
    assert last.n_frames == N_FRAMES
    assert last.rate > log.trials[0].evaluation.rate
    merits = evaluator.on(evaluator._rows.tolist()).merits()
    assert merits[evaluator.nearest(last.settings)] > merits.max() - 0.05


def test_what_turns_out_worse_on_all_frames_is_not_recommended(
    evaluator: RecordedEvaluator,
) -> None:
    for budget, reason in (
        (12, "the best by what was measured on a part of the frames, and the map"),
        (3, "the best of a part of the frames, on all"),
    ):
        log = session(evaluator, Eager({}), budget=Budget(budget))
        whole = [t for t in log.trials if t.evaluation.n_frames == N_FRAMES]
        assert [t.stage for t in whole[:1]] == ["baseline"] and len(whole) >= 2
        assert reason in [t.reason for t in whole]
        assert log.trials[-1].best in {t.number for t in whole}


def test_a_session_that_was_interrupted_goes_on_where_it_was(evaluator: RecordedEvaluator) -> None:
    whole = session(evaluator, ByRule({}))
    for cut in (1, 2, len(whole.trials) - 1):
        assert told(session(evaluator, ByRule({}), whole.trials[:cut])) == told(whole), cut


def test_nothing_is_recommended_beyond_a_budget_of_evaluations_in_a_comparison(
    evaluator: RecordedEvaluator,
) -> None:
    fresh = evaluator.on(evaluator._rows.tolist())
    found = run_method(kind_of(Eager({})), fresh, fresh.space, budget=3, seed=1)
    assert len(found.trials) == len(found.recommended) == len(found.seconds) == 3
    assert found.trials[-1].evaluation.n_frames < N_FRAMES
    assert found.recommended[-1] != found.recommended[0]


def test_it_reckons_with_the_budget(evaluator: RecordedEvaluator) -> None:
    fresh = evaluator.on(evaluator._rows.tolist())
    for budget, left in ((None, 8.0), (40, 8.0), (3, 3.0)):
        task = SearchTask(fresh.space, seed=1, budget=budget, looks=fresh)
        searcher = MapAgentSearcher(task, ByRule({}))
        searcher.ingest({}, 0.0, fresh.evaluate(fresh.space.base))
        searcher.suggest()
        assert searcher._situation().session[0] == pytest.approx(left / 8)


def test_small_samples_are_measured_whole(evaluator: RecordedEvaluator) -> None:
    few = evaluator.on(evaluator._rows[:WHOLE].tolist())
    log = session(few, ByRule({}))
    assert len(log.trials) > 2
    assert {trial.evaluation.n_frames for trial in log.trials} == {WHOLE}


def test_what_was_measured_elsewhere_is_recommended_by_its_merit(
    evaluator: RecordedEvaluator,
) -> None:
    """Before anything was measured where the lattices put the detector."""
    fresh = evaluator.on(evaluator._rows.tolist())
    far = {"clen": 0.97 * fresh.space.base.clen}
    searcher = MapAgentSearcher(SearchTask(fresh.space, seed=1, looks=fresh), ByRule({}))
    rates = []
    for threshold in (fresh.space.base.threshold, 5000.0):
        found = fresh.evaluate(fresh.space.base.replace(threshold=threshold, **far))
        rates.append(found.rate)
        searcher.ingest({}, found.rate, found)
    assert searcher._situation().leader is None and rates[0] > rates[1]
    assert searcher.recommend() == 0
    # The same set on a lucky part of the frames, which is not measured on all again and again.
    lucky = fresh.evaluate(fresh.space.base.replace(**far), 10)
    searcher.ingest({}, 0.99, lucky)
    assert searcher.recommend() == 0


def test_a_set_is_recommended_where_the_lattices_put_the_detector(
    evaluator: RecordedEvaluator,
) -> None:
    """Not where it was measured on all frames, at a camera length that was wrong."""
    fresh = evaluator.on(evaluator._rows.tolist())
    base = fresh.space.base
    searcher = MapAgentSearcher(SearchTask(fresh.space, seed=1, looks=fresh), ByRule({}))
    for clen, n_frames in ((0.97 * base.clen, N_FRAMES), (base.clen, 60)):
        found = fresh.evaluate(base.replace(clen=clen), n_frames)
        searcher.ingest({}, found.rate, found)
    assert searcher._session.map.column(base) == searcher._situation().leader
    assert searcher.recommend() == 1


class NowhereNear(MapAgentSearcher):
    """Takes what was measured on a part of the frames, whatever came of it on all."""

    def recommend(self) -> int:
        parts = [e.n_frames for e, _ in self._session.evaluations]
        return int(np.argmin(parts))


def test_a_set_is_measured_on_all_frames_once(evaluator: RecordedEvaluator) -> None:
    kind = SearcherKind(
        lambda task: NowhereNear(task, ByRule({})), handles_geometry=True, looks=True
    )
    log = MemoryLog([])
    fresh = evaluator.on(evaluator._rows.tolist())
    run_session(log, fresh, fresh.space, searcher=kind, seed=1, budget=Budget(3))
    on_all = [t for t in log.trials if t.reason == "the best of a part of the frames, on all"]
    assert len(on_all) == 1


def test_all_frames_are_all_frames() -> None:
    for n, measured in ((40, 25), (200, 160), (3, 2)):
        assert _portions(np.array([measured / n, 1.0, 0.0]), n)[[0, 1, 2]].tolist()[1:] == [1, 0]
        assert 0 < _portions(np.array([measured / n]), n)[0] < 1
