"""What became of every frame of an experiment with every parameter set of a design, in a file.

The frozen benchmark on frames is made of such files: the peaks counted and the lists indexed once,
so that any searcher can be tried on them at no cost (`envs.evaluators.recorded`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.parameter_space import DEFAULT_TUNED, Known, ParameterSpace, make_space
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.schema import read_json_text
from wrappers.schema_arrays import read_arrays
from wrappers.settings import Settings

__all__ = ["RECORDS", "AboutRecord", "FrameRecord", "coded_seconds", "decoded_seconds"]

RECORDS = Path(__file__).parents[1] / "data" / "frames"
"""Where the records are that come with the program."""

VERSION = 1
WITH_EMBEDDED = 2
"""The version of records that hold the embedded indexer's answers beside another one's."""

REMEDY = "it is no record of frames, take the one that comes with the program"

SHORTEST, STEP = 1e-4, 1.05
"""Processor time is kept in a byte: 0 for none, else in steps of 5 % from 0.1 ms on."""

SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "counts": ("uint16", ("f", "s")),
    "own": ("uint16", ("f", "s")),
    "indexed": ("uint8", ("f", "bytes")),
    "cost": ("uint8", ("f", "s")),
    "lattice": ("bool", ("f",)),
    "asked": ("bool", ("f",)),
    "look_seconds": ("float32", ("f",)),
    "fit": ("float64", ("f", 3)),
    "information": ("float64", ("f", 3, 3)),
    "spread": ("float32", ("f", 2)),
}
"""Type and axes of each array of a file; ``f`` frames, ``s`` parameter sets."""

BESIDE: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "embedded": ("uint8", ("f", "bytes")),
    "embedded_cost": ("uint8", ("f", "s")),
}
"""The same of what only files of another indexer than the embedded one have."""


@dataclass(frozen=True)
class AboutRecord:
    """What a record is of.

    Attributes
    ----------
    family : str
    seed, number : int
        The draw of the experiment: the family's `number`-th with this seed.
    kind : str
        Make of the detector.
    known : Known
        What the box of a session is made from, at the geometry that was given.
    geometry : mapping of str to float
        Where the frames put the detector before anything was measured; a session begins there.
    volume : float
        Of the primitive cell, in Å³.
    search_seconds : float
        Processor time in which one parameter set is searched in a frame that is ready.
    indexer : str
        Whose answers are recorded: name and version.
    """

    family: str
    seed: int
    number: int
    kind: str
    known: Known
    geometry: dict[str, float]
    volume: float
    search_seconds: float
    indexer: str


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """Every frame with every parameter set.

    Attributes
    ----------
    about : AboutRecord
    settings : tuple of Settings
        S parameter sets, at the geometry at which a session begins.
    counts : uint16 array (F, S)
        Peaks.
    own : uint16 array (F, S)
        Those on the frame's lattice, of the parameter set that has most of them; 0 where no set
        leads to a lattice.
    indexed : bool array (F, S)
    cost : uint8 array (F, S)
        Processor time in which the list was indexed; see `decoded_seconds`. 0 for lists that are
        no hit with the set.
    lattice : bool array (F,)
        Whether any set leads to one.
    asked : bool array (F,)
        Whether it was indexed at all: of frames that hold no crystal, which only a simulation
        knows, some are. The others are charged with what those took.
    look_seconds : float32 array (F,)
        Processor time in which the frame was read and searched with all sets at once.
    fit : float64 array (F, 3)
        Change of camera length and shift that the frame's lattice asks for, in metres; NaN where
        it asks for none.
    information : float64 array (F, 3, 3)
        Inverse of its covariance, 1/m².
    spread : float32 array (F, 2)
        Residual in pixels, and deviation of the lattice's scale.
    embedded : bool array (F, S), optional
        Where another indexer's answers are recorded: what the embedded one made of the same lists.
        Lattices, and what follows from them, are the embedded one's.
    embedded_cost : uint8 array (F, S), optional
        In which processor time.
    """

    about: AboutRecord
    settings: tuple[Settings, ...]
    counts: NDArray[np.uint16]
    own: NDArray[np.uint16]
    indexed: NDArray[np.bool_]
    cost: NDArray[np.uint8]
    lattice: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    look_seconds: NDArray[np.float32]
    fit: NDArray[np.float64]
    information: NDArray[np.float64]
    spread: NDArray[np.float32]
    embedded: NDArray[np.bool_] | None = None
    embedded_cost: NDArray[np.uint8] | None = None

    @property
    def space(self) -> ParameterSpace:
        """The box of a session that tunes the usual settings, where the frames put the detector."""
        known = asdict(self.about.known)
        return make_space(DEFAULT_TUNED, **known).moved(**self.about.geometry)

    @property
    def volume(self) -> float:
        """Of the primitive cell, in Å³."""
        return self.about.volume

    @property
    def search_seconds(self) -> float:
        """Processor time in which one parameter set is searched in a frame that is ready."""
        return self.about.search_seconds

    def write(self, path: Path) -> None:
        """Write it; the file appears whole or not at all."""
        about = {
            "version": VERSION if self.embedded is None else WITH_EMBEDDED,
            **asdict(self.about),
            "settings": [each.as_dict() for each in self.settings],
        }
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in SHAPES}
        arrays["indexed"] = np.packbits(self.indexed, axis=1)
        if self.embedded is not None and self.embedded_cost is not None:
            arrays["embedded"] = np.packbits(self.embedded, axis=1)
            arrays["embedded_cost"] = self.embedded_cost
        content = io.BytesIO()
        np.savez_compressed(
            content,
            allow_pickle=False,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            **arrays,
        )
        write_whole(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> FrameRecord:
        """Read what `write` wrote.

        Raises
        ------
        InputError
            If it cannot be read, or holds something else.
        """
        arrays = read_arrays(path, "the record of frames", REMEDY)
        about = arrays.pop("about", np.zeros(0, np.uint8))
        told = read_json_text(about.tobytes(), dict[str, Any], str(path), REMEDY)
        version = told.pop("version", None)
        if version not in (VERSION, WITH_EMBEDDED):
            raise InputError(f"{path} is of another version: {REMEDY}")
        named = read_json_text(
            json.dumps(told.pop("settings", None)), list[Settings], str(path), REMEDY
        )
        described = read_json_text(json.dumps(told), AboutRecord, str(path), REMEDY)
        beside = BESIDE if version == WITH_EMBEDDED else {}
        _require_shapes(arrays, SHAPES | beside, len(named), path)
        for name in {"indexed", "embedded"} & arrays.keys():
            arrays[name] = np.unpackbits(arrays[name], axis=1, count=len(named)).astype(bool)
        return cls(described, tuple(named), **arrays)


def _require_shapes(
    arrays: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[str, tuple[str | int, ...]]],
    n_sets: int,
    path: Path,
) -> None:
    """Raise InputError where the arrays are not those of a record."""
    lengths = {"f": len(arrays.get("counts", ())), "s": n_sets, "bytes": -(-n_sets // 8)}
    for name, (kind, axes) in shapes.items():
        shape = tuple(axis if isinstance(axis, int) else lengths[axis] for axis in axes)
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype != np.dtype(kind):
            raise InputError(f"{path} is damaged ({name} is another array): {REMEDY}")
    if arrays.keys() != shapes.keys() or not lengths["f"]:
        raise InputError(f"{path} is damaged (it has other arrays): {REMEDY}")


def coded_seconds(seconds: ArrayLike) -> NDArray[np.uint8]:
    """Return processor times as bytes; 0 s as 0."""
    values = np.asarray(seconds, float)
    steps = 1 + np.log(np.maximum(values, SHORTEST) / SHORTEST) / np.log(STEP)
    return np.where(values > 0, np.minimum(np.rint(steps), 255), 0).astype(np.uint8)


def decoded_seconds(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what `coded_seconds` coded, to 5 %."""
    seconds = SHORTEST * STEP ** (codes.astype(float) - 1)
    return np.asarray(np.where(codes > 0, seconds, 0.0))
