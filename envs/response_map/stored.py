"""A response map on disk: what a session's map has learnt, for its report.

The map of the file forecasts as the one that was written did. Nothing is measured again, and the
frames are not needed.
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.look import FrameLook
from envs.response_map.model import INDEXERS, MapModel
from envs.response_map.session_map import FAILED, INDEXED, UNKNOWN, Learnt, ResponseMap
from wrappers.errors import InputError, Note
from wrappers.files import write_whole
from wrappers.schema import validated
from wrappers.schema_arrays import read_arrays
from wrappers.settings import Settings

__all__ = ["MAP_FILE", "read_map", "write_map"]

MAP_FILE = "map.npz"
"""Its name in a session's folder."""

REMEDY = "resume the session, or delete the file: the report does without"

SHAPES = {
    "settings": ("u1", None),
    "unreadable": ("u1", None),
    "frames": ("i8", "f"),
    "counts": ("u2", "fs"),
    "outcome": ("i1", "fs"),
    "own": ("u2", "fs"),
    "other": ("u2", "fs"),
    "lattice": ("b1", "f"),
    "weights": ("f8", "f"),
    "numbers": ("f8", "n"),
    "model": ("u1", None),
}
"""Type of each array, and what its axes are: frames, sets, the two plain numbers."""


def write_map(path: Path, found: ResponseMap) -> None:
    """Write what a map has learnt so far, atomically.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    numbers = [len(found.look.settings), found.volume]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        allow_pickle=False,
        settings=_packed([each.as_dict() for each in found.settings]),
        unreadable=_packed({str(frame): why for frame, why in found.look.failures.items()}),
        frames=np.array(found.look.frames, np.int64),
        numbers=np.array(numbers, float),
        model=_packed({"indexer": found.indexer, "version": found.model.version}),
        **found.learnt._asdict(),
    )
    write_whole(path, content.getvalue())


def read_map(
    path: Path, model: MapModel | None = None, *, volume: float | None = None
) -> ResponseMap:
    """Read a map; a `Note` says where another model made it than the one it is read with.

    Parameters
    ----------
    path : Path
    model : MapModel, optional
        What the map began with; the shipped model by default.
    volume : float, optional
        Of the primitive cell in Å³, for a map of before it was kept; that of a usual cell by
        default.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    if not path.exists():
        raise InputError(f"the response map {path} is not there: {REMEDY}")
    arrays = read_arrays(path, "the response map", REMEDY)
    model = MapModel.shipped() if model is None else model
    try:
        _mend_old(arrays, volume or float(np.exp(model.typical[0])))
        indexer, version = _made_with(arrays)
        settings = _settings(path, arrays)
        n_design = _checked(arrays, len(settings))
        failures = _unpacked(arrays["unreadable"])
        failures = {int(frame): str(why) for frame, why in failures.items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"the response map {path} is damaged ({error}): {REMEDY}") from None
    if version != model.version:
        warnings.warn(
            Note(
                f"the response map {path} was made with another version of its model: it now shows "
                "what this version makes of the same measurements"
            ),
            stacklevel=2,
        )
    frames = tuple(arrays["frames"].tolist())
    learnt = Learnt(**{name: arrays[name] for name in Learnt._fields})

    def look(which: slice) -> FrameLook:
        weights = tuple(learnt.weights.tolist())
        return FrameLook(tuple(settings[which]), frames, learnt.counts[:, which], failures, weights)

    found = ResponseMap(look(slice(n_design)), float(arrays["numbers"][1]), model, indexer)
    if n_design < len(settings):
        found.extend(look(slice(n_design, None)))
    known = np.flatnonzero(learnt.lattice)
    found.learn_lattices(arrays["frames"][known], learnt.own[known], learnt.other[known])
    for column in np.flatnonzero((learnt.outcome != UNKNOWN).any(axis=0)).tolist():
        rows = np.flatnonzero(learnt.outcome[:, column] != UNKNOWN)
        indexed = learnt.outcome[rows, column] == INDEXED
        found.learn_outcomes(column, arrays["frames"][rows], indexed)
    return found


def _mend_old(arrays: dict[str, NDArray[Any]], volume: float) -> None:
    """Give an older map what it lacks.

    Before models had versions, CrystFEL's maps had a third number, 2. Until 29 November 2026
    the volume was the primitive cell's share of the cell, at most 1.
    """
    if "model" not in arrays:
        n_design, share, caution = arrays["numbers"].tolist()
        arrays["numbers"] = np.array([n_design, share])
        arrays["model"] = _packed({"indexer": "crystfel" if caution > 1 else "fast", "version": ""})
    if 0 < arrays["numbers"][1] <= 1:
        arrays["numbers"][1] = volume


def _made_with(arrays: dict[str, NDArray[Any]]) -> tuple[str, str]:
    """Return the indexer and the version of the model; ValueError where there is none."""
    made = _unpacked(arrays["model"])
    indexer, version = made["indexer"], made["version"]
    if indexer not in INDEXERS or not isinstance(version, str):
        raise ValueError("its indexer is none")
    return indexer, version


def _packed(values: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(values).encode(), np.uint8)


def _unpacked(array: NDArray[Any]) -> Any:
    return json.loads(array.tobytes())


def _settings(path: Path, arrays: dict[str, NDArray[Any]]) -> list[Settings]:
    return validated(_unpacked(arrays["settings"]), list[Settings], str(path), REMEDY)


def _checked(arrays: dict[str, NDArray[Any]], n_sets: int) -> int:
    """Return how many sets the design has; ValueError where arrays do not fit one another."""
    lengths = {"f": len(arrays["frames"]), "s": n_sets, "n": 2}
    for name, (kind, axes) in SHAPES.items():
        shape = None if axes is None else tuple(lengths[axis] for axis in axes)
        if arrays[name].dtype != np.dtype(kind) or shape not in (None, arrays[name].shape):
            raise ValueError(f"{name} is another array")
    n_design, volume = arrays["numbers"].tolist()
    if len(np.unique(arrays["frames"])) != lengths["f"] or not arrays["frames"].size:
        raise ValueError("frames are named twice, or none is")
    if not (1 <= n_design <= n_sets and 0 < volume < np.inf):
        raise ValueError("its numbers cannot be")
    unreadable = {*_unpacked(arrays["unreadable"])}
    if unreadable >= {str(frame) for frame in arrays["frames"].tolist()}:
        raise ValueError("none of its frames could be read")
    if not np.isin(arrays["outcome"], (UNKNOWN, FAILED, INDEXED)).all():
        raise ValueError("an outcome is none")
    if not (np.isfinite(arrays["weights"]) & (arrays["weights"] >= 0)).all():
        raise ValueError("a frame has no weight")
    return int(n_design)
