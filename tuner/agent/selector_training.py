"""Training the selector to find which of a session's evaluations is truly the best.

A trained committee plays sessions on the training experiments, with moves of other searches mixed
in: steps aside, and points of the portfolio, as the fallback search has them. Of every session the
selector sees the first few evaluations, and learns to put its weight on those of the highest true
merit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from envs.environments.batched_env import LEAST_REACHABLE
from envs.environments.episodes import EpisodeKinds
from envs.observation import TaskBatch
from envs.response.simulated_pool import SimulatedPool
from tuner.agent.policy import Policy
from tuner.agent.rollout import play, roll_out
from tuner.agent.selector import N_INPUTS, Selector, selector_inputs
from tuner.agent.training_curves import Row, read_curve, write_curve
from tuner.agent.training_setup import (
    Training,
    draw_pools,
    layers_of,
    save_tensors,
    saved_tensors,
    stream,
    validated,
)
from tuner.agent.warm_start import WarmStart
from tuner.threads import share_cores, single_threaded_algebra
from wrappers.processes import end_with_parent

__all__ = ["SelectorNetwork", "Sessions", "play_sessions", "train_selector"]

LONGEST = 40
"""Evaluations of a session that the selector learns from."""

USUAL = 20
"""Evaluations that most of the samples do not go beyond."""

FRAMES = (50, 400)
"""Frames of a session's sample, from and to, drawn evenly on a log scale."""

STEPS_ASIDE = (0.0, 0.0, 0.1, 0.3)
"""Standard deviations that the actions of a session may be disturbed with."""

FROM_PORTFOLIO = (0.0, 0.0, 0.2, 0.5)
"""Shares of the evaluations that may be points of the portfolio instead."""

Array = NDArray[np.float64]


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
    pool, validation = draw_pools(training, directory)
    committee = _committee(training, directory)
    known = ("train", training.n_experiments, 0, (pool.reachable, pool.optimum))
    on_note(f"the actors play {training.selector_rounds * len(pool)} sessions for the selector")
    sessions = play_sessions(committee, known, training.selector_rounds, seed=0, jobs=jobs)
    single_threaded_algebra()
    torch.set_num_threads(jobs)  # its batches, unlike PPO's, are large enough to be shared
    torch.manual_seed(stream(0, 0, 3))
    network = SelectorNetwork(training.selector_width)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.selector_learning_rate)
    path = own / "checkpoint.pt"
    if rows:
        with saved_tensors(path) as state:
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
            rng=np.random.default_rng(stream(0, interval, 4)),
        )
        policy = replace(committee, selector=network.export())
        row = {
            "checkpoint": interval,
            "steps": (interval + 1) * steps * training.selector_batch,
            "seconds": time.perf_counter() - started,
            "reward": reward,
            **validated([roll_out(policy, validation, budget=20, draw=n) for n in range(3)]),
        }
        if row["score"] < best:
            best = row["score"]
            policy.save(own / "best")
        save_tensors({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
        rows.append(row)
        write_curve(own, rows)
        on_checkpoint("selector", row)


def _committee(training: Training, directory: Path) -> Policy:
    """Return the best checkpoints of all seeds as one policy, without a selector."""
    members = [Policy.load(directory / f"seed_{seed}" / "best") for seed in training.seeds]
    typical = np.mean([member.typical for member in members], axis=0)
    return Policy([member.actors[0] for member in members], typical, {})


@dataclass(frozen=True)
class Sessions:
    """Sessions to learn from: `rollout.Played`, true merits as shares of the reachable rate."""

    evaluations: NDArray[np.float32]
    merits: NDArray[np.float32]
    true_merits: NDArray[np.float32]
    facts: NDArray[np.float32]
    penalties: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.merits)


def play_sessions(
    policy: Policy,
    draw: tuple[str, int, int, tuple[Array, Array]],
    rounds: int,
    *,
    seed: int,
    jobs: int,
) -> Sessions:
    """Play every experiment of a draw so many times.

    Parameters
    ----------
    policy : Policy
    draw : tuple
        The arguments of `SimulatedPool.draw`.
    rounds : int
    seed : int
        Equal seeds give equal sessions, whatever the number of jobs.
    jobs : int
        Processes.
    """
    if jobs == 1:
        _prepare(policy, draw, 1)
        played = [_play_round(seed, number) for number in range(rounds)]
    else:
        # Spawned, not forked: a forked PyTorch may hang on the threads of its parent.
        with ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_prepare, initargs=(policy, draw, jobs)
        ) as pool:
            played = list(pool.map(_play_round, [seed] * rounds, range(rounds)))
    return Sessions(*(np.concatenate(columns) for columns in zip(*played, strict=True)))


_given: list[tuple[Policy, SimulatedPool]] = []


def _prepare(
    policy: Policy, draw: tuple[str, int, int, tuple[Array, Array]], processes: int
) -> None:
    """Draw the experiments, once a process; without those where nothing can be indexed."""
    end_with_parent()
    _given[:] = [(policy, SimulatedPool.draw(*draw).reaching(LEAST_REACHABLE))]
    share_cores(processes)


def _play_round(seed: int, number: int) -> tuple[NDArray[np.float32], ...]:
    policy, pool = _given[0]
    rng = np.random.default_rng([seed, number])
    n, kinds = len(pool), EpisodeKinds(frames=FRAMES)
    points = WarmStart.load().actions
    frames = kinds.draw_frames(n, rng)
    budgets = rng.integers(USUAL, LONGEST + 1, n)
    penalties, tuned = kinds.draw_penalties(n, rng), kinds.draw_tuned(n, rng)
    aside = rng.choice(STEPS_ASIDE, (n, 1))
    share = rng.choice(FROM_PORTFOLIO, n)
    everything = TaskBatch(pool.spaces, budgets, penalties)

    def moves(turn: int, actions: NDArray[np.floating]) -> NDArray[np.floating]:
        moved = actions + aside * rng.standard_normal(actions.shape)
        swapped = rng.random(n) < share
        return np.where(swapped[:, None], points[rng.integers(len(points), size=n)], moved)

    played = play(
        policy,
        pool,
        everything.take(np.arange(n), budgets, penalties, tuned),
        n_evaluations=LONGEST,
        n_frames=frames,
        draws=rng.integers(1, 2**31, n),
        moves=moves,
    )
    relative = played.true_merits / np.maximum(pool.reachable, LEAST_REACHABLE)[:, None]
    columns = (played.evaluations, played.merits, relative, played.facts, played.penalties)
    return tuple(column.astype(np.float32) for column in columns)


class SelectorNetwork(torch.nn.Module):
    """`Selector` as it is trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        linear, silu = torch.nn.Linear, torch.nn.SiLU
        self.encoder = torch.nn.Sequential(linear(N_INPUTS, width), silu(), linear(width, width))
        self.head = torch.nn.Sequential(
            linear(N_INPUTS + 2 * width, width), silu(), linear(width, width), silu(),
            linear(width, 1),
        )  # fmt: skip
        self.log_trust = torch.nn.Parameter(torch.tensor(3.0))
        # It begins by taking the highest merit.
        last = self.head[-1]
        torch.nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the scores (B, n) of the evaluations of B sessions, (B, n, N_INPUTS)."""
        codes = self.encoder(inputs)
        pooled = torch.cat([codes.mean(dim=1), codes.amax(dim=1)], dim=1)[:, None]
        pooled = pooled.expand(-1, inputs.shape[1], -1)
        score = self.head(torch.cat([inputs, pooled], dim=2))[..., 0]
        return torch.as_tensor(score + self.log_trust.exp() * inputs[..., -1])

    def export(self) -> Selector:
        """Return what needs no PyTorch."""
        trust = float(self.log_trust.detach().exp())
        return Selector(layers_of(self.encoder), layers_of(self.head), trust)

    def learn(
        self,
        sessions: Sessions,
        optimizer: torch.optim.Optimizer,
        *,
        steps: int,
        batch_size: int,
        rng: np.random.Generator,
    ) -> float:
        """Take so many steps up the mean true merit of the choice, and return its mean.

        The choice is a soft one, drawn with the softmax of the scores; the gradient ascends
        its expected true merit (a policy gradient with one step and known rewards).
        """
        total = 0.0
        for _ in range(steps):
            rows = rng.integers(len(sessions), size=batch_size)
            made = int(rng.integers(2, (LONGEST if rng.random() < 0.2 else USUAL) + 1))
            inputs = selector_inputs(
                sessions.evaluations[rows, :made], sessions.merits[rows, :made],
                sessions.facts[rows], sessions.penalties[rows],
            )  # fmt: skip
            truth = torch.as_tensor(np.clip(sessions.true_merits[rows, :made], -1, 1))
            expected = (torch.softmax(self(torch.as_tensor(inputs)), dim=1) * truth).sum(1).mean()
            optimizer.zero_grad()
            (-expected).backward()
            optimizer.step()
            total += float(expected.detach())
        return total / steps
