"""What is wrong, or odd, with panels that each make sense by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from wrappers.detector.panels import Panel
from wrappers.errors import InputError

__all__ = ["check_panels"]

FARTHEST = 100_000
"""Pixels from the beam; a panel beyond is a mistake, and would make huge pictures."""


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
    return notes


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
