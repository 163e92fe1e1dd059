"""What the parts of a training share: its options, its experiments, its validation."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from envs.environments.rewards import Reward
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.networks import Layers
from tuner.agent.rollout import Rollout
from tuner.agent.training_curves import Row
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.outputs import require_new_folder
from wrappers.reading import open_regular, read_text
from wrappers.schema_arrays import read_arrays

__all__ = [
    "PpoOptions",
    "Training",
    "begin_training",
    "draw_pools",
    "layers_of",
    "load_checkpoint",
    "make_ppo",
    "save_checkpoint",
    "save_tensors",
    "saved_tensors",
    "stream",
    "validated",
    "versions",
]


@dataclass(frozen=True)
class PpoOptions:
    """What PPO is told of a training.

    Attributes
    ----------
    steps : int
        Of the whole training.
    n_envs, n_steps, batch_size, n_epochs : int
    learning_rate : float
        At the start.
    gamma, gae_lambda, clip_range, entropy : float
        As Stable-Baselines3 names them.
    """

    steps: int
    n_envs: int
    n_steps: int
    batch_size: int
    n_epochs: int
    learning_rate: float
    gamma: float
    gae_lambda: float
    clip_range: float
    entropy: float


@dataclass(frozen=True)
class Training(PpoOptions):
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
        See `envs.environments.batched_env.BatchedTuningEnv`.
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


def draw_pools(training: Training, directory: Path) -> tuple[SimulatedPool, SimulatedPool]:
    """Draw the experiments to train on and to validate with; keep what takes long to work out."""
    path = directory / "reachable.npz"
    sizes = {"train": training.n_experiments, "validation": training.n_validation}
    if path.exists():
        remedy = "remove it, it is worked out anew"
        known = read_arrays(path, "the best of the experiments", remedy)
        best = {}
        for name, n in sizes.items():
            rows = known.get(name, np.zeros(0)), known.get(f"{name}_optimum", np.zeros(0))
            if rows[0].shape != (n,) or rows[1].shape[:1] != (n,) or not np.isfinite(rows[0]).all():
                raise InputError(f"{path} is damaged ({name} is another array): {remedy}")
            best[name] = rows
        drawn = [SimulatedPool.draw(name, n, 0, best[name]) for name, n in sizes.items()]
    else:
        drawn = [SimulatedPool.draw(name, n, 0) for name, n in sizes.items()]
        content = io.BytesIO()
        np.savez(
            content,
            train=drawn[0].reachable,
            train_optimum=drawn[0].optimum,
            validation=drawn[1].reachable,
            validation_optimum=drawn[1].optimum,
        )
        write_whole(path, content.getvalue())
    return drawn[0], drawn[1]


def begin_training(training: Any, directory: Path, resume: bool, *outputs: str) -> None:
    """Keep a training's options in its directory, or see that they are those it was begun with.

    Parameters
    ----------
    training : dataclass
        The options.
    directory : Path
    resume : bool
        Whether a training that is there is gone on with.
    outputs : str
        Names of files that no other training may have left there.

    Raises
    ------
    InputError
        If the directory holds another training, or one that is not to be resumed.
    """
    path = directory / "training.json"
    text = json.dumps(asdict(training), indent=1) + "\n"
    if path.exists():
        if not resume:
            raise InputError(
                f"{directory} holds a training already: add --resume to go on with it, or name "
                "another directory"
            )
        if read_text(path, "the training") != text:
            raise InputError(
                f"{path} was begun with other options: give the same ones, or name another "
                "directory"
            )
    else:
        require_new_folder(directory, *outputs)
    write_whole(path, text)


def versions() -> dict[str, str]:
    """Return of what versions a policy was made with."""
    return {name: version(name) for name in ("sfx-tuner", "stable-baselines3", "torch", "numpy")}


def validated(rollouts: list[Rollout]) -> Row:
    """Return the regrets on validation, and their mean after 5, 10 and 20 as the score."""
    regret = np.mean([rollout.regrets.mean(axis=0) for rollout in rollouts], axis=0)
    row = {f"regret_{n}": float(regret[n - 1]) for n in (1, 5, 10, 20)}
    row["score"] = (row["regret_5"] + row["regret_10"] + row["regret_20"]) / 3
    return row


def stream(*key: int) -> int:
    """Return a seed for the random stream of a key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def save_tensors(state: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values; the file appears whole or not at all."""
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())


@contextmanager
def saved_tensors(path: Path) -> Iterator[dict[str, Any]]:
    """Return what `save_tensors` wrote; within the block what does not fit is an `InputError`.

    Raises
    ------
    InputError
        If the file is missing or damaged, or is that of another network.
    """
    try:
        # weights_only: nothing but tensors and plain values is read, no code is run.
        with open_regular(path, "the checkpoint") as stream:
            state = torch.load(stream, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it is no table")
        yield state
    except InputError:
        raise
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, MemoryError) as error:
        raise _damaged(path, error) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def make_ppo(
    policy: Any, env: VecEnv, training: PpoOptions, seed: int, *, last_rate: float, **kwargs: Any
) -> PPO:
    """Return PPO on one core, whose learning rate falls linearly over the whole training.

    Parameters
    ----------
    policy, env, seed
        As PPO takes them.
    training : PpoOptions
    last_rate : float
        The learning rate at the end, as a part of the first.
    **kwargs
        Of the policy.
    """
    with warnings.catch_warnings():
        # The last mini-batch of a round is a smaller one, which does no harm.
        warnings.filterwarnings("ignore", "You have specified a mini-batch size")
        model = PPO(
            policy,
            env,
            learning_rate=training.learning_rate,
            n_steps=training.n_steps,
            batch_size=training.batch_size,
            n_epochs=training.n_epochs,
            gamma=training.gamma,
            gae_lambda=training.gae_lambda,
            clip_range=training.clip_range,
            ent_coef=training.entropy,
            policy_kwargs=kwargs,
            seed=seed,
            device="cpu",
        )
    # SB3 would let the rate fall to 0 in each checkpoint interval.
    model.lr_schedule = lambda _: (
        training.learning_rate * max(1 - model.num_timesteps / training.steps, last_rate)
    )
    return model


def save_checkpoint(model: PPO, path: Path) -> None:
    """Write all that PPO needs to go on."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
    }
    save_tensors(state, path)


def load_checkpoint(model: PPO, path: Path) -> None:
    """Go on from what `save_checkpoint` wrote; raises as `saved_tensors` does."""
    with saved_tensors(path) as state:
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        model.num_timesteps = int(state["steps"])
        model._n_updates = int(state["updates"])


def _damaged(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0]
    return InputError(f"{path} is damaged ({reason}): remove {path.parent} to train that part anew")


def layers_of(network: torch.nn.Sequential) -> Layers:
    """Return copies of a network's weights and biases, without PyTorch."""
    return tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )
