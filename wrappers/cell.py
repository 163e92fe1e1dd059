"""Unit cells: CrystFEL's ``.cell`` files, and PDB or mmCIF files through gemmi."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.lattice_types import contradiction
from wrappers.reading import read_text

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


_CRYST1 = re.compile(r"\s{0,3}CRYST1\s")
_IN_STREAM = re.compile(r"-----\s*Begin unit cell\s*-----(.*?)-----\s*End unit cell", re.DOTALL)

LONGEST_EDGE = 5000
"""In Å; no crystal of a molecule comes near it."""


def _has_hexagonal_axes(a: float, b: float, c: float, al: float, be: float, ga: float) -> bool:
    """Tell whether a cell's axes are hexagonal rather than rhombohedral, roughly measured."""
    del c
    return math.isclose(a, b, rel_tol=0.01) and max(abs(al - 90), abs(be - 90), abs(ga - 120)) < 1


def _has_rhombohedral_axes(a: float, b: float, c: float, al: float, be: float, ga: float) -> bool:
    """Tell whether a cell's axes are rhombohedral, roughly measured."""
    edges_agree = math.isclose(a, b, rel_tol=0.02) and math.isclose(a, c, rel_tol=0.02)
    return edges_agree and max(al, be, ga) - min(al, be, ga) < 2


def _floats(words: Sequence[str]) -> list[float] | None:
    """Return six numbers; None where they are not that."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if len(numbers) == 6 else None


def _small_structure(block: Any) -> Any:
    import gemmi

    return gemmi.make_small_structure_from_block(block)


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
        """Read a CrystFEL ``.cell`` file, or the first cell of a PDB, mmCIF or stream file.

        Raises
        ------
        InputError
            If it cannot be read or holds no cell.
        """
        path = Path(path)
        text = read_text(path, "the cell file").lstrip()
        try:
            if text.startswith(_FIRST_LINE[:-4]):
                return cls._parse(text)
            if text.startswith("CrystFEL stream format"):
                return cls._from_stream(text)
            record = next((line for line in text.splitlines() if _CRYST1.match(line)), None)
            if record is not None:
                return cls._from_cryst1(record)
            return cls._from_cif(text)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def _parse(cls, text: str) -> Cell:
        values: dict[str, str] = {}
        for line in text.splitlines()[1:]:
            key, equals, value = line.split(";", 1)[0].partition("=")
            key = key.strip()
            if equals and values.setdefault(key, value.strip()) != value.strip():
                raise InputError(f"{key} stands twice, with different values: leave one out")
        numbers: dict[str, float] = {}
        for key in ("a", "b", "c", "al", "be", "ga"):
            units = _LENGTH_UNITS if len(key) == 1 else _ANGLE_UNITS
            if key not in values:
                raise InputError(
                    f"the cell has no {key}: add a line such as '{key} = 90.0 {next(iter(units))}'"
                )
            try:
                size, unit = values[key].split()
                numbers[key] = float(size) * units[unit]
            except (ValueError, KeyError):
                raise InputError(
                    f"{key} = {values[key][:40]!r} must be a number and its unit, one of "
                    f"{', '.join(units)}"
                ) from None
        centering = values.get("centering", "P")
        lattice = values.get("lattice_type", "triclinic").lower()
        if centering == "R" and _has_hexagonal_axes(*numbers.values()):
            # R names rhombohedral axes. On hexagonal ones the same lattice is called H.
            centering, lattice = "H", "hexagonal"
            values["unique_axis"] = "c"
        if centering == "R" and not _has_rhombohedral_axes(*numbers.values()):
            raise InputError(
                "centering = R is of rhombohedral axes (a = b = c, al = be = ga), which these are "
                "not: give those, or hexagonal axes (a = b, ga = 120 deg) with centering = H"
            )
        if centering == "H" and not _has_hexagonal_axes(*numbers.values()):
            raise InputError(
                "centering = H is of hexagonal axes (a = b, al = be = 90 deg, ga = 120 deg), which "
                "these are not: give those, or rhombohedral axes with centering = R"
            )
        cell = cls(
            **numbers,
            lattice_type=lattice,
            centering=centering,
            unique_axis=values.get("unique_axis", "*").replace("?", "*"),
        )
        if fault := contradiction(
            lattice, cell.unique_axis, cell.parameters[:3], cell.parameters[3:]
        ):
            raise InputError(
                f"lattice_type = {lattice}"
                + (f", unique_axis = {cell.unique_axis}" if cell.unique_axis != "*" else "")
                + f" needs {fault}, which this cell does not have: correct the type or the cell"
            )
        return cell

    @classmethod
    def _from_stream(cls, text: str) -> Cell:
        """Return the cell that a CrystFEL stream was indexed with."""
        match = _IN_STREAM.search(text)
        if match is None:
            raise InputError("the stream was made without a unit cell: give a CrystFEL cell file")
        return cls._parse(match[1].lstrip())

    @classmethod
    def _from_cryst1(cls, record: str) -> Cell:
        """Return the cell of a PDB file's first CRYST1 record, as CrystFEL takes the first.

        The numbers may stand beside the record's columns, as long as blanks are between them.
        """
        words = record.split()[1:]
        columns = [record[i:j] for i, j in pairwise((6, 15, 24, 33, 40, 47, 54))]
        numbers = _floats(words[:6]) or _floats(columns)
        if numbers is None:
            raise InputError(
                f"its CRYST1 record is not in columns: {record.strip()[:70]!r}; write the numbers "
                "with blanks between them, or a CrystFEL cell file"
            )
        if max(numbers[:3]) <= 1:
            raise InputError(
                "there is no unit cell in it: its CRYST1 record (1 1 1) holds the place of one"
            )
        # Behind the space group, in its columns or not, stands the number of molecules.
        in_columns = _floats(columns) == numbers
        return cls._of_group(numbers, record[55:66].strip() if in_columns else " ".join(words[6:]))

    @classmethod
    def _from_cif(cls, text: str) -> Cell:
        """Return the first cell in a CIF or mmCIF file."""
        import gemmi

        try:
            blocks = list(gemmi.cif.read_string(text))
            structures = [gemmi.make_structure_from_block(block) for block in blocks]
            structures += [_small_structure(block) for block in blocks]
        except (RuntimeError, ValueError, IndexError):
            structures = []
        for structure in structures:
            if structure.cell.is_crystal():
                cell = structure.cell
                numbers = [cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma]
                return cls._of_group(numbers, structure.spacegroup_hm)
        raise InputError(
            "there is no unit cell in it: give a CrystFEL cell file (its first line is "
            f"'{_FIRST_LINE}') or a PDB file with a CRYST1 record"
        )

    @classmethod
    def _of_group(cls, numbers: Sequence[float], name: str) -> Cell:
        """Return the cell of a space group by its name, which may lack and then is P 1."""
        import gemmi

        al, ga = numbers[3], numbers[5]
        words = name.split()
        group = gemmi.find_spacegroup_by_name(name or "P 1", al, ga)
        if group is None and words and words[-1].isdigit():
            group = gemmi.find_spacegroup_by_name(" ".join(words[:-1]) or "P 1", al, ga)
        if group is None:
            raise InputError(
                f"its space group {name[:40]!r} is unknown: correct it, or write "
                "a CrystFEL cell file"
            )
        lattice, centering = group.crystal_system_str(), group.centring_type()
        if group.hm.startswith("R"):
            centering = "H" if _has_hexagonal_axes(*numbers) or group.ext != "R" else "R"
        if lattice == "trigonal":
            lattice = "rhombohedral" if centering == "R" else "hexagonal"
        axis = "*"
        if lattice == "monoclinic":
            angles = np.abs(np.subtract(numbers[3:], 90.0))
            axis = "abc"[int(np.argmax(angles))] if angles.any() else "b"
        elif lattice in _WITH_UNIQUE_AXIS:
            axis = "c"
        a, b, c, al, be, ga = numbers
        return cls(a, b, c, al, be, ga, lattice, centering, axis)

    @property
    def summary(self) -> str:
        """The cell in a line for people, such as ``tetragonal P, 79 79 38 Å, 90 90 90°``."""
        edges = " ".join(f"{edge:.5g}" for edge in self.parameters[:3])
        angles = " ".join(f"{angle:.5g}" for angle in self.parameters[3:])
        axis = f", unique axis {self.unique_axis}" if self.unique_axis != "*" else ""
        return f"{self.lattice_type} {self.centering}, {edges} Å, {angles}°{axis}"

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c in Å and al, be, ga in degrees."""
        return self.a, self.b, self.c, self.al, self.be, self.ga

    @property
    def volume(self) -> float:
        """In Å³."""
        return self.a * self.b * self.c * math.sqrt(self._squared_volume_factor)

    @property
    def primitive_volume(self) -> float:
        """Of a primitive cell, in Å³: of as much as holds one lattice point."""
        return self.volume * abs(float(np.linalg.det(self.primitive_axes)))

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
