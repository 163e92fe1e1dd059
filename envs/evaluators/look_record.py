"""A recorded look as an experiment to train on: what `experiments.record_looks` writes.

Peaks of every frame with every parameter set of a look's design, and what the embedded indexer made
of the lists of some of the sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.parameter_space import Parameter, ParameterSpace
from wrappers.errors import InputError
from wrappers.schema_arrays import read_arrays
from wrappers.settings import Settings

__all__ = ["LookRecord", "read_look_records"]

AXES = ("min_snr", "threshold", "min_pix_count")
"""What the design of a recorded look varies."""

REMEDY = "remove it and record it anew with `python -m experiments.record_looks`"
SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "counts": ("uint16", ("f", "s")),
    "split": ("uint16", ("f", "s", 2)),
    "lattice": ("bool", ("f",)),
    "chosen": ("int64", ("m",)),
    "indexed": ("bool", ("f", "m")),
    "settings": ("float64", ("s", 3)),
    "volume": ("float64", ()),
    "min_peaks": ("int64", ()),
}
"""Type and axes: frames, parameter sets, those of them that were indexed."""


@dataclass(frozen=True, eq=False)
class LookRecord:
    """Some frames with every parameter set of a design; see `envs.evaluators.recorded.Recorded`.

    Attributes
    ----------
    name : str
    settings : tuple of Settings
    counts, own : uint16 array (F, S)
    indexed : bool array (F, S)
        Only of the sets `known`.
    known : int array (M,)
        Which of the sets were indexed.
    volume : float
        Of the primitive cell, in Å³.
    """

    name: str
    settings: tuple[Settings, ...]
    counts: NDArray[np.uint16]
    own: NDArray[np.uint16]
    indexed: NDArray[np.bool_]
    known: NDArray[np.int64]
    volume: float

    @property
    def space(self) -> ParameterSpace:
        """The box that the design spans."""
        values = np.array([[getattr(each, name) for name in AXES] for each in self.settings])
        (snr, least, pixels), (most_snr, most, most_pixels) = values.min(axis=0), values.max(axis=0)
        parameters = (
            Parameter(AXES[0], snr, most_snr, digits=3),
            Parameter(AXES[1], least, most, scale="log", digits=12),
            Parameter(AXES[2], pixels, most_pixels, integer=True),
        )
        return ParameterSpace(parameters, self.settings[0])

    @property
    def search_seconds(self) -> float:
        """What nobody timed costs nothing."""
        return 0.0

    @property
    def cost(self) -> NDArray[np.uint8]:
        """See `search_seconds`."""
        return np.zeros(self.counts.shape, np.uint8)

    @property
    def embedded(self) -> None:
        """It is the embedded indexer's answers that are recorded."""

    @property
    def embedded_cost(self) -> None:
        """See `embedded`."""

    @property
    def look_seconds(self) -> NDArray[np.float32]:
        """See `search_seconds`."""
        return np.zeros(len(self.counts), np.float32)

    @property
    def fit(self) -> NDArray[np.float64]:
        """No lattice was held against the geometry."""
        return np.full((len(self.counts), 3), np.nan)

    @property
    def information(self) -> NDArray[np.float64]:
        """See `fit`."""
        return np.zeros((len(self.counts), 3, 3))

    @property
    def spread(self) -> NDArray[np.float32]:
        """See `fit`."""
        return np.full((len(self.counts), 2), np.nan, np.float32)


def read_look_records(folder: Path, family: str) -> list[LookRecord]:
    """Return the recorded looks of a family, by number.

    Raises
    ------
    InputError
        If there are none, or one is damaged.
    """
    found = [_read(path) for path in sorted(folder.glob(f"{family}_[0-9]*.npz"))]
    if not found:
        raise InputError(
            f"{folder} holds no recorded looks ({family}_000.npz …): they are in a checkout's "
            "experiments/data/looks, and `python -m experiments.record_looks FOLDER` makes them"
        )
    return found


def _read(path: Path) -> LookRecord:
    arrays: dict[str, NDArray[Any]] = read_arrays(path, "the recorded look", REMEDY)
    lengths = {axis: np.shape(arrays.get(name, np.zeros((0, 0))))
               for axis, name in (("f", "counts"), ("m", "chosen"))}  # fmt: skip
    sizes = {"f": lengths["f"][0], "m": lengths["m"][0], "s": lengths["f"][-1]}
    for name, (kind, axes) in SHAPES.items():
        shape = tuple(axis if isinstance(axis, int) else sizes[axis] for axis in axes)
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != np.dtype(kind):
            raise InputError(f"{path} is damaged ({name} is another array): {REMEDY}")
    chosen, counts = arrays["chosen"], arrays["counts"]
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= counts.shape[1]:
        raise InputError(f"{path} is damaged (chosen names sets that are not there): {REMEDY}")
    least = int(arrays["min_peaks"])
    settings = tuple(
        Settings(min_snr=snr, threshold=threshold, min_pix_count=int(pixels), min_peaks=least)
        for snr, threshold, pixels in arrays["settings"].tolist()
    )
    indexed = np.zeros(counts.shape, bool)
    indexed[:, chosen] = arrays["indexed"]
    return LookRecord(
        path.stem, settings, counts, arrays["split"][..., 0], indexed, chosen,
        float(arrays["volume"]),
    )  # fmt: skip
