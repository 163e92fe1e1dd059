import dataclasses
import math

import numpy as np
import pytest

from envs.box import POLICY_PARAMETERS
from envs.evaluation import Evaluation
from envs.objective import USUAL_MERIT as merit
from envs.observation import FEATURES, OBSERVATION_SIZE, layout
from envs.parameter_space import make_space
from tuner.agent.policy import Policy
from tuner.agent.searcher import AgentSearcher, Fallback
from tuner.agent.selector import Selector
from tuner.agent.selector_training import SelectorNetwork
from tuner.search.contract import SearchTask
from tuner.searchers import make_searcher

KNOWN = {
    "background": (12.0, 60.0),
    "camera_length": 0.0784,
    "pixel_size": 75e-6,
    "largest_radius": 725.0,
}


def always(action) -> Policy:
    """Return a policy that does one thing whatever it sees."""
    weights = np.zeros((len(POLICY_PARAMETERS), OBSERVATION_SIZE), np.float32)
    return Policy(
        [((weights, np.array(action, np.float32)),)], np.zeros(OBSERVATION_SIZE, np.float32), {}
    )


def follows(feature: str, parameter: str, strength: float = 1.0) -> Policy:
    """Return a policy that moves one parameter by one feature of the newest evaluation."""
    policy = always(np.zeros(len(POLICY_PARAMETERS)))
    place = layout()["evaluation 1"].start + len(POLICY_PARAMETERS) + FEATURES.index(feature)
    policy.actors[0][0][0][POLICY_PARAMETERS.index(parameter), place] = strength
    return policy


def agent(space, policy, *, budget=None, fallback=None) -> AgentSearcher:
    return AgentSearcher(SearchTask(space, budget=budget, policy=policy), fallback)


def run(searcher, landscape, space, n):
    tried = []
    for _ in range(n):
        values = searcher.suggest()
        evaluation = landscape.evaluate(space.settings(values))
        searcher.ingest(values, merit(evaluation), evaluation)
        tried.append(values)
    return tried


@pytest.mark.parametrize(
    "tuned",
    [
        ("min_snr",),
        ("clen", "min_snr"),
        ("threshold", "local_bg_radius"),
        ("min_snr", "threshold", "min_pix_count", "clen", "mask_hot_sigma"),
        ("shift_x", "shift_y"),
    ],
)
def test_any_subset_of_the_parameters_can_be_tuned(landscape, tuned):
    space = make_space(tuned, **KNOWN)
    searcher = agent(space, always([0.5, -0.5, 0.2, 0.1, -1]), budget=5)
    for values in run(searcher, landscape, space, 5):
        assert tuple(values) == tuned
        assert space.values(space.settings(values)) == values
        for name in set(tuned) - set(POLICY_PARAMETERS):
            assert values[name] == space.values(space.base)[name]


def test_a_gp_tunes_what_the_agent_cannot(landscape):
    space = make_space(("local_bg_radius", "min_peaks"), **KNOWN)
    searcher = agent(
        space,
        always(np.zeros(5)),
        fallback=Fallback((), lambda rest: make_searcher("gp", SearchTask(rest))),
    )
    tried = run(searcher, landscape, space, 6)
    assert len({values["local_bg_radius"] for values in tried}) > 1


def test_hands_over_when_the_gain_has_stalled(landscape, space):
    searcher = agent(
        space,
        always([-0.5, 0, 0, 0, 0]),
        fallback=Fallback(
            [{"min_snr": 0.9}, {"min_snr": 0.1}],
            lambda rest: make_searcher("gp", SearchTask(rest)),
            least=5,
            patience=2,
        ),
    )
    tried = run(searcher, landscape, space, 11)
    assert all(values["min_snr"] == tried[0]["min_snr"] for values in tried[:5])
    assert [space["min_snr"].from_unit(unit) for unit in (0.9, 0.1)] == [
        values["min_snr"] for values in tried[5:7]
    ]
    assert len({values["min_snr"] for values in tried[7:]}) > 1
    assert "Gaussian process" in searcher.reason
    # what the lattices told of the camera length holds for the GP as well
    assert {values["clen"] for values in tried[1:]} == {tried[1]["clen"]}
    assert tried[1]["clen"] == pytest.approx(landscape.true_clen, rel=2e-4)


def test_never_hands_over_unless_asked(landscape, space):
    searcher = agent(space, always([-0.5, 0, 0, 0, 0]))
    tried = run(searcher, landscape, space, 15)
    assert len({values["min_snr"] for values in tried}) == 1


@pytest.mark.parametrize(
    ("merits", "due"),
    [
        ([0.1] * 4, False),  # too early
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], False),
        ([0.1, 0.6, 0.5, 0.5, 0.4, 0.6, 0.3], True),
        ([-0.1, -0.1, -0.1, -0.1, -0.1, -0.1, 0.0], False),  # something at last
    ],
)
def test_a_stall_is_no_gain_for_a_while(merits, due):
    plan = Fallback((), lambda rest: make_searcher("gp", SearchTask(rest)), least=6, patience=3)
    assert plan.due(merits, n_frames=100) is due


@pytest.mark.parametrize(
    ("strength", "said"),
    [
        (1.0, "many frames have enough peaks: min_snr up from the best ({})"),
        (-1.0, "many frames have enough peaks: min_snr down from the best ({})"),
        (0.001, "no single group of diagnostics moves the proposal"),
    ],
)
def test_says_what_moved_it(landscape, space, strength, said):
    searcher = agent(space, follows("hits", "min_snr", strength))
    (best,) = run(searcher, landscape, space, 1)
    searcher.suggest()
    assert searcher.reason == said.format(f"{best['min_snr']:.4g}")


def test_says_nothing_of_what_it_has_not_seen(landscape, space):
    searcher = agent(space, follows("hits", "min_snr"))
    searcher.suggest()
    assert searcher.reason.startswith("the first proposal")


def test_the_session_may_put_the_geometry_right(landscape, space):
    searcher = agent(space, follows("hits", "min_snr"))
    values = searcher.suggest()
    moved = values | {"clen": 0.0801}
    evaluation = landscape.evaluate(space.settings(moved))
    searcher.ingest(moved, merit(evaluation), evaluation)
    assert searcher.suggest()["min_snr"] != values["min_snr"]


def test_equal_evaluations_give_equal_suggestions(landscape, space):
    policy = follows("rate", "threshold")
    first = run(agent(space, policy, budget=6), landscape, space, 6)
    assert first == run(agent(space, policy, budget=6), landscape, space, 6)


def test_an_evaluation_without_an_answer_counts_as_nothing_indexed(landscape, space):
    searcher = agent(space, follows("rate", "threshold"))
    values = searcher.suggest()
    searcher.ingest(values, 0.0, Evaluation(space.settings(values), (), failure="it died"))
    assert all(math.isfinite(value) for value in searcher.suggest().values())


def contrarian() -> Selector:
    """Return a selector that likes the lowest merit best."""
    network = SelectorNetwork(2).export()
    return dataclasses.replace(network, trust=-1e6)


def test_recommends_the_highest_merit_where_it_has_no_selector(landscape):
    space = make_space(("min_snr", "threshold"), **KNOWN)
    searcher = agent(space, always([0.5, -0.5, 0.2, 0.1, -1]))
    for snr, merit_of_it in ((4.0, 0.2), (5.0, 0.4), (6.0, 0.3)):
        values = {"min_snr": snr, "threshold": 100.0}
        searcher.ingest(values, merit_of_it, Evaluation(space.settings(values), ()))
    assert searcher.recommend() == 1


def test_its_selector_decides_among_those_that_luck_may_have_ordered(landscape):
    space = make_space(("min_snr", "threshold"), **KNOWN)
    policy = dataclasses.replace(always([0.5, -0.5, 0.2, 0.1, -1]), selector=contrarian())
    searcher = agent(space, policy)
    measured = []
    for snr in (3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
        values = {"min_snr": snr, "threshold": 100.0}
        evaluation = landscape.evaluate(space.settings(values))
        measured.append(merit(evaluation))
        searcher.ingest(values, measured[-1], evaluation)
    top = max(measured)
    luck = 2 * math.sqrt(top * (1 - top) / evaluation.n_frames)
    near = [value for value in measured if value >= top - luck]
    assert measured[searcher.recommend()] == min(near)


def test_evaluations_of_fewer_frames_are_not_recommended(landscape):
    space = make_space(("min_snr",), **KNOWN)
    searcher = agent(space, always([0.5, -0.5, 0.2, 0.1, -1]))
    whole = landscape.evaluate(space.settings({"min_snr": 5.0}))
    few = dataclasses.replace(whole, outcomes=whole.outcomes[:10])
    searcher.ingest({"min_snr": 5.0}, 0.1, whole)
    searcher.ingest({"min_snr": 6.0}, 0.9, few)
    assert searcher.recommend() == 0
