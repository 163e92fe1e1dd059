"""The agent's network, with PyTorch and without, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from envs.environments.map_env import MapTuningEnv
from envs.environments.map_tasks import MapTasks
from envs.evaluators.look_record import read_look_records
from envs.response_map.model import MapModel
from envs.response_map.situation import STOP
from tuner.map_agent.network import CandidatesPolicy, parts_of
from tuner.map_agent.policy import POLICY_FILE, MapPolicy
from tuner.map_agent.training import MapTraining
from wrappers.errors import InputError

LOOKS = Path(__file__).parents[3] / "experiments" / "data" / "looks"


@pytest.fixture(scope="module")
def env() -> MapTuningEnv:
    records = [each for each in read_look_records(LOOKS, "train") if each.name == "train_007"]
    return MapTuningEnv(MapTasks(records))


@pytest.fixture
def network(env: MapTuningEnv) -> CandidatesPolicy:
    torch.manual_seed(3)
    found = CandidatesPolicy(env.observation_space, env.action_space, lambda _: 1e-3, width=8)
    with torch.no_grad():
        found.mlp_extractor.stop[-1].bias -= 1  # or it might end at once
    return found


def test_it_chooses_as_the_network_that_was_trained(
    env: MapTuningEnv, network: CandidatesPolicy
) -> None:
    policy = MapPolicy(parts_of(network))
    actions = set()
    for seed in range(5):
        observed, info = env.reset(seed=seed)
        for _ in range(3):
            tensors = {name: torch.as_tensor(values[None]) for name, values in observed.items()}
            with torch.no_grad():
                logits = network.get_distribution(tensors).distribution.logits.numpy()[0]
            allowed = info["allowed"]
            scores = policy.scores(observed["candidates"], observed["session"])
            # Those of PyTorch are logarithms of probabilities, the same up to a constant.
            away = (scores - logits)[allowed]
            assert np.ptp(away) < 1e-4
            assert (logits[~allowed] < -1e7).all()
            action = policy.act(env.situation)
            assert action == int(np.argmax(np.where(allowed, logits, -np.inf)))
            actions.add(action)
            if action == STOP:
                break
            observed, _, over, _, info = env.step(action)
            if over:
                break
    assert len(actions) > 1


def test_the_order_of_the_candidates_does_not_matter(
    env: MapTuningEnv, network: CandidatesPolicy
) -> None:
    policy = MapPolicy(parts_of(network))
    observed, _ = env.reset(seed=1)
    candidates = observed["candidates"]
    order = np.random.default_rng(0).permutation(len(candidates))
    straight = policy.scores(candidates, observed["session"])
    turned = policy.scores(candidates[order], observed["session"])
    assert turned[:-1].reshape(16, -1) == pytest.approx(straight[:-1].reshape(16, -1)[order])
    assert turned[-1] == pytest.approx(straight[-1])


def test_it_comes_back_from_its_file(network: CandidatesPolicy, tmp_path: Path) -> None:
    policy = MapPolicy(parts_of(network), {"steps": 7})
    policy.save(tmp_path / POLICY_FILE)
    found = MapPolicy.load(tmp_path)
    assert found.provenance == {"steps": 7}
    for name, layers in policy.parts.items():
        for ours, theirs in zip(layers, found.parts[name], strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


def test_other_files_are_refused_with_a_sentence(network: CandidatesPolicy, tmp_path: Path) -> None:
    path = tmp_path / POLICY_FILE
    with pytest.raises(InputError, match=r"there is no such file; .*sfx-tuner train"):
        MapPolicy.load(path)
    MapPolicy(parts_of(network)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(InputError, match="cannot be read"):
        MapPolicy.load(path)
    length = int.from_bytes(whole[:8], "little")
    described = json.loads(whole[8 : 8 + length])["__metadata__"]
    tensors = safetensors.numpy.load(whole)
    another = described["interface"].replace("luck", "happiness")
    path.write_bytes(safetensors.numpy.save(tensors, described | {"interface": another}))
    with pytest.raises(InputError, match="made by another version"):
        MapPolicy.load(path)
    tensors["stop.biases_0"][0] = np.nan
    path.write_bytes(safetensors.numpy.save(tensors, described))
    with pytest.raises(InputError, match="is damaged"):
        MapPolicy.load(path)


def test_the_shipped_policy_was_trained_on_the_shipped_map_and_is_no_worse_than_its_rule() -> None:
    provenance = MapPolicy.shipped().provenance
    assert provenance["map_model"] == MapModel.shipped().version  # else train anew
    assert provenance["chosen"]["score"] >= provenance["rule"]["score"]
    assert provenance["training"] == asdict(MapTraining())
    assert len(provenance["held_out"]) == 22 and provenance["experiments"] == 88


def test_the_documents_figures_are_those_that_the_policy_keeps() -> None:
    document = (Path(__file__).parents[3] / "docs" / "agent.md").read_text()
    kept = MapPolicy.shipped().provenance
    for what in ("rule", "imitation", "chosen"):
        assert f"{kept[what]['score']:.4f}" in document
