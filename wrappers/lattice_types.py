"""What the lattice types of cell files say of edges and angles."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["contradiction"]

ALIKE = 0.02
"""Relative difference of edges that a file may write as they were refined, though they are equal by
the lattice type."""
NEAR_ANGLE = 1.5
"""The same of angles, in degrees."""


def contradiction(
    lattice_type: str, unique_axis: str, edges: Sequence[float], angles: Sequence[float]
) -> str:
    """Return what a lattice type needs and a cell's edges and angles do not have, or "".

    Parameters
    ----------
    lattice_type, unique_axis : str
        As in a CrystFEL cell file; "*" for no unique axis.
    edges, angles : sequence of 3 float
        a, b, c in Å; al, be, ga in degrees.
    """

    def alike(*places: int) -> bool:
        chosen = [edges[place] for place in places]
        return max(chosen) - min(chosen) <= ALIKE * max(chosen)

    def are(degrees: float, *places: int) -> bool:
        return all(abs(angles[place] - degrees) <= NEAR_ANGLE for place in places)

    main = "abc".find(unique_axis)
    others = [place for place in range(3) if place != main]
    names = " = ".join("abc"[place] for place in others)
    rules = {
        "monoclinic": (are(90, *others), "two angles of 90 deg beside the unique axis'"),
        "orthorhombic": (are(90, 0, 1, 2), "three angles of 90 deg"),
        "tetragonal": (are(90, 0, 1, 2) and alike(*others), f"angles of 90 deg and {names}"),
        "rhombohedral": (alike(0, 1, 2), "a = b = c"),
        "hexagonal": (
            are(90, *others) and are(120, main) and alike(*others),
            f"{names} and 120 deg between them",
        ),
        "cubic": (are(90, 0, 1, 2) and alike(0, 1, 2), "angles of 90 deg and a = b = c"),
    }
    fits, needed = rules.get(lattice_type, (True, ""))
    return "" if fits else needed
