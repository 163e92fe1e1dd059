"""A map under way: what it asks the embedded indexer."""

from __future__ import annotations

from envs.evaluators.frame_record import RECORDS, FrameRecord
from envs.evaluators.recorded import RecordedEvaluator
from envs.objective import USUAL_MERIT
from envs.response_map.session import MapSession


def session(evaluator: RecordedEvaluator) -> MapSession:
    return MapSession(evaluator, evaluator.space, seed=1, penalty=USUAL_MERIT.unindexed_hit_penalty)


class Asked(RecordedEvaluator):
    """Notes which frames the embedded indexer is asked for, and what it is paid for."""

    def lattice_counts(self, measured, settings, frames=None):
        self.asked = [*getattr(self, "asked", []), (measured, tuple(frames))]
        return super().lattice_counts(measured, settings, frames)


def test_before_crystfel_the_embedded_indexer_is_asked_for_the_sets_that_matter() -> None:
    record = FrameRecord.read(RECORDS / "crystfel_test_001.npz")
    asked = Asked(record, range(50))
    under_way = session(asked)
    under_way.survey()
    sources = [source for source, _ in asked.asked]
    assert 1 < len(sources) == len(set(sources)) <= 3
    surest = RecordedEvaluator(record, range(50))
    known = surest.lattice_counts(sources[0], under_way.map.settings, range(50)).frames
    lattices = under_way.map.learnt.lattice
    assert lattices.sum() > len(known), "another set finds lattices of further frames"
    _, second = asked.asked[1]
    assert not set(second) & set(known), "what is known is not asked again"
    under_way.survey()
    assert not [source for source, frames in asked.asked[len(sources) :] if source in sources]


def test_the_embedded_indexers_own_sessions_ask_it_for_nothing_beforehand() -> None:
    asked = Asked(FrameRecord.read(RECORDS / "test_001.npz"), range(50))
    session(asked).survey()
    assert not hasattr(asked, "asked")
