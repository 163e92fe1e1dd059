"""The trained policy, and how it is kept in files.

A policy is a directory or package folder with ``policy.safetensors`` (the weights) and
``policy.json`` (what they are for). Loading them runs no code that a file was made to carry, and
a file that does not fit what this version observes and does is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors
import safetensors.numpy
from annotated_types import MinLen
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypedDict

from envs.box import POLICY_PARAMETERS
from envs.objective import USUAL_MERIT, Merit
from envs.observation import FACTS, FEATURES, MEMORY, OBSERVATION_SIZE
from tuner.agent.networks import Floats, Layers, read_layers, run, shapes, write_layers
from tuner.agent.selector import N_INPUTS, Selector, selector_inputs
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.reading import read_bytes
from wrappers.schema import Count, read_json, validated

__all__ = ["SHIPPED", "Policy"]

SHIPPED = Path(__file__).parents[1] / "data"
"""Where the policy that comes with the program is."""

FORMAT = 3
REMEDY = "take both files of the policy from one place, or train anew"


@dataclass(frozen=True)
class Policy:
    """A committee of actors that take turns, and the selector of what they tried.

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
    selector : Selector or None
        Without one the highest merit is taken.
    merit : Merit
        What it was trained to maximise; a session with another one is refused.
    """

    actors: Sequence[Layers]
    typical: Floats
    provenance: Mapping[str, Any]
    selector: Selector | None = None
    merit: Merit = USUAL_MERIT

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
        penalties: NDArray[np.floating],
        n_frames: ArrayLike,
    ) -> NDArray[np.int64]:
        """Return which of n evaluations (B,) to recommend; see `selector_inputs` for the arrays.

        The selector decides among those near the highest merit; without one it is the highest.
        """
        if self.selector is None:
            return np.asarray(merits.argmax(axis=1))
        inputs = selector_inputs(evaluations, merits, facts, penalties)
        return self.selector.choose(inputs, merits, n_frames)

    def save(self, directory: Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json``."""
        selector = self.selector
        data = safetensors.numpy.save(self._tensors())
        described = {
            "format": FORMAT,
            **_interface(),
            "merit": self.merit.as_dict(),
            "actors": [shapes(actor) for actor in self.actors],
            "selector": selector
            and {"encoder": shapes(selector.encoder), "head": shapes(selector.head)},
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
        if self.selector is not None:
            tensors |= write_layers("selector.encoder", self.selector.encoder)
            tensors |= write_layers("selector.head", self.selector.head)
            tensors["selector.trust"] = np.array([self.selector.trust], np.float32)
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
        if not path.exists() or not weights_path.exists():
            raise InputError(
                f"no policy can be read from {directory}: it holds no {path.name} with "
                f"{weights_path.name}; `sfx-tuner train` makes them"
            )
        described = _upgraded(read_json(path, dict[str, Any], "the policy", REMEDY))
        data = read_bytes(weights_path, "the policy's weights")
        for key, ours in {"format": FORMAT, **_interface()}.items():
            if described.get(key) != ours:
                raise InputError(
                    f"{path} was made by another version: its {key} is {described.get(key)!r}, "
                    f"but this one needs {ours!r}; take the matching version or train anew"
                )
        made = {name: described[name] for name in _Made.__annotations__ if name in described}
        known = validated(made, _Made, str(path), REMEDY)
        if hashlib.sha256(data).hexdigest() != known.sha256:
            raise InputError(
                f"{weights_path} does not belong to {path}: its SHA-256 differs; take both files "
                "from one place"
            )
        try:
            tensors = _renamed(safetensors.numpy.load(data))
            policy = _rebuild(tensors, known)
            if policy._tensors().keys() != tensors.keys():
                raise ValueError("it holds other tensors than its policy.json tells of")
        except (safetensors.SafetensorError, ValueError, TypeError, LookupError) as error:
            raise InputError(f"{directory} holds a damaged policy: {error}") from error
        return policy


class _Selector(TypedDict):
    encoder: Annotated[list[tuple[Count, Count]], MinLen(1)]
    head: list[tuple[Count, Count]]


@dataclass(frozen=True)
class _Made:
    """What ``policy.json`` says of the weights beside what they are made for."""

    sha256: str
    actors: list[list[tuple[Count, Count]]]
    selector: _Selector | None
    merit: Merit
    provenance: dict[str, Any] = field(default_factory=dict)


def _upgraded(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a description of format 2 as one of `FORMAT`, any other as it is.

    Format 2 called the selector "judge", and did not say for which merit it was trained.
    """
    if described.get("format") != 2:
        return described
    renamed = {"selector" if key == "judge" else key: value for key, value in described.items()}
    return renamed | {"format": FORMAT, "merit": Merit().as_dict()}


def _renamed(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors by the names of `FORMAT`; see `_upgraded`."""
    return {name.replace("judge.", "selector.", 1): array for name, array in tensors.items()}


def _rebuild(tensors: Mapping[str, NDArray[Any]], made: _Made) -> Policy:
    """Return the policy that the tensors make; ValueError where they do not fit."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is not a finite float32 number")
    n_out = len(POLICY_PARAMETERS)
    actors = tuple(
        read_layers(f"actor_{number}", tensors, sizes, OBSERVATION_SIZE, n_out)
        for number, sizes in enumerate(made.actors)
    )
    selector = None
    if (sizes := made.selector) is not None:
        n_code = sizes["encoder"][-1][0]
        selector = Selector(
            read_layers("selector.encoder", tensors, sizes["encoder"], N_INPUTS, n_code),
            read_layers("selector.head", tensors, sizes["head"], N_INPUTS + 2 * n_code, 1),
            float(tensors["selector.trust"][0]),
        )
    if not actors or tensors["typical"].shape != (OBSERVATION_SIZE,):
        raise ValueError("it has no actor, or its typical observation is of another length")
    return Policy(actors, tensors["typical"], made.provenance, selector, made.merit)


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
