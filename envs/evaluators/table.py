"""Recorded experiments: what was once measured on a grid, answered at no cost."""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import MinLen
from numpy.typing import ArrayLike, NDArray

from envs.evaluation import Evaluation, FrameOutcome
from envs.parameter_space import Known, ParameterSpace
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.schema import Number, read_json_text
from wrappers.schema_arrays import read_arrays
from wrappers.settings import ABOUT, Settings

__all__ = ["TABLES", "TableEvaluator", "record_table"]

DIAGNOSTICS = ("explained", "residual", "scale_deviation", "seconds", "core_seconds")
PER_FRAME = ("frames", "n_peaks", "hit", "n_lattices")
REFINED = ("clen", "shift_x", "shift_y")
VERSION = 1
REMEDY = "it is no recorded table, name another file"

TABLES = Path(__file__).parents[1] / "data" / "tables"
"""Where the tables are that come with the program."""


def record_table(
    evaluate_all: Callable[[Sequence[Settings]], Iterable[Evaluation]],
    space: ParameterSpace,
    grid: Mapping[str, Sequence[float]],
    path: str | os.PathLike[str],
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Measure every point of a grid and write what was found as a compact file.

    Parameters
    ----------
    evaluate_all : callable
        Evaluates settings in their order, such as `LiveEvaluator.evaluate_all`.
    space : ParameterSpace
        Its base settings are kept but for what the grid has; what is known goes into the file.
    grid : mapping of str to sequence of float
        Values of some settings, each in ascending order.
    path : path
        A ``.npz``; it appears whole or not at all.
    progress : callable, optional
        Called with the number of points done and to do.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    points = [
        space.base.replace(**dict(zip(grid, point, strict=True)))
        for point in itertools.product(*grid.values())
    ]
    found: list[Evaluation] = []
    for evaluation in evaluate_all(points):
        found.append(evaluation)
        progress(len(found), len(points))
    shape = tuple(len(values) for values in grid.values())

    def gathered(of: Callable[[Evaluation], object], dtype: str) -> NDArray[np.generic]:
        values = np.array([of(evaluation) for evaluation in found], dtype)
        return values.reshape(shape + values.shape[1:])

    about = {
        "version": VERSION,
        "grid": {name: list(map(float, values)) for name, values in grid.items()},
        "base": space.base.as_dict(),
        "known": None if space.known is None else asdict(space.known),
    }
    content = io.BytesIO()
    np.savez_compressed(
        content,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        frames=np.array([outcome.frame for outcome in found[0].outcomes], np.int32),
        n_peaks=gathered(lambda e: [outcome.n_peaks for outcome in e.outcomes], "u2"),
        hit=gathered(lambda e: [outcome.hit for outcome in e.outcomes], "?"),
        n_lattices=gathered(lambda e: [outcome.n_lattices for outcome in e.outcomes], "u1"),
        decoys=gathered(lambda e: (e.n_decoys, e.n_decoys_indexed), "u2"),
        told=gathered(lambda e: [getattr(e, name) for name in DIAGNOSTICS], "f8"),
        refined=gathered(lambda e: [e.refined.get(n, (np.nan, np.nan)) for n in REFINED], "f8"),
    )
    write_whole(Path(path), content.getvalue())


@dataclass(frozen=True)
class _About:
    """What a table says of its arrays."""

    version: int
    grid: dict[str, Annotated[list[Number], MinLen(1)]]
    base: Settings
    known: Known | None


def _require_shapes(
    arrays: Mapping[str, NDArray[np.generic]], grid: tuple[int, ...], path: Path
) -> None:
    """Raise InputError where arrays are not those of a grid."""
    frames = arrays.get("frames", np.zeros(0)).shape
    shapes = {
        "frames": ("i", frames[:1]),
        "n_peaks": ("u", (*grid, *frames)),
        "hit": ("b", (*grid, *frames)),
        "n_lattices": ("u", (*grid, *frames)),
        "decoys": ("u", (*grid, 2)),
        "told": ("f", (*grid, len(DIAGNOSTICS))),
        "refined": ("f", (*grid, len(REFINED), 2)),
    }
    for name, (kind, shape) in shapes.items():
        if name not in arrays or arrays[name].shape != shape or arrays[name].dtype.kind != kind:
            raise InputError(f"the table {path} is damaged ({name} is another array): {REMEDY}")
    if not frames or not frames[0] or arrays.keys() != shapes.keys():
        raise InputError(f"the table {path} is damaged (it has other arrays): {REMEDY}")


class TableEvaluator:
    """Evaluates parameter sets by looking up the nearest point of a recorded grid.

    Nearest is meant on a logarithmic scale where all of a setting's values are above 0.
    Settings that the grid does not have make no difference.

    Parameters
    ----------
    path : path
        A file of `record_table`.

    Attributes
    ----------
    grid : dict of str to float array
        The recorded values of each setting.
    base : Settings
        What all other settings were.
    known : Known or None
        What was known before anything was evaluated.

    Raises
    ------
    InputError
        If the file is no such table.

    Notes
    -----
    The lattices' deviation from the reference cell is that of the recorded camera length, plus
    the difference to the one that is tried. On part of the frames, diagnostics and the
    share of decoys indexed are those of the whole sample.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        arrays = read_arrays(path, "the table", REMEDY)
        if "asked" in arrays:  # its name until version 0.1
            arrays["refined"] = arrays.pop("asked")
        text = arrays.pop("about", np.zeros(0, np.uint8)).tobytes()
        about = read_json_text(text, _About, f"the table {path}", REMEDY)
        if about.version != VERSION:
            raise InputError(
                f"{path} is a table of version {about.version}, not {VERSION}: record anew"
            )
        if strange := about.grid.keys() - ABOUT.keys():
            raise InputError(
                f"the table {path} is damaged ({strange.pop()!r} is no setting): {REMEDY}"
            )
        self.grid = {name: np.array(values) for name, values in about.grid.items()}
        _require_shapes(arrays, tuple(map(len, about.grid.values())), path)
        self._arrays = arrays
        self.base, self.known = about.base, about.known
        self._share = 1.0

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        return len(self._arrays["frames"])

    @property
    def points(self) -> list[Settings]:
        """Every recorded settings."""
        return [
            self.base.replace(**dict(zip(self.grid, map(float, point), strict=True)))
            for point in itertools.product(*self.grid.values())
        ]

    def take(self, frames: ArrayLike) -> TableEvaluator:
        """Return the table with some of its frames, by their places in the sample."""
        taken = copy.copy(self)
        rows = np.asarray(frames, int)
        taken._arrays = {
            name: values[..., rows] if name in PER_FRAME else values
            for name, values in self._arrays.items()
        }
        taken._share = self._share * len(rows) / self.n_frames
        return taken

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what was recorded nearest to the settings, on the first `n_frames` frames."""
        n = self.n_frames if n_frames is None else min(n_frames, self.n_frames)
        place = tuple(self._place(name, settings) for name in self.grid)
        row = {name: values[place] for name, values in self._arrays.items() if name != "frames"}
        outcomes = tuple(
            FrameOutcome(int(frame), int(n_peaks), bool(hit), int(n_lattices))
            for frame, n_peaks, hit, n_lattices in zip(
                self._arrays["frames"][:n],
                row["n_peaks"][:n],
                row["hit"][:n],
                row["n_lattices"][:n],
                strict=True,
            )
        )
        diagnostics = dict(zip(DIAGNOSTICS, row["told"].tolist(), strict=True))
        diagnostics["scale_deviation"] += self._stretch(settings, place)
        for name in ("seconds", "core_seconds"):
            diagnostics[name] *= self._share * n / self.n_frames
        n_decoys, n_accepted = (int(number) for number in row["decoys"])
        tried = min(n_decoys, sum(outcome.hit for outcome in outcomes))
        return Evaluation(
            settings=settings,
            outcomes=outcomes,
            n_decoys=tried,
            n_decoys_indexed=round(n_accepted * tried / max(n_decoys, 1)),
            refined={
                name: (float(value), float(error))
                for name, (value, error) in zip(REFINED, row["refined"], strict=True)
                if np.isfinite(value)
            },
            **diagnostics,
        )

    def _place(self, name: str, settings: Settings) -> int:
        """Return which of a setting's recorded values is nearest."""
        values, value = self.grid[name], self._value(name, settings)
        if values.min() > 0 and value > 0:
            values, value = np.log(values), float(np.log(value))
        return int(np.argmin(np.abs(values - value)))

    def _value(self, name: str, settings: Settings) -> float:
        value = getattr(settings, name)
        return float(getattr(self.base, name) if value is None else value)

    def _stretch(self, settings: Settings, place: tuple[int, ...]) -> float:
        """Return how far the camera length tried is from the one recorded, relative."""
        if "clen" not in self.grid:
            return 0.0
        recorded = self.grid["clen"][place[list(self.grid).index("clen")]]
        return self._value("clen", settings) / float(recorded) - 1
