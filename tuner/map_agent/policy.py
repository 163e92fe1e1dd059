"""The agent's policy: a network that scores what is put up, and its file.

It is one safetensors file: numbers and a description, no code. A file that does not fit what this
version shows and lets choose is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from envs.response_map.model import MapModel
from envs.response_map.situation import (
    CANDIDATE_FEATURES,
    CANDIDATES,
    PORTIONS,
    SESSION_FEATURES,
    Situation,
)
from tuner.map_agent.layers import Floats, Layers, read_layers, run, shapes, write_layers
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.schema import read_json_text

__all__ = ["MODEL_FILE", "PARTS", "POLICY_FILE", "SHIPPED_POLICY", "MapPolicy"]

POLICY_FILE = "map_agent.safetensors"
"""Its name in a directory."""

MODEL_FILE = "response_map.safetensors"
"""Beside it, where there is a model of the map's own."""

SHIPPED_POLICY = Path(__file__).parents[1] / "data" / POLICY_FILE

FORMER_FILES = ("policy.safetensors", "policy.json")
"""Those of the first agent."""

FORMAT = "1"
REMEDY = "take the one that comes with the program, or train anew with `sfx-tuner train`"

PARTS = ("encoder", "head", "stop")
"""The networks: of a candidate beside the session, of a candidate's portions, of stopping."""

N_SESSION = len(SESSION_FEATURES)
N_BESIDE = len(CANDIDATE_FEATURES) + N_SESSION


@dataclass(frozen=True, eq=False)
class MapPolicy:
    """Scores what is up for choice; see `tuner.map_agent.network` for the form.

    Attributes
    ----------
    parts : mapping of str to Layers
        Of `PARTS`.
    provenance : mapping
        How it was trained: plain values.
    model : MapModel or None
        Of the response map that it goes by, where that was refined on a facility's own sessions
        (`tuner.map_agent.own_past`); None: the shipped one.
    """

    parts: Mapping[str, Layers]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    model: MapModel | None = None

    def scores(self, candidates: NDArray[np.floating], session: NDArray[np.floating]) -> Floats:
        """Return the logits (N_ACTIONS,) of all actions, those that are not there included."""
        beside = np.broadcast_to(session, (len(candidates), len(session)))
        codes = np.tanh(run(self.parts["encoder"], np.hstack([candidates, beside]), np.tanh))
        there = candidates[:, -1] > 0.5
        mean = codes[there].sum(axis=0) / max(there.sum(), 1)
        most = np.where(there[:, None], codes, -1.0).max(axis=0)
        pooled = np.concatenate([mean, most]).astype(np.float32)
        all_pooled = np.broadcast_to(pooled, (len(codes), len(pooled)))
        logits = run(self.parts["head"], np.hstack([codes, all_pooled]), np.tanh)
        stop = run(self.parts["stop"], np.concatenate([pooled, session]), np.tanh)
        return np.append(logits.ravel(), stop)

    def act(self, situation: Situation) -> int:
        """Return the action with the highest score of those that there are; nothing is drawn."""
        scores = self.scores(situation.candidates, situation.session)
        return int(np.argmax(np.where(situation.allowed, scores, -np.inf)))

    def save(self, path: Path) -> None:
        """Write the file."""
        tensors: dict[str, Floats] = {}
        for name in PARTS:
            tensors |= write_layers(name, self.parts[name])
        described = {
            "format": FORMAT,
            "interface": json.dumps(_interface()),
            "shapes": json.dumps({name: shapes(self.parts[name]) for name in PARTS}),
            "provenance": json.dumps(dict(self.provenance)),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, safetensors.numpy.save(tensors, described))
        if self.model is not None:
            self.model.save(path.with_name(MODEL_FILE))

    @classmethod
    def load(cls, path: Path = SHIPPED_POLICY) -> MapPolicy:
        """Read a policy, and the map's model where it lies beside it.

        Parameters
        ----------
        path : Path
            The file, or the directory that holds it.

        Raises
        ------
        InputError
            If it is missing or damaged, or was made for other observations or actions, or for
            the first agent.
        """
        path = _file_of(path)
        if not path.exists():
            raise InputError(f"no policy can be read from {path}: there is no such file; {REMEDY}")
        try:
            with safe_open(path, "numpy") as file:
                described = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"the policy {path} cannot be read ({error}): {REMEDY}") from None

        def told(what: str) -> Any:
            return read_json_text(described.get(what, "{}"), dict[str, Any], str(path), REMEDY)

        if described.get("format") != FORMAT or told("interface") != _interface():
            raise InputError(f"the policy {path} was made by another version: {REMEDY}")
        try:
            parts = _rebuilt(tensors, told("shapes"))
        except (ValueError, TypeError, LookupError) as error:
            raise InputError(f"the policy {path} is damaged ({error}): {REMEDY}") from None
        beside = path.with_name(MODEL_FILE)
        own = path != SHIPPED_POLICY and beside.exists()
        return cls(parts, told("provenance"), MapModel.load(beside) if own else None)

    @staticmethod
    @functools.cache
    def shipped() -> MapPolicy:
        """Return the policy that comes with the program."""
        return MapPolicy.load()


def _file_of(path: Path) -> Path:
    """Return the file of a policy that is named by its directory, or by itself."""
    former = path if path.name in FORMER_FILES else None
    if path.is_dir():
        held = [path / name for name in FORMER_FILES if (path / name).exists()]
        path = path / POLICY_FILE
        former = held[0] if held and not path.exists() else None
    if former is not None:
        raise InputError(
            f"{former} is a policy of the first agent, which was retired: leave --policy "
            "out for the shipped one of map-agent, which replaces it, or train one with "
            "`sfx-tuner train`"
        )
    return path


def _rebuilt(tensors: Mapping[str, NDArray[Any]], sizes: Mapping[str, Any]) -> dict[str, Layers]:
    """Return the networks; ValueError where they do not fit."""
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is not a finite float32 number")
    width = int(sizes["encoder"][-1][0])
    outside = {
        "encoder": (N_BESIDE, width),
        "head": (3 * width, len(PORTIONS)),
        "stop": (2 * width + N_SESSION, 1),
    }
    parts = {name: read_layers(name, tensors, sizes[name], *outside[name]) for name in PARTS}
    if {key for name in PARTS for key in write_layers(name, parts[name])} != tensors.keys():
        raise ValueError("it holds other tensors than it tells of")
    return parts


def _interface() -> dict[str, Any]:
    """Return what the weights are made for; the order of every list counts."""
    return {
        "candidates": CANDIDATES,
        "candidate_features": list(CANDIDATE_FEATURES),
        "session_features": list(SESSION_FEATURES),
        "portions": list(PORTIONS),
    }
