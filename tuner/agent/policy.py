"""The trained policy, and how it is kept in files.

A policy is a directory or package folder with ``policy.safetensors`` (the weights) and
``policy.json`` (what they are for). Loading them runs no code that a file was made to carry, and
a file that does not fit what this version observes and does is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from envs.observation import FACTS, FEATURES, MEMORY, OBSERVATION_SIZE, POLICY_PARAMETERS
from tuner.agent.networks import Floats, Layers, read_layers, run, shapes, write_layers
from tuner.agent.selector import N_INPUTS, Judge, judge_inputs
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["SHIPPED", "Policy"]

SHIPPED = Path(__file__).parents[1] / "data"
"""Where the policy that comes with the program is."""

FORMAT = 2


@dataclass(frozen=True)
class Policy:
    """A committee of actors that take turns, and the judge of what they tried.

    The actors are multilayer perceptrons from observations to actions, tanh between their layers,
    that were trained from different random starts. One alone soon wiggles where it is; each sees
    what the others found, and would go elsewhere.

    Attributes
    ----------
    actors : sequence of Layers
    typical : float32 array (OBSERVATION_SIZE,)
        The mean observation in training, which explanations compare with.
    provenance : mapping
        How it was trained: plain values.
    judge : Judge or None
        Without one the highest merit is taken.
    """

    actors: Sequence[Layers]
    typical: Floats
    provenance: Mapping[str, Any]
    judge: Judge | None = None

    def act(self, observations: NDArray[np.floating], turn: int) -> Floats:
        """Return the actions (B, d) in [-1, 1] for observations (B, OBSERVATION_SIZE).

        Equal observations at an equal turn, the number of evaluations made, give equal actions:
        nothing is drawn.
        """
        actor = self.actors[turn % len(self.actors)]
        return np.clip(run(actor, observations, np.tanh), -1, 1)

    def choose(
        self,
        evaluations: NDArray[np.floating],
        merits: NDArray[np.floating],
        facts: NDArray[np.floating],
        prices: NDArray[np.floating],
        n_frames: ArrayLike,
    ) -> NDArray[np.int64]:
        """Return which of n evaluations (B,) to recommend; see `judge_inputs` for the arrays.

        The judge decides among those near the highest merit; without one it is the highest.
        """
        if self.judge is None:
            return np.asarray(merits.argmax(axis=1))
        inputs = judge_inputs(evaluations, merits, facts, prices)
        return self.judge.choose(inputs, merits, n_frames)

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json``."""
        judge = self.judge
        data = safetensors.numpy.save(self._tensors())
        described = {
            "format": FORMAT,
            **_interface(),
            "actors": [shapes(actor) for actor in self.actors],
            "judge": judge and {"encoder": shapes(judge.encoder), "head": shapes(judge.head)},
            "sha256": hashlib.sha256(data).hexdigest(),
            "provenance": dict(self.provenance),
        }
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "policy.safetensors", data)
        write_whole(directory / "policy.json", json.dumps(described, indent=1) + "\n")

    def _tensors(self) -> dict[str, Floats]:
        tensors = {"typical": np.ascontiguousarray(self.typical, np.float32)}
        for number, actor in enumerate(self.actors):
            tensors |= write_layers(f"actor_{number}", actor)
        if self.judge is not None:
            tensors |= write_layers("judge.encoder", self.judge.encoder)
            tensors |= write_layers("judge.head", self.judge.head)
            tensors["judge.trust"] = np.array([self.judge.trust], np.float32)
        return tensors

    @classmethod
    def load(cls, directory: Path = SHIPPED) -> Policy:
        """Read a policy.

        Raises
        ------
        InputError
            If a file is missing or damaged, or was made for other observations or actions.
        """
        path, weights_path = directory / "policy.json", directory / "policy.safetensors"
        try:
            described = json.loads(path.read_text())
            data = weights_path.read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(
                f"no policy can be read from {directory}: {error}; `sfx-tuner train` makes one"
            ) from error
        if not isinstance(described, dict):
            raise InputError(f"{path} is not the description of a policy")
        for key, ours in {"format": FORMAT, **_interface()}.items():
            if described.get(key) != ours:
                raise InputError(
                    f"{path} was made by another version: its {key} is {described.get(key)!r}, "
                    f"but this one needs {ours!r}; take the matching version or train anew"
                )
        if hashlib.sha256(data).hexdigest() != described.get("sha256"):
            raise InputError(
                f"{weights_path} does not belong to {path}: its SHA-256 differs; take both files "
                "from one place"
            )
        try:
            tensors = safetensors.numpy.load(data)
            policy = _rebuild(tensors, described)
            if policy._tensors().keys() != tensors.keys():
                raise ValueError("it holds other tensors than its policy.json tells of")
        except (safetensors.SafetensorError, ValueError, TypeError, LookupError) as error:
            raise InputError(f"{directory} holds a damaged policy: {error}") from error
        return policy


def _rebuild(tensors: Mapping[str, NDArray[Any]], described: Mapping[str, Any]) -> Policy:
    """Return the policy that the tensors make; ValueError where they do not fit."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is not a finite float32 number")
    n_out = len(POLICY_PARAMETERS)
    actors = tuple(
        read_layers(f"actor_{number}", tensors, sizes, OBSERVATION_SIZE, n_out)
        for number, sizes in enumerate(described["actors"])
    )
    judge = None
    sizes = described["judge"]
    if sizes is not None:
        n_code = sizes["encoder"][-1][0]
        judge = Judge(
            read_layers("judge.encoder", tensors, sizes["encoder"], N_INPUTS, n_code),
            read_layers("judge.head", tensors, sizes["head"], N_INPUTS + 2 * n_code, 1),
            float(tensors["judge.trust"][0]),
        )
    if not actors or tensors["typical"].shape != (OBSERVATION_SIZE,):
        raise ValueError("it has no actor, or its typical observation is of another length")
    return Policy(actors, tensors["typical"], dict(described.get("provenance") or {}), judge)


def _interface() -> dict[str, Any]:
    """Return what the weights are made for; the order of every list counts."""
    return {
        "actions": list(POLICY_PARAMETERS),
        "features": list(FEATURES),
        "facts": list(FACTS),
        "memory": MEMORY,
        "activations": ["tanh", "silu"],
        "observation_size": OBSERVATION_SIZE,
    }
