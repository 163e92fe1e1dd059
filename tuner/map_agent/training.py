"""Training the agent: it imitates the map's own rule, then PPO improves on that.

It is divided into checkpoint intervals. Each begins from the weights of the one before, with random
streams of its own, so a training that was stopped and resumed is the one that never stopped. Of all
checkpoints the one is taken whose sessions on held-out experiments come to most.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.wrappers import TransformReward
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from envs.environments.map_env import MapTuningEnv
from envs.environments.map_tasks import MapTasks
from envs.evaluators.look_record import LookRecord, read_look_records
from envs.response_map.model import MapModel
from tuner.map_agent.checkpoints import (
    Row,
    begin_training,
    load_checkpoint,
    read_curve,
    save_checkpoint,
    write_curve,
)
from tuner.map_agent.network import CandidatesPolicy, parts_of
from tuner.map_agent.policy import POLICY_FILE, MapPolicy
from tuner.map_agent.validation import by_rule, validate
from tuner.threads import share_cores

__all__ = ["MapTraining", "held_out", "train_map_agent"]

HELD_OUT = 5
"""Every so many experiments one is not trained on."""

LAST_RATE = 0.05
"""The learning rate at the end, as a part of the first."""

REWARD_SCALE = 5.0
"""So that returns are of the order of one, as the critic's loss is made for."""


@dataclass(frozen=True)
class MapTraining:
    """What is trained, and how. The defaults made the shipped policy.

    Attributes
    ----------
    steps : int
        Evaluations in training sessions.
    n_envs, n_steps, batch_size, n_epochs : int
    learning_rate : float
        At the start; it falls linearly to a twentieth.
    gamma, gae_lambda, clip_range, entropy : float
        Of PPO, as Stable-Baselines3 names them.
    imitation_steps : int
        Evaluations before the steps, from which the map's own rule is learnt.
    imitation_updates : int
        Gradient steps of that.
    checkpoints : int
        Checkpoint intervals, of equal length, that the steps are divided into.
    width : int
        Of all layers.
    reward : {"delta", "anytime"}
    price : float
        See `envs.environments.map_env.MapTuningEnv`.
    seed : int
    """

    steps: int = 30_000
    n_envs: int = 8
    n_steps: int = 128
    batch_size: int = 256
    n_epochs: int = 6
    learning_rate: float = 3e-4
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.003
    imitation_steps: int = 4_000
    imitation_updates: int = 1_500
    checkpoints: int = 6
    width: int = 32
    reward: str = "anytime"
    price: float = 0.002
    seed: int = 0


def held_out(records: Sequence[LookRecord]) -> tuple[list[LookRecord], list[LookRecord]]:
    """Return the experiments to train on, and those to choose the checkpoint by."""
    return (
        [each for number, each in enumerate(records) if number % HELD_OUT],
        [each for number, each in enumerate(records) if not number % HELD_OUT],
    )


def train_map_agent(
    training: MapTraining,
    looks: Path,
    directory: Path,
    *,
    resume: bool = False,
    on_checkpoint: Callable[[str, Row], None] = lambda what, row: None,
) -> MapPolicy:
    """Train the policy on the recorded looks of the family "train".

    Writes `POLICY_FILE`, ``curve.csv`` and a checkpoint.

    Parameters
    ----------
    training : MapTraining
    looks : Path
        What `experiments.record_looks` recorded.
    directory : Path
        New or empty, unless `resume`.
    resume : bool
        Go on where the training in the directory was stopped.
    on_checkpoint : callable
        Called with what was done, ``"rule"``, ``"imitation"`` or ``"PPO"``, and what
        `validate` gives of it.

    Raises
    ------
    InputError
        If there are no looks, or the directory holds another training, or one that is not to be
        resumed.
    """
    trained_on, chosen_by = held_out(read_look_records(looks, "train"))
    begin_training(training, directory, resume, POLICY_FILE, "curve.csv")
    share_cores(1)
    tasks = MapTasks(trained_on)
    model = _make_model(training, _make_env(training, tasks, 0))
    policy = model.policy
    assert isinstance(policy, CandidatesPolicy)
    rows = read_curve(directory)

    def checkpoint(what: str, seconds: float) -> None:
        found = MapPolicy(parts_of(policy))
        row = {"steps": float(model.num_timesteps), "seconds": seconds,
               **validate(found.act, chosen_by)}  # fmt: skip
        if row["score"] > max((each["score"] for each in rows[1:]), default=-np.inf):
            found.save(directory / "best" / POLICY_FILE)
        save_checkpoint(model, directory / "checkpoint.pt")
        rows.append(row)
        write_curve(directory, rows)
        on_checkpoint(what, row)

    if not rows:
        rows.append({"steps": 0.0, "seconds": 0.0, **validate(by_rule, chosen_by)})
        on_checkpoint("rule", rows[0])
        started = time.perf_counter()
        imitate(policy, _make_env(training, tasks, 1), training)
        checkpoint("imitation", time.perf_counter() - started)
    else:
        load_checkpoint(model, directory / "checkpoint.pt")
    for interval in range(len(rows) - 2, training.checkpoints):
        started = time.perf_counter()
        model.set_env(_make_env(training, tasks, interval + 2), force_reset=True)
        model.set_random_seed(_stream(training.seed, interval, 0))
        target = training.steps * (interval + 1) // training.checkpoints
        model.learn(target - model.num_timesteps, reset_num_timesteps=False)
        checkpoint("PPO", time.perf_counter() - started)
    best = MapPolicy.load(directory / "best" / POLICY_FILE)
    found = MapPolicy(best.parts, _provenance(training, rows, trained_on, chosen_by))
    found.save(directory / POLICY_FILE)
    return found


def _provenance(
    training: MapTraining,
    rows: Sequence[Row],
    trained_on: Sequence[LookRecord],
    chosen_by: Sequence[LookRecord],
) -> dict[str, Any]:
    return {
        "training": asdict(training),
        "experiments": len(trained_on),
        "held_out": [each.name for each in chosen_by],
        "rule": rows[0],
        "imitation": rows[1],
        "chosen": max(rows[1:], key=lambda row: row["score"]),
        "map_model": MapModel.shipped().version,
        "versions": {
            name: version(name) for name in ("sfx-tuner", "stable-baselines3", "torch", "numpy")
        },
    }


def imitate(policy: CandidatesPolicy, env: DummyVecEnv, training: MapTraining) -> None:
    """Teach the actor what the map's own rule does, on sessions that the actor plays itself.

    Behavioural cloning on the actor's own states, as in DAgger (Ross et al. 2011).
    """
    rng = np.random.default_rng(_stream(training.seed, 0, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
    observed = env.reset()
    infos: Sequence[dict[str, Any]] = env.reset_infos
    seen: list[dict[str, Any]] = []
    wanted: list[np.ndarray[Any, Any]] = []
    for step in range(max(training.imitation_steps // env.num_envs, 1)):
        assert isinstance(observed, dict)
        rule = np.array([info["rule"] for info in infos])
        seen.append({name: values.copy() for name, values in observed.items()})
        wanted.append(rule)
        action = rule.copy()
        if step > 20:
            with torch.no_grad():
                tensors = {name: torch.as_tensor(values) for name, values in observed.items()}
                drawn = policy.get_distribution(tensors).sample().numpy()
            action = np.where(rng.random(len(rule)) < 0.3, drawn, rule)
        observed, _, over, infos = env.step(action)
        infos = [env.reset_infos[n] if over[n] else infos[n] for n in range(env.num_envs)]
    shown = {name: np.concatenate([each[name] for each in seen]) for name in seen[0]}
    actions = torch.as_tensor(np.concatenate(wanted))
    for _ in range(training.imitation_updates):
        some = rng.integers(len(actions), size=256)
        logs, entropy = policy.log_probabilities(
            {name: values[some] for name, values in shown.items()}, actions[torch.as_tensor(some)]
        )
        loss = -logs.mean() - 0.02 * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _make_env(training: MapTraining, tasks: MapTasks, interval: int) -> DummyVecEnv:
    def make() -> Any:
        reward: Any = training.reward
        env = MapTuningEnv(tasks, reward=reward, price=training.price)
        return TransformReward(env, lambda reward: REWARD_SCALE * float(reward))

    envs = DummyVecEnv([make] * training.n_envs)
    envs.seed(_stream(training.seed, interval, 1) % 2**31)
    return envs


def _make_model(training: MapTraining, env: DummyVecEnv) -> PPO:
    """Return PPO on one core, whose learning rate falls linearly over the whole training."""
    with warnings.catch_warnings():
        # The last mini-batch of a round is a smaller one, which does no harm.
        warnings.filterwarnings("ignore", "You have specified a mini-batch size")
        model = PPO(
            CandidatesPolicy,
            env,
            learning_rate=training.learning_rate,
            n_steps=training.n_steps,
            batch_size=training.batch_size,
            n_epochs=training.n_epochs,
            gamma=training.gamma,
            gae_lambda=training.gae_lambda,
            clip_range=training.clip_range,
            ent_coef=training.entropy,
            policy_kwargs={"width": training.width},
            seed=training.seed,
            device="cpu",
        )
    # SB3 would let the rate fall to 0 in each checkpoint interval.
    model.lr_schedule = lambda _: (
        training.learning_rate * max(1 - model.num_timesteps / training.steps, LAST_RATE)
    )
    # Its own would leave a folder of logs in the temporary one.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def _stream(*key: int) -> int:
    """Return a seed for the random stream of a key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
