"""CrystFEL's geometry files as text: statements, their values, and edited copies.

The grammar is that of crystfel_geometry(5): ``key = value`` or ``panel/key = value``, comments
from ``;`` on. What the keys mean is `geom_parser`'s business.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from wrappers.detector.panels import HC, Header
from wrappers.errors import InputError
from wrappers.files import write_whole

if TYPE_CHECKING:
    from wrappers.detector.geometry import Geometry

__all__ = [
    "Statement",
    "energy",
    "length",
    "mask_path",
    "number",
    "slab_geometry_text",
    "split_lines",
    "statements",
    "vector",
    "whole",
    "write_geometry",
]

_UNSIGNED = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"[+-]?{_UNSIGNED}")
_TERM = re.compile(rf"([+-]?)({_UNSIGNED})?([xyz])")
_VECTOR = re.compile(rf"[+-]?(?:{_UNSIGNED})?[xyz](?:[+-](?:{_UNSIGNED})?[xyz])*")
_LENGTH_UNITS = {"m": 1.0, "mm": 1e-3}
_ENERGY_UNITS = {"eV": 1.0, "keV": 1e3, "MeV": 1e6}
_WAVELENGTH_UNITS = {"A": 1.0, "m": 1e10}
_MASK_FILE = re.compile(r"(?:mask[0-7]?|saturation_map)_file")


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

    def fail(self, source: Path, fault: str) -> NoReturn:
        """Raise an `InputError` that names the file, the line and the field."""
        name = f"{self.owner}/{self.key}" if self.owner else self.key
        raise InputError(f"{source}, line {self.line + 1}: {name} = {self.value!r} {fault}")


def split_lines(path: Path) -> list[str]:
    """Return a geometry file's lines with their ends, so that joining them gives the file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(
            f"the geometry file {path} cannot be read ({error.strerror}): check its name"
        ) from None
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
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
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
    if not all(math.isfinite(component) for component in sums.values()):
        raise ValueError("must be a direction with finite components")
    return sums["x"], sums["y"], sums["z"]


def length(text: str, header_factor: float = 1.0) -> float | Header:
    """Return a length in metres, or the header that holds it.

    A bare number is in metres; a bare header path is in units of `header_factor` metres.
    ValueError if the text is neither.
    """
    return _quantity(text, _LENGTH_UNITS, 1.0, header_factor, Header)


def energy(key: str, text: str) -> float | Header:
    """Return the photon energy in eV that ``photon_energy`` or ``wavelength`` states.

    ValueError if there is none, or if a wavelength has no unit.
    """
    if key == "photon_energy":
        value = _quantity(text, _ENERGY_UNITS, 1.0, 1.0, Header)
    else:
        value = _quantity(
            text,
            _WAVELENGTH_UNITS,
            math.nan,
            math.nan,
            lambda path, factor: Header(path, HC / factor, reciprocal=True),
        )
        if not isinstance(value, Header):
            value = HC / value if value else 0.0
    if not isinstance(value, Header) and not (0 < value < math.inf):
        raise ValueError("must be above 0")
    return value


def _quantity(
    text: str,
    units: dict[str, float],
    number_factor: float,
    header_factor: float,
    header: Callable[[str, float], Header],
) -> float | Header:
    """Read ``value [unit]`` or ``/path [unit]``; a factor of NaN says that a unit is needed."""
    token, _, unit = text.partition(" ")
    unit = unit.strip()
    is_header = token.startswith("/")
    factor = units.get(unit) if unit else (header_factor if is_header else number_factor)
    if factor is None or math.isnan(factor):
        raise ValueError(f"must end in a unit, one of {', '.join(units)}")
    return header(token, factor) if is_header else number(token) * factor


def mask_path(name: str, folder: Path) -> str:
    """Resolve a mask file's name: against the geometry's folder, else the working directory.

    CrystFEL itself knows the working directory only.
    """
    beside = (folder / name).absolute()
    here = Path(name).absolute()
    return str(here if here.exists() and not beside.exists() else beside)


def write_geometry(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    clen_change: float = 0.0,
    shift_x: float = 0.0,
    shift_y: float = 0.0,
    top: Sequence[str] = (),
    bottom: Sequence[str] = (),
) -> None:
    """Copy a geometry file with another camera length and detector shift.

    The camera length is changed in ``clen`` where that is a number, in ``coffset`` where it is a
    header's. Every other line stays as it is, except that relative names of mask files become
    absolute, so that the copy works from any folder. The target appears whole or not at all.

    Parameters
    ----------
    source, target : path
        May be the same file.
    clen_change : float
        Added to the camera length, in metres.
    shift_x, shift_y : float
        Added to ``detector_shift_x`` and ``detector_shift_y``, in metres: the detector moves
        towards positive x and y.
    top, bottom : sequence of str
        Further lines, before the first statement and behind the last.

    Raises
    ------
    InputError
        If the source cannot be read, has no ``clen`` to change, or takes its shift from the
        data; if the target cannot be written.
    """
    source, target = Path(source), Path(target)
    lines = split_lines(source)
    found = list(statements(lines, source))
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    inserted = [line + newline for line in top]
    edits: dict[int, str] = {}

    def add(statement: Statement, change: float) -> None:
        """Add metres to the number at the start of a statement's value."""
        match = _NUMBER.match(statement.value)
        if match is None:
            statement.fail(source, "must be a plain number to be changed")
        unit = statement.value[match.end() :].strip() or "m"
        if unit not in _LENGTH_UNITS:
            statement.fail(source, "must be in m or mm")
        value = f"{float(match[0]) + change / _LENGTH_UNITS[unit]:.12g}"
        line = lines[statement.line]
        edits[statement.line] = (
            line[: statement.start] + value + line[statement.start + match.end() :]
        )

    if clen_change:
        clens = [s for s in found if s.key == "clen" and not s.of_bad_region]
        if not clens:
            raise InputError(f"{source} gives no clen to change: add a line such as 'clen = 0.1 m'")
        if not any(s.value.startswith("/") for s in clens):
            for statement in clens:
                add(statement, clen_change)
        else:
            for statement in found:
                if statement.key == "coffset" and not statement.of_bad_region:
                    add(statement, clen_change)
            if _some_panel_lacks(found, "coffset"):
                inserted.append(f"coffset = {clen_change:.12g}{newline}")

    shifts = {"detector_shift_x": shift_x, "detector_shift_y": shift_y}
    if any(shifts.values()):
        for key, shift in shifts.items():
            given = [s for s in found if s.key == key and not s.owner]
            if not given:
                # CrystFEL wants both or none.
                inserted.append(f"{key} = {shift:.12g} m{newline}")
            elif shift:
                if given[-1].value.startswith("/"):
                    given[-1].fail(
                        source, "is read from the data: give a number there to shift it further"
                    )
                add(given[-1], shift)

    for statement in found:
        if _MASK_FILE.fullmatch(statement.key) and not os.path.isabs(statement.value):
            line, end = lines[statement.line], statement.start + len(statement.value)
            path = mask_path(statement.value, source.parent)
            edits[statement.line] = line[: statement.start] + path + line[end:]

    # New defaults must come before the panels; the first statement is early enough.
    first = found[0].line if found else 0
    body = [edits.get(i, line) for i, line in enumerate(lines)]
    if bottom and body and not body[-1].endswith(("\n", "\r")):
        body[-1] += newline
    appended = [line + newline for line in bottom]
    write_whole(target, "".join([*body[:first], *inserted, *body[first:], *appended]))


def _some_panel_lacks(found: list[Statement], key: str) -> bool:
    """Tell whether a panel gets `key` neither from a line of its own nor from a default."""
    default = False
    has: dict[str, bool] = {}
    for statement in found:
        if not statement.owner:
            default = default or statement.key == key
        elif not statement.of_bad_region:
            own = statement.key == key
            has[statement.owner] = has.get(statement.owner, default) or own
    return not all(has.values())


def slab_geometry_text(
    geometry: Geometry,
    *,
    clen: str = "/LCLS/detector_1/EncoderValue mm",
    photon_energy: str = "/LCLS/photon_energy_eV eV",
    shift_x: str = "",
    shift_y: str = "",
) -> str:
    """Return a geometry file for peak lists without images, in slab coordinates.

    Each panel is its rectangle of the slab. The panels come in the same order, and the
    geometry's own shift is worked into their corners. ``clen`` is the mean camera length: each
    panel's ``coffset`` holds its distance from the mean.

    Parameters
    ----------
    geometry : Geometry
    clen, photon_energy : str
        Values of these fields: a header path, so that each event brings its own, or a number;
        with their unit.
    shift_x, shift_y : str
        Values of ``detector_shift_x`` and ``detector_shift_y``, or "" for none. Give both or
        none.
    """
    lines = [
        f"clen = {clen}",
        f"photon_energy = {photon_energy}",
        "data = /entry_1/data_1/data",
        "dim0 = %",
        "dim1 = ss",
        "dim2 = fs",
        "peak_list = /entry_1/result_1",
        "peak_list_type = cxi",
    ]
    if shift_x or shift_y:
        lines += [f"detector_shift_x = {shift_x}", f"detector_shift_y = {shift_y}"]
    for panel, z in zip(geometry.panels, geometry.z_offsets, strict=True):
        rows, columns = panel.rectangle
        fields: dict[str, object] = {
            "min_fs": columns.start,
            "max_fs": columns.stop - 1,
            "min_ss": rows.start,
            "max_ss": rows.stop - 1,
            "fs": _direction(panel.fs_vector),
            "ss": _direction(panel.ss_vector),
            "corner_x": repr(panel.corner_x + geometry.shift_x * panel.res),
            "corner_y": repr(panel.corner_y + geometry.shift_y * panel.res),
            "coffset": f"{z:.12g}",
            "res": repr(panel.res),
        }
        if panel.adu_per_ev is not None:
            fields["adu_per_eV"] = repr(panel.adu_per_ev)
        else:
            fields["adu_per_photon"] = repr(panel.adu_per_photon or 1.0)
        if panel.no_index:
            fields["no_index"] = 1
        lines += [f"{panel.name}/{key} = {value}" for key, value in fields.items()]
    return "\n".join(lines) + "\n"


def _direction(components: tuple[float, float, float]) -> str:
    """Write a direction in plain decimals, because CrystFEL takes no exponents here."""
    return " ".join(f"{c:+.15f}{axis}" for c, axis in zip(components, "xyz", strict=True))
