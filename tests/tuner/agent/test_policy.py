import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from envs.box import POLICY_PARAMETERS
from envs.objective import Merit
from envs.observation import OBSERVATION_SIZE
from tuner.agent.policy import SHIPPED, Policy
from tuner.agent.selector import N_INPUTS, Selector
from wrappers.errors import InputError


def layers(rng, *sizes: int):
    return tuple(
        (
            rng.normal(0, 0.3, (n_out, n_in)).astype(np.float32),
            rng.normal(0, 0.3, n_out).astype(np.float32),
        )
        for n_in, n_out in itertools.pairwise(sizes)
    )


def made_up(seed: int = 0, n_actors: int = 2) -> Policy:
    rng = np.random.default_rng(seed)
    actors = tuple(
        layers(rng, OBSERVATION_SIZE, 8, 6, len(POLICY_PARAMETERS)) for _ in range(n_actors)
    )
    selector = Selector(layers(rng, N_INPUTS, 7, 4), layers(rng, N_INPUTS + 8, 5, 1), 12.5)
    typical = rng.normal(0, 0.1, OBSERVATION_SIZE).astype(np.float32)
    return Policy(actors, typical, {"seed": seed}, selector)


@pytest.fixture
def saved(tmp_path):
    made_up().save(tmp_path)
    return tmp_path


def test_a_saved_policy_acts_and_selects_the_same(saved):
    rng = np.random.default_rng(1)
    observations = rng.uniform(-1, 1, (5, OBSERVATION_SIZE))
    loaded = Policy.load(saved)
    for turn in range(3):
        np.testing.assert_array_equal(
            loaded.act(observations, turn), made_up().act(observations, turn)
        )
    inputs = rng.normal(size=(3, 4, N_INPUTS)).astype(np.float32)
    np.testing.assert_array_equal(loaded.selector.scores(inputs), made_up().selector.scores(inputs))
    assert loaded.provenance == {"seed": 0}


def test_a_policy_without_a_selector_is_kept_as_such(tmp_path):
    dataclasses.replace(made_up(), selector=None).save(tmp_path)
    assert Policy.load(tmp_path).selector is None


def test_a_policy_of_format_2_is_still_read(saved):
    """It called the selector a judge, and had no merit."""
    described = json.loads((saved / "policy.json").read_text())
    tensors = safetensors.numpy.load_file(saved / "policy.safetensors")
    data = safetensors.numpy.save(
        {name.replace("selector", "judge"): array for name, array in tensors.items()}
    )
    described["judge"] = described.pop("selector")
    del described["merit"]
    described |= {"format": 2, "sha256": hashlib.sha256(data).hexdigest()}
    (saved / "policy.json").write_text(json.dumps(described))
    (saved / "policy.safetensors").write_bytes(data)
    inputs = np.random.default_rng(1).normal(size=(3, 4, N_INPUTS)).astype(np.float32)
    np.testing.assert_array_equal(
        Policy.load(saved).selector.scores(inputs), made_up().selector.scores(inputs)
    )


def test_the_actors_take_turns():
    policy = made_up(n_actors=3)
    observation = np.random.default_rng(4).uniform(-1, 1, (1, OBSERVATION_SIZE))
    actions = [policy.act(observation, turn).tolist() for turn in range(6)]
    assert actions[:3] == actions[3:]
    assert len({str(action) for action in actions[:3]}) == 3


def test_acts_like_the_network_it_was_taken_from():
    torch = pytest.importorskip("torch")
    policy = made_up()
    modules = []
    for weights, biases in policy.actors[0]:
        linear = torch.nn.Linear(weights.shape[1], weights.shape[0])
        linear.weight.data, linear.bias.data = torch.tensor(weights), torch.tensor(biases)
        modules += [linear, torch.nn.Tanh()]
    network = torch.nn.Sequential(*modules[:-1])
    observations = np.random.default_rng(2).uniform(-1, 1, (7, OBSERVATION_SIZE))
    expected = network(torch.tensor(observations, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(policy.act(observations, 0), np.clip(expected, -1, 1), atol=1e-5)


def test_one_observation_acts_as_in_a_batch():
    policy = made_up()
    observations = np.random.default_rng(3).uniform(-1, 1, (4, OBSERVATION_SIZE))
    np.testing.assert_allclose(
        policy.act(observations, 1)[2], policy.act(observations[2:3], 1)[0], atol=1e-6
    )


def test_other_weights_are_refused(saved):
    (saved / "policy.safetensors").write_bytes(
        (saved / "policy.safetensors").read_bytes()[:-4] + b"\0\0\0\0"
    )
    with pytest.raises(InputError, match="SHA-256"):
        Policy.load(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 99),
        ("memory", 3),
        ("actions", ["min_snr"]),
        ("features", ["rate"]),
        ("activations", ["relu"]),
    ],
)
def test_a_policy_for_something_else_is_refused(saved, key, value):
    path = saved / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=f"another version: its {key}"):
        Policy.load(saved)


def test_a_policy_says_for_which_merit_it_was_trained(saved):
    path = saved / "policy.json"
    described = json.loads(path.read_text())
    other = {"name": "net_rate", "unindexed_hit_penalty": 0.3}
    path.write_text(json.dumps(described | {"merit": other}))
    assert Policy.load(saved).merit == Merit(0.3)
    path.write_text(json.dumps(described | {"merit": other | {"name": "rate"}}))
    with pytest.raises(InputError, match="knows no merit"):
        Policy.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described["actors"][0].__setitem__(0, [9, OBSERVATION_SIZE]),
        lambda described: described["actors"][1].pop(),
        lambda described: described["actors"].clear(),
        lambda described: described["actors"].append(described["actors"][0]),
        lambda described: described["selector"]["encoder"].clear(),
        lambda described: described["selector"]["head"].__setitem__(0, [5, 3]),
        lambda described: described.pop("selector"),
        lambda described: described.update(selector={}),
        lambda described: described.update(selector=None),
        lambda described: described["actors"].pop(),
    ],
)
def test_shapes_that_do_not_fit_are_refused(saved, change):
    path = saved / "policy.json"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))
    with pytest.raises(InputError, match="damaged"):
        Policy.load(saved)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    policy = made_up()
    policy.actors[0][0][0][0, 0] = np.nan
    policy.save(tmp_path)
    with pytest.raises(InputError, match="finite"):
        Policy.load(tmp_path)


def test_a_pickle_in_place_of_the_weights_is_not_run(saved):
    import pickle

    class Trap:
        def __reduce__(self):
            return (exec, ("raise AssertionError('it was run')",))

    data = pickle.dumps(Trap())
    (saved / "policy.safetensors").write_bytes(data)
    path = saved / "policy.json"
    described = json.loads(path.read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(described))
    with pytest.raises(InputError, match="damaged"):
        Policy.load(saved)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1'])
def test_a_damaged_description_is_refused(saved, text):
    (saved / "policy.json").write_text(text)
    with pytest.raises(InputError):
        Policy.load(saved)


def test_a_directory_without_a_policy_is_refused(tmp_path):
    with pytest.raises(InputError, match="sfx-tuner train"):
        Policy.load(tmp_path / "none")


def test_the_shipped_policy_loads_without_pytorch():
    """PyTorch alone would take longer than the second that loading may take."""
    code = (
        "import sys; from tuner.agent.policy import Policy; Policy.load(); "
        "assert 'torch' not in sys.modules and 'pickle5' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shipped_weights_are_plain_tensors():
    tensors = safetensors.numpy.load_file(SHIPPED / "policy.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
