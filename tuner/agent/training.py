"""Training the agent: PPO on simulated experiments, checkpoints chosen on others.

Actors are trained from several random starts; together they are the committee. Then the selector
learns from sessions that the committee plays. Both are divided into checkpoint intervals. Each
interval begins from the weights of the one before, with random streams of its own, so a training
that was stopped and resumed is the one that never stopped. Only the families "train" and
"validation" are drawn here.
"""

from __future__ import annotations

import json
import time
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO

from envs.batched_env import BatchedTuningEnv, EpisodeKinds
from envs.observation import OBSERVATION_SIZE
from envs.response.simulated_pool import SimulatedPool
from envs.tuning_env import Reward
from tuner.agent.policy import Policy
from tuner.agent.rollout import Rollout, roll_out
from tuner.agent.selector_training import SelectorNetwork, layers_of, play_sessions
from tuner.agent.training_curves import Row, draw_curves, read_curve, write_curve
from tuner.threads import share_cores, single_threaded_algebra
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["Training", "train"]


@dataclass(frozen=True)
class Training:
    """What is trained, and how. The defaults made the shipped policy.

    Attributes
    ----------
    seeds : tuple of int
        Actors whose trainings differ in nothing else.
    steps : int
        Evaluations that each of them sees.
    imitation_steps : int
        Evaluations of the imitation pre-training before them; see `imitate`.
    checkpoints : int
        Checkpoint intervals, of equal length, that the steps are divided into.
    n_experiments, n_validation : int
        Simulated experiments to train on and to choose the checkpoint on.
    n_envs, n_steps, batch_size, n_epochs : int
    learning_rate : float
        At the start; it falls linearly to 0.
    gamma, gae_lambda, clip_range, entropy, log_std : float
        Of PPO, as Stable-Baselines3 names them.
    hidden : tuple of int
        Widths of the hidden layers.
    reward : {"delta", "gain", "rate", "incumbent"}
    by_truth : bool
    price_of_a_second : float
        See `envs.batched_env.BatchedTuningEnv`.
    selector_rounds : int
        Sessions on each experiment that the selector learns from.
    selector_steps, selector_batch, selector_width, selector_checkpoints : int
        Its gradient steps, sessions a step, width of its layers, checkpoints.
    selector_learning_rate : float
        At the start; it falls linearly to 0.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 1_500_000
    imitation_steps: int = 500_000
    checkpoints: int = 15
    n_experiments: int = 4096
    n_validation: int = 512
    n_envs: int = 256
    n_steps: int = 20
    batch_size: int = 2048
    n_epochs: int = 5
    learning_rate: float = 2e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.0
    log_std: float = -1.5
    hidden: tuple[int, ...] = (128, 128)
    reward: Reward = "incumbent"
    by_truth: bool = True
    price_of_a_second: float = 0.0
    selector_rounds: int = 16
    selector_steps: int = 4000
    selector_batch: int = 1024
    selector_width: int = 64
    selector_checkpoints: int = 8
    selector_learning_rate: float = 3e-3


def train(
    training: Training,
    directory: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    on_checkpoint: Callable[[str, Row], None] = lambda what, row: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Policy:
    """Train the actors and the selector; of each, take the checkpoint that does best on validation.

    Writes ``policy.json`` and ``policy.safetensors``, ``curves.csv`` and ``curves.png``, and
    for each seed and the selector their checkpoints.

    Parameters
    ----------
    training : Training
    directory : Path
        New or empty, unless `resume`.
    jobs : int
        Seeds that are trained at the same time, one process each.
    resume : bool
        Go on where the training in the directory was stopped.
    on_checkpoint : callable
        Called with what is trained, ``"seed 0"`` or ``"selector"``, and the row of its curve after
        each checkpoint interval.
    on_note : callable
        Called with what takes minutes and is no checkpoint interval, in words.

    Raises
    ------
    InputError
        If the directory holds another training, or one that is not to be resumed.
    """
    _begin(training, directory, resume)
    _pools(training, directory)  # once, before every seed would
    seen: dict[int, int] = {}

    def tell() -> None:
        for seed in training.seeds:
            rows = read_curve(directory / f"seed_{seed}")
            for row in rows[seen.get(seed, 0) :]:
                on_checkpoint(f"seed {seed}", row)
            seen[seed] = len(rows)

    # Spawned, not forked: a forked PyTorch may hang on the threads of its parent.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(train_seed, training, seed, directory / f"seed_{seed}", jobs)
            for seed in training.seeds
        ]
        while not all(future.done() for future in futures):
            tell()
            time.sleep(0.5)
        for future in as_completed(futures):
            future.result()
    tell()
    train_selector(training, directory, jobs, on_checkpoint, on_note)
    return _put_together(training, directory)


def train_seed(training: Training, seed: int, directory: Path, processes: int = 1) -> None:
    """Train one seed, or go on with it; the best checkpoint is kept in ``directory/best``.

    So many `processes` share the machine.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pool, validation = _pools(training, directory.parent)
    share_cores(processes)
    rows = read_curve(directory)
    model = _make_model(training, seed, _make_env(training, pool, seed, 0))
    if rows:
        _load_checkpoint(model, directory / "checkpoint.pt")
    elif training.imitation_steps:
        imitate(model, _make_env(training, pool, seed, 0), training.imitation_steps)
    best = min((row["score"] for row in rows), default=np.inf)
    for interval in range(len(rows), training.checkpoints):
        started = time.perf_counter()
        model.set_env(_make_env(training, pool, seed, interval), force_reset=True)
        model.set_random_seed(_stream(seed, interval, 0))
        target = training.steps * (interval + 1) // training.checkpoints
        model.learn(target - model.num_timesteps, reset_num_timesteps=False)
        policy = export(model)
        rollout = roll_out(policy, validation, budget=20)
        row = {
            "checkpoint": interval,
            "steps": model.num_timesteps,
            "seconds": time.perf_counter() - started,
            "reward": float(np.mean([episode["r"] for episode in model.ep_info_buffer or []])),
            "std": _spread(model),
            **_validated([rollout]),
        }
        if row["score"] < best:
            best = row["score"]
            replace(policy, typical=rollout.typical).save(directory / "best")
        _save_checkpoint(model, directory / "checkpoint.pt")
        rows.append(row)
        write_curve(directory, rows)


def train_selector(
    training: Training,
    directory: Path,
    jobs: int = 1,
    on_checkpoint: Callable[[str, Row], None] = lambda what, row: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> None:
    """Train the selector of the committee, or go on with it; see ``directory/selector``."""
    own = directory / "selector"
    own.mkdir(exist_ok=True)
    rows = read_curve(own)
    if len(rows) == training.selector_checkpoints:
        return
    pool, validation = _pools(training, directory)
    committee = _committee(training, directory)
    known = ("train", training.n_experiments, 0, (pool.reachable, pool.optimum))
    on_note(f"the actors play {training.selector_rounds * len(pool)} sessions for the selector")
    sessions = play_sessions(committee, known, training.selector_rounds, seed=0, jobs=jobs)
    single_threaded_algebra()
    torch.set_num_threads(jobs)  # its batches, unlike PPO's, are large enough to be shared
    torch.manual_seed(_stream(0, 0, 3))
    network = SelectorNetwork(training.selector_width)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.selector_learning_rate)
    path = own / "checkpoint.pt"
    if rows:
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    best = min((row["score"] for row in rows), default=np.inf)
    steps = training.selector_steps // training.selector_checkpoints
    for interval in range(len(rows), training.selector_checkpoints):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = training.selector_learning_rate * (
                1 - interval / training.selector_checkpoints
            )
        reward = network.learn(
            sessions,
            optimizer,
            steps=steps,
            batch_size=training.selector_batch,
            rng=np.random.default_rng(_stream(0, interval, 4)),
        )
        policy = replace(committee, selector=network.export())
        row = {
            "checkpoint": interval,
            "steps": (interval + 1) * steps * training.selector_batch,
            "seconds": time.perf_counter() - started,
            "reward": reward,
            **_validated([roll_out(policy, validation, budget=20, draw=n) for n in range(3)]),
        }
        if row["score"] < best:
            best = row["score"]
            policy.save(own / "best")
        _save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
        rows.append(row)
        write_curve(own, rows)
        on_checkpoint("selector", row)


def _committee(training: Training, directory: Path) -> Policy:
    """Return the best checkpoints of all seeds as one policy, without a selector."""
    members = [Policy.load(directory / f"seed_{seed}" / "best") for seed in training.seeds]
    typical = np.mean([member.typical for member in members], axis=0)
    return Policy([member.actors[0] for member in members], typical, {})


def _validated(rollouts: list[Rollout]) -> Row:
    """Return the regrets on validation, and their mean after 5, 10 and 20 as the score."""
    regret = np.mean([rollout.regrets.mean(axis=0) for rollout in rollouts], axis=0)
    row = {f"regret_{n}": float(regret[n - 1]) for n in (1, 5, 10, 20)}
    row["score"] = (row["regret_5"] + row["regret_10"] + row["regret_20"]) / 3
    return row


def _pools(training: Training, directory: Path) -> tuple[SimulatedPool, SimulatedPool]:
    """Draw the experiments to train on and to validate with; keep what takes long to work out."""
    path = directory / "reachable.npz"
    sizes = {"train": training.n_experiments, "validation": training.n_validation}
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as known:
                best = {name: (known[name], known[f"{name}_optimum"]) for name in sizes}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} is damaged ({error}): remove it, it is worked out anew"
            ) from error
        drawn = [SimulatedPool.draw(name, n, 0, best[name]) for name, n in sizes.items()]
    else:
        drawn = [SimulatedPool.draw(name, n, 0) for name, n in sizes.items()]
        with path.with_suffix(".part").open("wb") as stream:
            np.savez(
                stream,
                train=drawn[0].reachable,
                train_optimum=drawn[0].optimum,
                validation=drawn[1].reachable,
                validation_optimum=drawn[1].optimum,
            )
        path.with_suffix(".part").replace(path)
    return drawn[0], drawn[1]


def imitate(model: PPO, env: BatchedTuningEnv, steps: int, learning_rate: float = 1e-3) -> None:
    """Teach the actor to guess the best settings from what it sees, before it is rewarded.

    The actor plays with noise of various sizes, and learns after every step by regression on
    the actions that only the simulator knows to be best (behavioural cloning on the actor's own
    states, as in DAgger, Ross et al. 2011). That gives a guess such as the mean of what is
    possible; where to look in order to learn more is left to the rewards.
    """
    rng = np.random.default_rng(_stream(int(model.seed or 0), 0, 2))
    actor = _actor(model)
    optimizer = torch.optim.Adam(actor.parameters(), lr=learning_rate)
    noise = rng.choice([0.0, 0.1, 0.3, 0.7], size=(env.num_envs, 1))
    observation = np.asarray(env.reset())
    rounds = max(steps // env.num_envs, 1)
    for done in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - done / rounds)
        best, matters = (torch.as_tensor(array) for array in env.best_actions())
        mean = actor(torch.as_tensor(observation))
        loss = (torch.where(matters, mean - best, 0.0) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        action = mean.detach().numpy() + noise * rng.standard_normal(mean.shape)
        env.step_async(np.clip(action, -1, 1).astype(np.float32))
        observation = np.asarray(env.step_wait()[0])


def export(model: PPO) -> Policy:
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


def _stream(*key: int) -> int:
    """Return a seed for the random stream of a key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _make_env(
    training: Training, pool: SimulatedPool, seed: int, interval: int
) -> BatchedTuningEnv:
    return BatchedTuningEnv(
        pool,
        n_envs=training.n_envs,
        seed=_stream(seed, interval, 1),
        kinds=EpisodeKinds(),
        reward=training.reward,
        by_truth=training.by_truth,
        price_of_a_second=training.price_of_a_second,
    )


def _make_model(training: Training, seed: int, env: BatchedTuningEnv) -> PPO:
    with warnings.catch_warnings():
        # The last mini-batch of a round is a smaller one, which does no harm.
        warnings.filterwarnings("ignore", "You have specified a mini-batch size")
        model = PPO(
            "MlpPolicy",
            env,
            learning_rate=training.learning_rate,
            n_steps=training.n_steps,
            batch_size=training.batch_size,
            n_epochs=training.n_epochs,
            gamma=training.gamma,
            gae_lambda=training.gae_lambda,
            clip_range=training.clip_range,
            ent_coef=training.entropy,
            policy_kwargs={
                "net_arch": {"pi": list(training.hidden), "vf": list(training.hidden)},
                "activation_fn": torch.nn.Tanh,
                "log_std_init": training.log_std,
            },
            seed=seed,
            device="cpu",
        )
    # SB3 would let the rate fall to 0 in each interval; it falls once, over the whole training.
    model.lr_schedule = lambda _: (
        training.learning_rate * max(1 - model.num_timesteps / training.steps, 0.0)
    )
    return model


def _save_checkpoint(model: PPO, path: Path) -> None:
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
    }
    _save(state, path)


def _save(state: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _load_checkpoint(model: PPO, path: Path) -> None:
    # weights_only: nothing but tensors and plain values is read, no code is run.
    state = torch.load(path, weights_only=True)
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps = state["steps"]
    model._n_updates = state["updates"]


def _begin(training: Training, directory: Path, resume: bool) -> None:
    path = directory / "training.json"
    text = json.dumps(asdict(training), indent=1) + "\n"
    if path.exists():
        if not resume:
            raise InputError(
                f"{directory} holds a training already: add --resume to go on with it, or name "
                "another directory"
            )
        if path.read_text() != text:
            raise InputError(
                f"{path} was begun with other options: give the same ones, or name another "
                "directory"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be made: {error.strerror}") from error
    write_whole(path, text)


def _put_together(training: Training, directory: Path) -> Policy:
    """Write the committee with its selector, and how they came about."""
    curves = {f"seed {seed}": read_curve(directory / f"seed_{seed}") for seed in training.seeds}
    selected = read_curve(directory / "selector")
    row = min(selected, key=lambda row: row["score"])
    provenance = {
        "training": asdict(training),
        "validation": {name: row[name] for name in ("regret_5", "regret_10", "regret_20")},
        "validation_score": row["score"],
        "validation_score_of_actors": {
            name: min(row["score"] for row in rows) for name, rows in curves.items()
        },
        "versions": {
            name: version(name) for name in ("sfx-tuner", "stable-baselines3", "torch", "numpy")
        },
    }
    policy = replace(Policy.load(directory / "selector" / "best"), provenance=provenance)
    policy.save(directory)
    frame = pd.concat(
        [
            pd.DataFrame(rows).assign(of=name)
            for name, rows in (curves | {"selector": selected}).items()
        ],
        ignore_index=True,
    )
    write_whole(directory / "curves.csv", frame.to_csv(index=False))
    draw_curves(curves, selected, directory / "curves.png")
    return policy
