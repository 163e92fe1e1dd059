import numpy as np
import pytest
import torch

from envs.observation import EVALUATION_SIZE, FACTS
from tuner.agent.networks import silu
from tuner.agent.selector import N_INPUTS, Selector, selector_inputs
from tuner.agent.selector_training import SelectorNetwork, Sessions
from tuner.threads import single_threaded_algebra


@pytest.fixture(autouse=True)
def one_thread():
    single_threaded_algebra()


def sessions(n: int, made: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(0, 0.5, (n, made, EVALUATION_SIZE)).astype(np.float32),
        rng.uniform(0, 0.5, (n, made)).astype(np.float32),
        rng.normal(0, 0.5, (n, len(FACTS))).astype(np.float32),
        rng.choice([0, 0.2], n).astype(np.float32),
    )


def selector_with(trust: float, seed: int = 0) -> Selector:
    """Return a selector with a random network, who adds so much for the lag."""
    torch.manual_seed(seed)
    network = SelectorNetwork(6)
    torch.nn.init.normal_(network.head[-1].weight)
    exported = network.export()
    return Selector(exported.encoder, exported.head, trust)


def test_scores_as_the_network_that_was_trained():
    torch.manual_seed(1)
    network = SelectorNetwork(9)
    torch.nn.init.normal_(network.head[-1].weight)
    inputs = selector_inputs(*sessions(4, 7))
    with torch.no_grad():
        expected = network(torch.as_tensor(inputs)).numpy()
    np.testing.assert_allclose(network.export().scores(inputs), expected, rtol=1e-4, atol=1e-4)


def test_silu_is_pytorchs():
    x = np.linspace(-90, 90, 181).astype(np.float32)
    np.testing.assert_allclose(
        silu(x), torch.nn.functional.silu(torch.as_tensor(x)).numpy(), rtol=1e-5, atol=1e-5
    )


def test_the_order_of_the_evaluations_does_not_matter():
    evaluations, merits, facts, penalties = sessions(3, 8)
    order = np.random.default_rng(2).permutation(8)
    selector = selector_with(5.0)
    scores = selector.scores(selector_inputs(evaluations, merits, facts, penalties))
    shuffled = selector.scores(
        selector_inputs(evaluations[:, order], merits[:, order], facts, penalties)
    )
    np.testing.assert_allclose(shuffled, scores[:, order], rtol=1e-5, atol=1e-5)


def test_an_untrained_selector_takes_the_highest_merit():
    drawn = sessions(20, 6)
    selector = SelectorNetwork(5).export()
    choice = selector.choose(selector_inputs(*drawn), drawn[1], 200)
    np.testing.assert_array_equal(choice, drawn[1].argmax(axis=1))


@pytest.mark.parametrize("n_frames", [50, 200, 5000])
def test_nothing_is_taken_that_luck_does_not_explain(n_frames):
    """This selector would take the worst of all; it gets the worst within two standard errors."""
    drawn = sessions(50, 12)
    merits = drawn[1]
    choice = selector_with(-1e6).choose(selector_inputs(*drawn), merits, n_frames)
    top = merits.max(axis=1)
    error = np.sqrt(top * (1 - top) / n_frames)
    taken = merits[np.arange(50), choice]
    assert (taken >= top - 2 * error - 1e-6).all()
    worse = np.where(merits < taken[:, None], merits, -1).max(axis=1)
    assert (worse < top - 2 * error + 1e-6).all()
    if n_frames == 50:
        assert (taken < top).any()


def test_one_evaluation_is_its_own_best():
    drawn = sessions(3, 1)
    assert selector_with(1.0).choose(selector_inputs(*drawn), drawn[1], 100).tolist() == [0, 0, 0]


def test_inputs_have_the_size_that_the_networks_expect():
    assert selector_inputs(*sessions(2, 3)).shape == (2, 3, N_INPUTS)


def test_learns_what_tells_the_truly_best():
    """Merits are noise here; the true merit shows in one of their features."""
    evaluations, _, facts, penalties = sessions(400, 40, seed=3)
    truth = 0.5 + 0.4 * np.tanh(evaluations[:, :, 7])
    merits = np.random.default_rng(4).uniform(0.29, 0.31, truth.shape).astype(np.float32)
    torch.manual_seed(0)
    network = SelectorNetwork(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    some = Sessions(evaluations[:300], merits[:300], truth[:300], facts[:300], penalties[:300])
    network.learn(some, optimizer, steps=150, batch_size=64, rng=np.random.default_rng(5))
    inputs = selector_inputs(
        evaluations[300:, :10], merits[300:, :10], facts[300:], penalties[300:]
    )
    choice = network.export().choose(inputs, merits[300:, :10], 200)
    left = truth[300:, :10]
    chosen = left[np.arange(100), choice].mean()
    by_merit = left[np.arange(100), merits[300:, :10].argmax(axis=1)].mean()
    assert chosen - by_merit > 0.7 * (left.max(axis=1).mean() - by_merit)
