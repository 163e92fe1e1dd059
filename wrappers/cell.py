"""Unit cells: CrystFEL's ``.cell`` files, and PDB or mmCIF files through gemmi."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["PRIMITIVE_AXES", "Cell"]

Floats = NDArray[np.float64]

_FIRST_LINE = "CrystFEL unit cell file version 1.0"
_LATTICES = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "rhombohedral",
    "hexagonal",
    "cubic",
)
_WITH_UNIQUE_AXIS = ("monoclinic", "tetragonal", "hexagonal")
_LENGTH_UNITS = {"A": 1.0, "nm": 10.0}
_ANGLE_UNITS = {"deg": 1.0, "rad": 180.0 / math.pi}

PRIMITIVE_AXES = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "R": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "A": ((1, 0, 0), (0, 1 / 2, 1 / 2), (0, -1 / 2, 1 / 2)),
    "B": ((1 / 2, 0, 1 / 2), (0, 1, 0), (-1 / 2, 0, 1 / 2)),
    "C": ((1 / 2, 1 / 2, 0), (-1 / 2, 1 / 2, 0), (0, 0, 1)),
    "I": ((-1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (1 / 2, 1 / 2, -1 / 2)),
    "F": ((0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)),
    "H": ((2 / 3, 1 / 3, 1 / 3), (-1 / 3, 1 / 3, 1 / 3), (-1 / 3, -2 / 3, 1 / 3)),
}
"""Per centring: the axes of a primitive cell (rows) as multiples of a, b, c.

R is rhombohedral axes, which are primitive; H is the obverse setting on hexagonal axes."""


LONGEST_EDGE = 5000
"""In Å; no crystal of a molecule comes near it."""


@dataclass(frozen=True)
class Cell:
    """A unit cell.

    Attributes
    ----------
    a, b, c : float
        Edges in Å.
    al, be, ga : float
        Angles in degrees.
    lattice_type : str
        As CrystFEL names it: "triclinic" … "cubic".
    centering : str
        P, A, B, C, I, F, R (rhombohedral axes) or H (rhombohedral lattice on hexagonal axes).
    unique_axis : str
        "a", "b" or "c" for monoclinic, tetragonal and hexagonal lattices; else "*".

    Raises
    ------
    InputError
        If the parameters make no cell.
    """

    a: float
    b: float
    c: float
    al: float
    be: float
    ga: float
    lattice_type: str = "triclinic"
    centering: str = "P"
    unique_axis: str = "*"

    def __post_init__(self) -> None:
        edges, angles = (self.a, self.b, self.c), (self.al, self.be, self.ga)
        if not all(1 <= edge <= LONGEST_EDGE for edge in edges):
            raise InputError(
                f"the cell edges {edges} must lie between 1 and {LONGEST_EDGE} Å: check their unit"
            )
        if not all(0 < angle < 180 for angle in angles) or not self._squared_volume_factor > 0:
            raise InputError(f"the cell angles {angles} (degrees) make no cell")
        if self.lattice_type not in _LATTICES:
            raise InputError(
                f"the lattice type {self.lattice_type!r} is none of {', '.join(_LATTICES)}"
            )
        if self.centering not in PRIMITIVE_AXES:
            raise InputError(
                f"the centering {self.centering!r} is none of {', '.join(PRIMITIVE_AXES)}"
            )
        if self.unique_axis not in ("a", "b", "c", "*"):
            raise InputError(f"the unique axis {self.unique_axis!r} is none of a, b, c")
        if self.lattice_type in _WITH_UNIQUE_AXIS and self.unique_axis == "*":
            raise InputError(
                f"a {self.lattice_type} cell has a unique axis: add a line such as "
                "'unique_axis = c'"
            )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Cell:
        """Read a CrystFEL ``.cell`` file, or the cell of a PDB or mmCIF file.

        Raises
        ------
        InputError
            If it cannot be read or holds no cell.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise InputError(
                f"the cell file {path} cannot be read ({error.strerror}): check its name"
            ) from None
        try:
            if text.lstrip().startswith("CrystFEL unit cell file"):
                return cls._parse(text)
            return cls._from_structure(text)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def _parse(cls, text: str) -> Cell:
        values: dict[str, str] = {}
        for line in text.splitlines()[1:]:
            key, equals, value = line.split(";", 1)[0].partition("=")
            if equals:
                values[key.strip()] = value.strip()
        numbers: dict[str, float] = {}
        for key in ("a", "b", "c", "al", "be", "ga"):
            units = _LENGTH_UNITS if len(key) == 1 else _ANGLE_UNITS
            if key not in values:
                raise InputError(
                    f"the cell has no {key}: add a line such as '{key} = 90.0 {next(iter(units))}'"
                )
            size, _, unit = values[key].partition(" ")
            try:
                numbers[key] = float(size) * units[unit.strip()]
            except (ValueError, KeyError):
                raise InputError(
                    f"{key} = {values[key]!r} must be a number and its unit, one of "
                    f"{', '.join(units)}"
                ) from None
        return cls(
            **numbers,
            lattice_type=values.get("lattice_type", "triclinic").lower(),
            centering=values.get("centering", "P"),
            unique_axis=values.get("unique_axis", "*").replace("?", "*"),
        )

    @classmethod
    def _from_structure(cls, text: str) -> Cell:
        import gemmi

        try:
            if "CRYST1" in text:
                structure = gemmi.read_pdb_string(text)
            else:
                structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text)[0])
        except (RuntimeError, ValueError, IndexError):
            structure = None
        if structure is None or not structure.cell.is_crystal():
            raise InputError(
                "there is no unit cell in it: give a CrystFEL cell file (its first line is "
                f"'{_FIRST_LINE}') or a PDB file with a CRYST1 record"
            )
        cell = structure.cell
        numbers = (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma)
        group = gemmi.find_spacegroup_by_name(
            structure.spacegroup_hm or "P 1", cell.alpha, cell.gamma
        )
        if group is None:
            raise InputError(
                f"its space group {structure.spacegroup_hm!r} is unknown: correct it, or write "
                "a CrystFEL cell file"
            )
        lattice, centering = group.crystal_system_str(), group.centring_type()
        if group.hm.startswith("R"):
            centering = "R" if group.ext == "R" else "H"
        if lattice == "trigonal":
            lattice = "rhombohedral" if centering == "R" else "hexagonal"
        axis = "*"
        if lattice == "monoclinic":
            angles = np.abs(np.subtract(numbers[3:], 90.0))
            axis = "abc"[int(np.argmax(angles))] if angles.any() else "b"
        elif lattice in _WITH_UNIQUE_AXIS:
            axis = "c"
        return cls(*numbers, lattice_type=lattice, centering=centering, unique_axis=axis)

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c in Å and al, be, ga in degrees."""
        return self.a, self.b, self.c, self.al, self.be, self.ga

    @property
    def volume(self) -> float:
        """In Å³."""
        return self.a * self.b * self.c * math.sqrt(self._squared_volume_factor)

    @cached_property
    def real(self) -> Floats:
        """Rows a, b, c in Å: a along x, b in the plane of x and y."""
        cos_al, cos_be, cos_ga = (math.cos(math.radians(x)) for x in (self.al, self.be, self.ga))
        sin_ga = math.sin(math.radians(self.ga))
        c_y = (cos_al - cos_be * cos_ga) / sin_ga
        c_z = math.sqrt(self._squared_volume_factor) / sin_ga
        return np.array(
            [
                [self.a, 0.0, 0.0],
                [self.b * cos_ga, self.b * sin_ga, 0.0],
                [self.c * cos_be, self.c * c_y, self.c * c_z],
            ]
        )

    @cached_property
    def reciprocal(self) -> Floats:
        """Rows a*, b*, c* in 1/Å, in the setting of `real`."""
        return np.linalg.inv(self.real).T.astype(np.float64)

    @cached_property
    def primitive_axes(self) -> Floats:
        """Axes of a primitive cell (rows) as multiples of a, b, c: ``primitive_axes @ real``."""
        return np.array(PRIMITIVE_AXES[self.centering], dtype=np.float64)

    @property
    def text(self) -> str:
        """The cell as a CrystFEL cell file."""
        axis = f"unique_axis = {self.unique_axis}\n" if self.unique_axis != "*" else ""
        return (
            f"{_FIRST_LINE}\n\nlattice_type = {self.lattice_type}\n"
            f"centering = {self.centering}\n{axis}\n"
            f"a = {self.a:.6g} A\nb = {self.b:.6g} A\nc = {self.c:.6g} A\n\n"
            f"al = {self.al:.6g} deg\nbe = {self.be:.6g} deg\nga = {self.ga:.6g} deg\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a CrystFEL cell file, which appears whole or not at all."""
        write_whole(Path(path), self.text)

    @property
    def _squared_volume_factor(self) -> float:
        """(V / abc)², which is negative where the angles close no cell."""
        x, y, z = (math.cos(math.radians(angle)) for angle in (self.al, self.be, self.ga))
        return 1.0 - x * x - y * y - z * z + 2.0 * x * y * z
