"""The numbers that data files hold for themselves: as numbers or as text, in units or without."""

from __future__ import annotations

import math
import re
from typing import Any

import h5py
import numpy as np

from wrappers.detector.panels import Header
from wrappers.errors import InputError

__all__ = ["as_number", "require_plausible", "require_unit"]

_LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6}
_LENGTHS |= {"metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "millimetre": 1e-3}
_LENGTHS |= {"millimeter": 1e-3, "millimetres": 1e-3, "millimeters": 1e-3}
_UNITS = {
    "length": _LENGTHS,
    "proportional": {"eV": 1.0, "keV": 1e3, "MeV": 1e6, "ev": 1.0, "kev": 1e3},
    "reciprocal": {
        **{each: 1.0 for each in ("A", "Å", "Å", "angstrom", "angstroms", "Angstrom", "angström")},
        **{"nm": 10.0, "pm": 1e-2, "m": 1e10},
    },
    "electrons": {"V": 1.0, "kV": 1e3},
}
"""Factors of units by what is measured; see `panels.Header.factor` for those of energies."""

_TEXT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")

PLAUSIBLE = {
    "photon energy": (100.0, 4e6, "eV"),
    "camera length (clen + coffset)": (1e-3, 30.0, "m"),
}
"""Electrons of 3 MeV count as photons of 3.5 MeV; the largest tunnels are some 30 m."""


def require_plausible(value: float, name: str, place: str) -> None:
    """Raise InputError for a value that no experiment has.

    Parameters
    ----------
    value : float
    name : str
        In `PLAUSIBLE`.
    place : str
        Where it is from.
    """
    low, high, unit = PLAUSIBLE[name]
    if not low <= value <= high:
        must = "must be above 0" if not value > 0 else f"should lie between {low:g} and {high:g}"
        raise InputError(
            f"the {name} in {place} is {value:g} {unit}, but {must}: correct it, or its unit"
        )


def as_number(stored: Any, place: str, header: Header, field: str) -> float:
    """Return a stored number in the header's unit; numbers may be stored as text, with a unit.

    Raises
    ------
    InputError
        If it is none.
    """
    if isinstance(stored, (bytes, str)):
        text = stored.decode("utf-8", "replace") if isinstance(stored, bytes) else stored
        match = _TEXT.fullmatch(text.rstrip("\0"))
        factors = _factors(header, field)
        if match is None or (match[2] and match[2] not in factors):
            raise InputError(f"{place} is {text[:40]!r}, which is no number: correct {field}")
        number = float(match[1])
        return number * factors[match[2]] / header.factor if match[2] else number
    try:
        return float(stored)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{place} is no number: correct {field}") from None


def require_unit(dataset: h5py.Dataset, file: str, header: Header, field: str) -> None:
    """Raise InputError where a data set's own unit is another than the geometry reads it in."""
    for key in ("units", "unit"):
        try:
            unit = dataset.attrs.get(key)
        except (OSError, RuntimeError, TypeError, ValueError, KeyError):
            return
        if isinstance(unit, np.ndarray) and unit.size == 1:
            unit = unit.reshape(-1)[0]
        if isinstance(unit, bytes):
            unit = unit.decode("utf-8", "replace")
        factor = _factors(header, field).get(unit.strip()) if isinstance(unit, str) else None
        if factor is not None and not math.isclose(factor, header.factor, rel_tol=1e-6):
            names = [
                name for name, size in _factors(header, field).items() if size == header.factor
            ]
            raise InputError(
                f"{header.path} in {file} is in {unit.strip()} by its attribute '{key}', but the "
                f"geometry reads it in {names[0] if names else 'another unit'}: give {field} the "
                f"right unit, such as '= {header.path} {unit.strip()}', or correct the file"
            )


def _factors(header: Header, field: str) -> dict[str, float]:
    is_length = field in ("clen", "detector_shift")
    return _UNITS["length" if is_length else header.law]
