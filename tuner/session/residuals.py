"""How far found spots are from predicted ones, before a session and after, panel by panel.

Both are measured on the same spots: those that the recommended set finds and its lattices explain,
on fresh frames where there are any.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import write_whole
from wrappers.frames.source import FrameSource
from wrappers.lattices.spot_residuals import (
    PanelOffset,
    match_spots,
    median_residual,
    panel_offsets,
)
from wrappers.schema import Count, Measured, Pair, read_json

__all__ = ["RESIDUALS", "SpotResiduals", "read_residuals", "spot_residuals", "write_residuals"]

RESIDUALS = "residuals.json"
"""In a session's directory."""

Outline = tuple[Pair, Pair, Pair, Pair]


@dataclass(frozen=True)
class SpotResiduals:
    """What spots say of the detector.

    Attributes
    ----------
    n_frames, n_lattices, n_spots : int
    given, refined : (float, float)
        Median over the lattices of the root mean square distance in pixels, with the geometry file
        as it was given and as recommended, and the standard errors.
    fresh : bool
        Whether the frames took no part in the search.
    panels : tuple of PanelOffset
        As recommended.
    outlines : tuple of 4 pairs of float
        Corners (x, y) of each panel, in pixels from the beam.
    """

    n_frames: Count
    n_lattices: Count
    n_spots: Count
    given: tuple[Measured, Measured]
    refined: tuple[Measured, Measured]
    fresh: bool
    panels: tuple[PanelOffset, ...]
    outlines: tuple[Outline, ...]

    @property
    def evidence(self) -> dict[str, Any]:
        """What a recommendation keeps of it."""
        return {
            "residual_given_px": [round(value, 4) for value in self.given],
            "residual_refined_px": [round(value, 4) for value in self.refined],
        }


def spot_residuals(
    evaluator: LiveEvaluator, best: Evaluation, run: FrameSource, cell: Cell, *, fresh: bool
) -> SpotResiduals | None:
    """Measure where the recommended set's spots are.

    Parameters
    ----------
    evaluator : LiveEvaluator
        Of the frames of `best`: what it remembers is not searched and indexed again.
    best : Evaluation
    run : FrameSource
    cell : Cell
    fresh : bool
        Whether the frames took no part in the search.

    Returns
    -------
    SpotResiduals or None
        None where no lattice explains enough spots, or the frames cannot be read any more.
    """
    frames = [outcome.frame for outcome in best.outcomes if outcome.indexed]
    settings, geometry = best.settings, run.geometry
    try:
        _, patterns, answers = evaluator.inspect(settings, frames, max_decoys=0)
    except (InputError, ProgramError, OSError):
        return None  # The recommendation does not depend on it.
    indexed = [frame for frame in answers if answers[frame].indexed]
    spots = match_spots(
        [patterns[i] for i in indexed], [answers[i] for i in indexed], geometry, cell
    )
    if not spots:
        return None
    back = (-settings.clen_change(run.nominal_clen), -settings.shift_x, -settings.shift_y)
    return SpotResiduals(
        n_frames=len({one.frame for one in spots}),
        n_lattices=len(spots),
        n_spots=sum(len(one.panel) for one in spots),
        given=median_residual(spots, back),
        refined=median_residual(spots),
        fresh=fresh,
        panels=tuple(panel_offsets(spots, [panel.name for panel in geometry.panels])),
        outlines=tuple(_outline(geometry, i) for i in range(len(geometry.panels))),
    )


def _outline(geometry: Geometry, index: int) -> Outline:
    panel = geometry.panels[index]
    fs = panel.slab_fs + panel.width * np.array([0, 1, 1, 0])
    ss = panel.slab_ss + panel.height * np.array([0, 0, 1, 1])
    corners = geometry.lab_positions(fs, ss, np.full(4, index), 0.0)[:, :2] * panel.res
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners.round(1))
    return first, second, third, fourth


def write_residuals(residuals: SpotResiduals | None, directory: Path) -> None:
    """Write them into a session's directory, atomically; None takes away earlier ones."""
    if residuals is None:
        (directory / RESIDUALS).unlink(missing_ok=True)
    else:
        write_whole(directory / RESIDUALS, json.dumps(asdict(residuals)) + "\n")


def read_residuals(directory: Path) -> SpotResiduals | None:
    """Return what a session has; None where it has none, or not in one piece."""
    path = directory / RESIDUALS
    if not path.is_file():
        return None
    try:
        return read_json(path, SpotResiduals, "the residuals", "tune --resume makes them anew")
    except InputError:
        return None
