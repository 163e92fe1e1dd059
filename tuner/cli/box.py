"""The search box as a user writes it, and what is in use today.

``--set min_peaks=15``, ``--range min_snr=3:7``, ``--start min_snr=4.5,threshold=60``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wrappers.errors import InputError
from wrappers.settings import ABOUT

if TYPE_CHECKING:
    from tuner.session.start import Start

__all__ = ["parse_number", "parse_ranges", "parse_start", "parse_values"]

NUMBERS = tuple(name for name in ABOUT if name != "peak_finder")

LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6}
"""Units that a length may be given in; without one it is in metres, as everywhere."""


def parse_values(options: Iterable[str]) -> dict[str, float]:
    """Return settings and their values from options such as ``min_peaks=15,max_res=800``.

    Raises
    ------
    InputError
        If there is no such setting, it comes twice, or a value is no number.
    """
    return {
        name: parse_number(name, text) for name, text in _pairs(options, "--set", "min_peaks=15")
    }


def parse_start(text: str) -> Start:
    """Return what is in use today from settings with values, or from the name of a file.

    Raises
    ------
    InputError
        If the file cannot be used, or a setting or value is not possible.
    """
    from tuner.session.start import read_start, start_of_values  # waits for the exporters

    path = Path(text)
    if "=" not in text or path.exists():
        return read_start(path)
    return start_of_values(
        {
            name: parse_number(name, value)
            for name, value in _pairs([text], "--start", "min_snr=4.5")
        }
    )


def parse_ranges(options: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return settings and their ranges from options such as ``min_snr=3:7``.

    Raises
    ------
    InputError
        If there is no such setting, it comes twice, or a range is not two numbers in order.
    """
    ranges = {}
    for name, text in _pairs(options, "--range", "min_snr=3:7"):
        low, colon, high = text.partition(":")
        if not colon:
            raise InputError(f"--range {name}={text} has no second end: write {name}=LOW:HIGH")
        ranges[name] = parse_number(name, low), parse_number(name, high)
    return ranges


def _pairs(options: Iterable[str], option: str, example: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for part in (part for text in options for part in text.split(",") if part.strip()):
        name, equals, value = (word.strip() for word in part.partition("="))
        name = name.replace("-", "_")
        if not equals:
            raise InputError(f"{option} {part.strip()!r} has no value: write {example}")
        if name == "peak_finder":
            raise InputError(f"{option} takes numbers: write --peak-finder {value or 'NAME'}")
        if name not in NUMBERS:
            raise InputError(f"{option}: {name!r} is no setting; choose from {', '.join(NUMBERS)}")
        if name in seen:
            raise InputError(f"{option} names {name} twice: leave one out")
        seen.add(name)
        yield name, value


def parse_number(name: str, text: str) -> float:
    """Return the value of a setting; a length may have a unit.

    Raises
    ------
    InputError
        If it is no number.
    """
    digits, factor = text.strip(), 1.0
    if ABOUT[name].unit == "m":
        # The longest unit first: "mm" ends in "m", too.
        for unit in sorted(LENGTHS, key=len, reverse=True):
            if digits.endswith(unit):
                digits, factor = digits.removesuffix(unit), LENGTHS[unit]
                break
    try:
        return float(digits) * factor
    except ValueError:
        units = ", perhaps with a unit: m, cm, mm or um" if ABOUT[name].unit == "m" else ""
        raise InputError(f"{name} is {text.strip()!r}, but must be a number{units}") from None
