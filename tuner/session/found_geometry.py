"""Where the frames themselves put the detector, before a session measures anything.

A beam centre that is off by some pixels, or a camera length that is off by more than the range that
is searched, lets an indexer find lattices that are not there, and a session tune to those. So the
frames with the most clear peaks are asked first. Their beam centre is found without the cell
(`wrappers.lattices.blind_geometry`); frames that agree on none, such as blank ones or powder rings,
are asked nothing more. Then the cell tells the camera length (`wrappers.lattices.geometry_start`).
A wrong cell asks for a wrong one, so lattices of no known cell must be as clear there.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from envs.evaluators.live import LiveEvaluator
from envs.geometry_rule import GEOMETRY, SHIFTS
from envs.parameter_space import ParameterSpace
from tuner.cells.search import ClearFrames
from tuner.cells.words import FAR_OFF, PIXELS_OFF, geometry_words
from tuner.session.config import FoundGeometry
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.lattices.blind_geometry import (
    CLEARLY,
    NOWHERE,
    PlacedDetector,
    blind_evidence,
    find_blind_geometry,
    find_centre,
    followed_by,
    moved,
)
from wrappers.lattices.geometry_start import find_geometry_about
from wrappers.settings import Settings

__all__ = ["at_found_geometry", "find_session_geometry", "moved_geometry", "seek_geometry"]

SEEN = 200
"""Frames of a sample in which the clear ones are sought."""
FRAMES = 12
"""Frames that are asked."""
KEPT = 0.99
"""Share of the evidence for lattices of any cell that a beam centre must keep."""


def find_session_geometry(
    live: LiveEvaluator,
    frames: Collection[int],
    geometry: Geometry,
    cell: Cell,
    space: ParameterSpace,
    nominal_clen: float,
    *,
    kept: Collection[str],
    jobs: int,
) -> FoundGeometry:
    """Ask the frames of a session's sample where the detector is.

    Parameters
    ----------
    live : LiveEvaluator
        Finds the peaks with the settings of the space's base, and remembers them.
    frames : collection of int
        The sample.
    geometry : Geometry
    cell : Cell
    space : ParameterSpace
        At the geometry that was given.
    nominal_clen : float
        The geometry file's, in metres.
    kept : collection of str
        Lengths that the user has set, or whose range.
    jobs : int
        Threads.
    """
    every = max(1, len(frames) // SEEN)
    seen = live.peaks(tuple(frames)[::every][:SEEN], space.base)
    clear = ClearFrames.of(seen, geometry, space.base, FRAMES)
    nothing = FoundGeometry(nominal_clen=nominal_clen)
    found = seek_geometry(clear, cell, jobs=jobs)
    if found is None or space.base.clen is None:
        return nothing
    pixel = 1 / geometry.panels[0].res
    given = clear.patterns[0].camera_length
    x, y = found.shift(given)
    values, untouched = {}, set(kept)
    if abs(found.place[0]) > FAR_OFF and "clen" not in untouched:
        values["clen"] = space.base.clen + found.camera_length(given) - given
    if math.hypot(x, y) > PIXELS_OFF * pixel and untouched.isdisjoint(SHIFTS):
        values |= {"shift_x": space.base.shift_x + x, "shift_y": space.base.shift_y + y}
    if not values:
        return nothing
    values = {name: float(f"{value:.6g}") for name, value in values.items()}
    words = (
        f"the {len(clear.lists)} frames with the most peaks put the detector elsewhere than the "
        f"geometry does: {geometry_words(found, given, space.base, pixel)}; the session starts "
        f"with {' and '.join(values)} from there"
    )
    return FoundGeometry(values, words, nominal_clen)


def seek_geometry(clear: ClearFrames, cell: Cell, *, jobs: int = 1) -> PlacedDetector | None:
    """Return where clear frames put the detector, or None where they agree on no beam centre.

    Parameters
    ----------
    clear : ClearFrames
    cell : Cell
        The given one, which may be wrong.
    jobs : int
        Threads.
    """
    centre = find_centre(clear.lists, jobs=jobs)
    if centre is None:
        return None
    there = centre.place(clear.lists[0].wavenumber)
    if there != NOWHERE:
        given, moved_there = (blind_evidence(clear.lists, p, jobs=jobs) for p in (NOWHERE, there))
        if moved_there < KEPT * given:
            return None
    start = find_geometry_about(clear.lists, cell, there, jobs=jobs)
    if start is not None and 2 * start.n_agree > len(clear.lists):
        if abs(start.place[0]) < FAR_OFF:
            return start
        if start.evidence < CLEARLY * start.evidence_before:
            return PlacedDetector(there)
        ends = (blind_evidence(clear.lists, place, jobs=jobs) for place in (there, start.place))
        if next(ends) < next(ends):
            return start
    blind = find_blind_geometry([moved(one, there) for one in clear.lists], jobs=jobs)
    if blind is None or blind.beyond:
        return PlacedDetector(there)
    return PlacedDetector(followed_by(there, blind.place))


def moved_geometry(
    found: FoundGeometry | None, space: ParameterSpace, settings: Settings
) -> list[str]:
    """Return the lengths of a recommended set that moved although nobody tuned them."""
    joined = (p.name for p in space.joining)
    moved = {name for name in joined if getattr(settings, name) != getattr(space.base, name)}
    moved |= set() if found is None else found.values.keys() - {*space.names}
    return [name for name in GEOMETRY if name in moved]


def at_found_geometry(space: ParameterSpace, found: FoundGeometry | None) -> ParameterSpace:
    """Return the space of a session where the frames put the detector.

    Sessions that were begun before the frames were asked go on without what they tell.
    """
    if found is None:
        return replace(space, joining=())
    return space.moved(**found.values)
