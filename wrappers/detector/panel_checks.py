"""What is wrong, or odd, with panels that each make sense by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import product

import numpy as np
from numpy.typing import NDArray

from wrappers.detector.panels import Panel
from wrappers.errors import InputError

__all__ = ["check_panels"]

FARTHEST = 100_000
"""Pixels from the beam; a panel beyond is a mistake, and would make huge pictures."""

STEP_TOLERANCE = 0.1
"""Of the length of fs and ss; tilted panels are a little short in x and y, and refined ones too."""

RES = (500.0, 2e6)
"""Pixels per metre: of 2 mm to 0.5 µm."""

SAME_DEPTH = 1e-3
"""In metres along the beam: panels farther apart may lie one behind the other."""


def check_panels(panels: Sequence[Panel], source: str) -> list[str]:
    """Check panels that have their places in the slab.

    Parameters
    ----------
    panels : sequence of Panel
    source : str
        Name of the geometry, for the messages.

    Returns
    -------
    list of str
        What is odd, a sentence each.

    Raises
    ------
    InputError
        If a panel is farther from the beam than any detector reaches, or all its pixels are
        those of others.
    """
    for panel in panels:
        for along, across in product((0, panel.width), (0, panel.height)):
            place = [
                corner + along * panel.fs_vector[axis] + across * panel.ss_vector[axis]
                for axis, corner in enumerate((panel.corner_x, panel.corner_y))
            ]
            if not all(abs(coordinate) <= FARTHEST for coordinate in place):
                raise InputError(
                    f"panel {panel.name} of {source} reaches {max(map(abs, place)):.6g} pixels "
                    f"from the beam, and no detector {FARTHEST}: correct corner_x, corner_y, fs "
                    "or ss"
                )
    notes = []
    for first, second, n_pixels in _overlaps(panels):
        names = f"panels {first.name} and {second.name} of {source}"
        if n_pixels == min(first.width * first.height, second.width * second.height):
            raise InputError(
                f"{names} read the same pixels, so that one of them is nothing: correct min_fs, "
                "max_fs, min_ss, max_ss, dim0, dim1 … or data"
            )
        notes.append(
            f"{names} have {n_pixels} pixels in common, which count for {second.name} only "
            "(CrystFEL counts them twice): check min_fs, max_fs, min_ss and max_ss"
        )
    return notes + _strange_places(panels, source)


def _strange_places(panels: Sequence[Panel], source: str) -> list[str]:
    """Name panels whose pixels are where no detector has them, a sentence for each kind."""
    notes = []
    steps = {
        f"{panel.name}/{name}": math.hypot(*vector)
        for panel in panels
        for name, vector in (("fs", panel.fs_vector), ("ss", panel.ss_vector))
    }
    long = {name: length for name, length in steps.items() if abs(length - 1) > STEP_TOLERANCE}
    if long:
        name, length = next(iter(long.items()))
        notes.append(
            f"{_several(name, len(long))} of {source} {_is(long)} {length:.3g} pixels long, not 1: "
            "write the direction, such as +1.0x -0.002y, and give the pixel size by res"
        )
    strange = [panel for panel in panels if not RES[0] <= panel.res <= RES[1]]
    if strange:
        size = f"{1e3 / strange[0].res:.4g} mm"
        notes.append(
            f"res = {strange[0].res:g} of {_several('panel ' + strange[0].name, len(strange))} of "
            f"{source} means pixels of {size}: give it in pixels per metre, such as 13333 for 75 µm"
        )
    pairs = _in_one_place(panels)
    if pairs:
        first, second = pairs[0]
        others = f" (and {len(pairs) - 1} other pairs)" if len(pairs) > 1 else ""
        notes.append(
            f"panels {first.name} and {second.name} of {source} are at the same place before the "
            f"beam{others}: correct corner_x, corner_y, fs or ss"
        )
    return notes


def _several(name: str, n: int) -> str:
    return name if n == 1 else f"{name} (and {n - 1} others)"


def _is(several: Sized) -> str:
    return "is" if len(several) == 1 else "are"


def _in_one_place(panels: Sequence[Panel]) -> list[tuple[Panel, Panel]]:
    """Return pairs of panels in one plane of which one holds the middle of the other."""

    def metres(row: Callable[[Panel], tuple[float, float]]) -> NDArray[np.float64]:
        return np.array([np.divide(row(panel), panel.res) for panel in panels])

    fs, ss = metres(lambda p: p.fs_vector[:2]), metres(lambda p: p.ss_vector[:2])
    size = np.array([(panel.width, panel.height) for panel in panels], float)
    corner = metres(lambda p: (p.corner_x, p.corner_y))
    depth = np.array([(panel.clen or 0.0) + panel.coffset for panel in panels])
    area = fs[:, 0] * ss[:, 1] - fs[:, 1] * ss[:, 0]
    if not (np.isfinite(area) & (area != 0)).all():
        return []
    middle = corner + (fs * size[:, :1] + ss * size[:, 1:]) / 2
    pairs = []
    for i in range(len(panels)):
        # The others' middles, in pixels of this panel from its corner.
        x, y = (middle - corner[i]).T
        along = (x * ss[i, 1] - y * ss[i, 0]) / area[i]
        across = (y * fs[i, 0] - x * fs[i, 1]) / area[i]
        inside = (along > 0) & (along < size[i, 0]) & (across > 0) & (across < size[i, 1])
        inside &= np.abs(depth - depth[i]) < SAME_DEPTH
        pairs += [(min(i, int(j)), max(i, int(j))) for j in np.flatnonzero(inside) if j != i]
    return [(panels[i], panels[j]) for i, j in dict.fromkeys(pairs)]


def _overlaps(panels: Sequence[Panel]) -> Iterator[tuple[Panel, Panel, int]]:
    """Yield two panels that share pixels, in the order of the file, and how many they share."""
    numbered = sorted(enumerate(panels), key=lambda each: each[1].slab_ss)
    for i, (number, panel) in enumerate(numbered):
        end = panel.slab_ss + panel.height
        for other_number, other in numbered[i + 1 :]:
            if other.slab_ss >= end:
                break
            rows = min(end, other.slab_ss + other.height) - other.slab_ss
            columns = min(panel.slab_fs + panel.width, other.slab_fs + other.width) - max(
                panel.slab_fs, other.slab_fs
            )
            if columns > 0:
                pair = (panel, other) if number < other_number else (other, panel)
                yield *pair, rows * columns
