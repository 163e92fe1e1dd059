"""Training one actor: imitation pre-training, then PPO, with checkpoints in between."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import PPO

from envs.environments.batched_env import BatchedTuningEnv
from envs.observation import OBSERVATION_SIZE
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import Policy
from tuner.agent.rollout import roll_out
from tuner.agent.stable_baselines import StableBaselinesEnv
from tuner.agent.training_curves import read_curve, write_curve
from tuner.agent.training_setup import (
    Training,
    draw_pools,
    layers_of,
    load_checkpoint,
    make_ppo,
    save_checkpoint,
    stream,
    validated,
)
from tuner.threads import share_cores

__all__ = ["train_seed"]


def train_seed(training: Training, seed: int, directory: Path, processes: int = 1) -> None:
    """Train one seed, or go on with it; the best checkpoint is kept in ``directory/best``.

    So many `processes` share the machine.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pool, validation = draw_pools(training, directory.parent)
    share_cores(processes)
    rows = read_curve(directory)
    model = _make_model(training, seed, _make_env(training, pool, seed, 0))
    if rows:
        load_checkpoint(model, directory / "checkpoint.pt")
    elif training.imitation_steps:
        imitate(model, _make_env(training, pool, seed, 0), training.imitation_steps)
    best = min((row["score"] for row in rows), default=np.inf)
    for interval in range(len(rows), training.checkpoints):
        started = time.perf_counter()
        model.set_env(_make_env(training, pool, seed, interval), force_reset=True)
        model.set_random_seed(stream(seed, interval, 0))
        target = training.steps * (interval + 1) // training.checkpoints
        model.learn(target - model.num_timesteps, reset_num_timesteps=False)
        policy = _export(model)
        rollout = roll_out(policy, validation, budget=20)
        row = {
            "checkpoint": interval,
            "steps": model.num_timesteps,
            "seconds": time.perf_counter() - started,
            "reward": float(np.mean([episode["r"] for episode in model.ep_info_buffer or []])),
            "std": _spread(model),
            **validated([rollout]),
        }
        if row["score"] < best:
            best = row["score"]
            replace(policy, typical=rollout.typical).save(directory / "best")
        save_checkpoint(model, directory / "checkpoint.pt")
        rows.append(row)
        write_curve(directory, rows)


def imitate(model: PPO, env: StableBaselinesEnv, steps: int, learning_rate: float = 1e-3) -> None:
    """Teach the actor to guess the best settings from what it sees, before it is rewarded.

    The actor plays with noise of various sizes, and learns after every step by regression on
    the actions that only the simulator knows to be best (behavioural cloning on the actor's own
    states, as in DAgger, Ross et al. 2011). That gives a guess such as the mean of what is
    possible; where to look in order to learn more is left to the rewards.
    """
    rng = np.random.default_rng(stream(int(model.seed or 0), 0, 2))
    actor = _actor(model)
    optimizer = torch.optim.Adam(actor.parameters(), lr=learning_rate)
    noise = rng.choice([0.0, 0.1, 0.3, 0.7], size=(env.num_envs, 1))
    observation = np.asarray(env.reset())
    rounds = max(steps // env.num_envs, 1)
    for done in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - done / rounds)
        best, matters = (torch.as_tensor(array) for array in env.env.best_actions())
        mean = actor(torch.as_tensor(observation))
        loss = (torch.where(matters, mean - best, 0.0) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        action = mean.detach().numpy() + noise * rng.standard_normal(mean.shape)
        observation = np.asarray(env.step(np.clip(action, -1, 1).astype(np.float32))[0])


def _export(model: PPO) -> Policy:
    """Return the actor of a PPO model as a policy, without what is typical."""
    return Policy([layers_of(_actor(model))], np.zeros(OBSERVATION_SIZE, np.float32), {})


def _actor(model: PPO) -> torch.nn.Sequential:
    """Return the network from observations to mean actions, sharing the model's weights."""
    body, head = model.policy.mlp_extractor.policy_net, model.policy.action_net
    assert isinstance(body, torch.nn.Sequential)
    assert isinstance(head, torch.nn.Linear)
    return torch.nn.Sequential(*body, head)


def _spread(model: PPO) -> float:
    """Return the mean standard deviation of the actions."""
    log_std = model.policy.log_std
    assert isinstance(log_std, torch.Tensor)
    return float(log_std.detach().exp().mean())


def _make_env(
    training: Training, pool: SimulatedPool, seed: int, interval: int
) -> StableBaselinesEnv:
    env = BatchedTuningEnv(
        pool,
        num_envs=training.n_envs,
        reward=training.reward,
        by_truth=training.by_truth,
        price_of_a_second=training.price_of_a_second,
        relative=True,
    )
    return StableBaselinesEnv(env, stream(seed, interval, 1))


def _make_model(training: Training, seed: int, env: StableBaselinesEnv) -> PPO:
    return make_ppo(
        "MlpPolicy",
        env,
        training,
        seed,
        last_rate=0.0,
        net_arch={"pi": list(training.hidden), "vf": list(training.hidden)},
        activation_fn=torch.nn.Tanh,
        log_std_init=training.log_std,
    )
