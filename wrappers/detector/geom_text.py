"""CrystFEL's geometry files as text: statements and their values.

The grammar is that of crystfel_geometry(5): ``key = value`` or ``panel/key = value``, comments
from ``;`` on. What the keys mean is `geom_parser`'s business.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from wrappers.detector.panels import Header, Law
from wrappers.errors import InputError
from wrappers.reading import read_text

__all__ = [
    "LENGTH_UNITS",
    "MASK_FILE",
    "NUMBER",
    "Statement",
    "energy",
    "length",
    "mask_path",
    "name",
    "number",
    "offset",
    "split_lines",
    "statements",
    "vector",
    "whole",
]

_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
NUMBER = re.compile(rf"[+-]?{_UNSIGNED}")
_TERM = re.compile(rf"([+-]?)({_UNSIGNED})?([xyz])")
_VECTOR = re.compile(rf"[+-]?(?:{_UNSIGNED})?[xyz](?:[+-](?:{_UNSIGNED})?[xyz])*")
LENGTH_UNITS = {"m": 1.0, "mm": 1e-3}
_ENERGY_UNITS = {"eV": 1.0, "keV": 1e3, "MeV": 1e6}
_VOLTAGE_UNITS = {"V": 1.0, "kV": 1e3}
_WAVELENGTH_UNITS = {"A": 1.0, "m": 1e10}
_QUANTITY = re.compile(rf"([+-]?{_UNSIGNED})\s*([A-Za-z]*)")
_HEADER = re.compile(r"((?!(?:nan|inf|infinity)\b)[A-Za-z_%/]\S*)(?:\s+(\S+))?", re.IGNORECASE)
LONGEST_STEP = 1e6
"""From pixel to pixel, in pixels; safe to reckon with."""
LONGEST_NAME = 200
"""Characters of a name; HDF5 and the file systems take little more."""
MASK_FILE = re.compile(r"(?:mask[0-7]?|saturation_map)_file")


@dataclass(frozen=True)
class Statement:
    """One ``key = value`` of a geometry file.

    Attributes
    ----------
    line : int
        Index of its line, from 0.
    owner : str
        The panel or bad region before the slash, or "" at the top level.
    start : int
        Where the value begins in the line.
    """

    line: int
    owner: str
    key: str
    value: str
    start: int

    @property
    def of_bad_region(self) -> bool:
        """Whether it describes a bad region rather than a panel or a default."""
        return self.owner.startswith("bad")

    @property
    def name(self) -> str:
        """The key with its owner, as the file has it."""
        text = f"{self.owner}/{self.key}" if self.owner else self.key
        return text if len(text) <= 60 else f"{text[:60]}…"

    def fail(self, source: Path, fault: str) -> NoReturn:
        """Raise an `InputError` that names the file, the line and the field."""
        value = self.value if len(self.value) <= 60 else f"{self.value[:60]}…"
        if "#" in self.value:
            fault += "; a comment begins with ';'"
        raise InputError(f"{source}, line {self.line + 1}: {self.name} = {value!r} {fault}")


def split_lines(path: Path) -> list[str]:
    """Return a geometry file's lines with their ends; joined they are the file.

    But for a byte-order mark, which is left out.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    # Editors put a byte-order mark there, at which CrystFEL stumbles.
    text = read_text(path, "the geometry file", "surrogateescape")
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def statements(lines: list[str], source: Path) -> Iterator[Statement]:
    """Split lines into statements; blank lines and comments give none.

    Raises
    ------
    InputError
        If a line is neither a statement nor a comment.
    """
    for i, line in enumerate(lines):
        text = line.rstrip("\r\n").split(";", 1)[0]
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        left, equals, value = text.partition("=")
        if not equals:
            raise InputError(
                f"{source}, line {i + 1}: {text.strip()[:60]!r} is not of the form "
                "'key = value': is this a CrystFEL geometry file?"
            )
        owner, slash, key = left.strip().partition("/")
        if not slash:
            owner, key = "", owner
        start = len(left) + 1 + len(value) - len(value.lstrip())
        yield Statement(i, owner.strip(), key.strip(), value.strip(), start)


def number(text: str) -> float:
    """Return a plain number; ValueError, worded for the end of a sentence, if it is none."""
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("must be a plain number")
    return float(text)


def whole(text: str) -> int:
    """Return a whole number, which may be written as 3.0; ValueError if it is none."""
    value = number(text)
    if value != int(value):
        raise ValueError("must be a whole number")
    return int(value)


def vector(text: str) -> tuple[float, float, float]:
    """Return the components of a direction such as ``-0.01x +0.99y``; ValueError if it is none."""
    compact = "".join(text.split())
    if not _VECTOR.fullmatch(compact):
        raise ValueError("must be a direction such as '+1.0x -0.002y'")
    sums = dict.fromkeys("xyz", 0.0)
    for sign, size, axis in _TERM.findall(compact):
        sums[axis] += float(sign + (size or "1"))
    if not all(abs(component) <= LONGEST_STEP for component in sums.values()):
        raise ValueError("must be a direction with components of pixels, near 1")
    return sums["x"], sums["y"], sums["z"]


def length(text: str, header_factor: float = 1.0) -> float | Header:
    """Return a length in metres, or the header that holds it.

    A bare number is in metres; a bare header path is in units of `header_factor` metres.
    ValueError if the text is neither.
    """
    return _quantity(text, LENGTH_UNITS, 1.0, Header, header_factor)


def offset(text: str) -> float:
    """Return a ``coffset`` in metres; ValueError if it is no number or in another unit.

    CrystFEL reads the number and nothing behind it, so that no other unit would be heeded.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in ("", "m"):
        raise ValueError("must be a plain number, in metres")
    return number(match[1])


def energy(key: str, text: str) -> float | Header:
    """Return the photon energy in eV that a geometry states, or the header that holds it.

    Parameters
    ----------
    key : str
        "photon_energy", "wavelength", or "electron_voltage": then it is the energy of photons of
        the electrons' wavelength.
    text : str

    Raises
    ------
    ValueError
        If there is none, or if it has no unit where CrystFEL wants one.
    """
    law: Law
    if key == "photon_energy":
        units, law, bare = _ENERGY_UNITS, "proportional", 1.0
    elif key == "wavelength":
        units, law, bare = _WAVELENGTH_UNITS, "reciprocal", None
    else:
        units, law, bare = _VOLTAGE_UNITS, "electrons", None
    value = _quantity(text, units, bare, lambda path, factor: Header(path, factor, law), bare)
    if isinstance(value, Header):
        return value
    value = Header("", 1.0, law).convert(value)
    if not 0 < value < math.inf:
        raise ValueError("must be above 0")
    return value


def _quantity(
    text: str,
    units: dict[str, float],
    number_factor: float | None,
    header: Callable[[str, float], Header],
    header_factor: float | None,
) -> float | Header:
    """Read ``value [unit]`` or ``/path [unit]``; a factor of None says that a unit is needed."""
    plain = _QUANTITY.fullmatch(text)
    match = plain or _HEADER.fullmatch(text)
    if match is None:
        raise ValueError("must be a plain number and its unit, or the path of a header")
    token, unit = match[1], match[2]
    factor = units.get(unit) if unit else (number_factor if plain else header_factor)
    if factor is None:
        raise ValueError(f"must end in a unit, one of {', '.join(units)}")
    if plain:
        return number(token) * factor
    return header("/" + name(token).lstrip("/"), factor)


def name(text: str) -> str:
    """Return a name of something in a file; ValueError if there is none, or a monstrous one."""
    if not text:
        raise ValueError("must not be empty")
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError(f"must be a printable name of at most {LONGEST_NAME} characters")
    return text


def mask_path(name: str, folder: Path) -> str:
    """Resolve a mask file's name: against the geometry's folder, else the working directory.

    CrystFEL itself knows the working directory only.
    """
    beside = (folder / name).absolute()
    here = Path(name).absolute()
    # Unlike Path.exists this takes any name.
    return str(here if os.path.exists(here) and not os.path.exists(beside) else beside)
