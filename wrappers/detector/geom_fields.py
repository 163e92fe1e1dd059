"""The fields of a geometry file: how the value of each is read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from wrappers.detector.geom_text import length, name, number, offset, vector, whole

__all__ = ["DATA_LIMITS", "FIELDS", "LAB_LIMITS", "NO_USE", "canonical", "pixels", "unknown_mask"]

LAB_LIMITS = ("min_x", "max_x", "min_y", "max_y")
DATA_LIMITS = ("min_fs", "max_fs", "min_ss", "max_ss")

NO_USE = re.compile(
    r"(rigid_)?group_.*|rigid_group.*|peak_list|peak_list_type|bandwidth|badrow_direction"
    r"|saturation_map(_file)?"
)
"""Fields of CrystFEL that matter to nothing here."""

_OLD_MASK_KEYS = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}
_LARGEST_NUMBER = 1e9
"""Of whatever a geometry counts in pixels: far beyond any detector, and safe to reckon with."""


def canonical(key: str) -> str:
    """Return a field's present name."""
    return _OLD_MASK_KEYS.get(key, key)


def unknown_mask(key: str) -> str | None:
    """Say what is wrong with a key that looks like a mask's and is none; None if nothing is."""
    if not key.startswith("mask") or canonical(key) in FIELDS:
        return None
    if match := re.fullmatch(r"mask(\d+)_(data|file|goodbits|badbits)", key):
        return f"has no effect: CrystFEL has mask0 to mask7, but no mask{match[1]}"
    known = [each for each in FIELDS if each.startswith("mask")] + list(_OLD_MASK_KEYS)
    # The first of those that are equally like it: mask0 before mask7.
    like = max(known, key=lambda each: difflib.SequenceMatcher(None, key, each).ratio())
    return f"has no effect: there is no such field; do you mean {like}?"


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be a path inside the data file, beginning with '/'")
    return name(text)


def _file(text: str) -> str:
    if not text or len(text) > 4096 or "\0" in text:
        raise ValueError("must be the name of a file, of at most 4096 characters")
    return text


def _data(text: str) -> str:
    return "/" + name(text).lstrip("/")


def _bits(text: str) -> int:
    bits = int(text, 16) if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}", text) else whole(text)
    if not 0 <= bits < 2**32:
        raise ValueError("must be a bit mask of 32 bits, such as 0xffff")
    return bits


def _truth(text: str) -> bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return number(text) != 0


def _index(text: str) -> int:
    value = whole(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _positive(text: str) -> float:
    value = number(text)
    if value <= 0:
        raise ValueError("must be above 0")
    return value


def _resolution(text: str) -> float:
    value = _positive(text)
    if not 1 <= value <= 1e9:
        raise ValueError("must be the pixels per metre, such as 13333.3 for pixels of 75 µm")
    return value


def pixels(text: str) -> float:
    """Return a number of pixels; ValueError beyond any detector."""
    value = number(text)
    if abs(value) > _LARGEST_NUMBER:
        raise ValueError("must be a number of pixels")
    return value


def _dimension(text: str) -> int | str:
    if text in ("%", "ss", "fs"):
        return text
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError("must be '%', 'ss', 'fs' or an index")
    return int(text)


FIELDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(DATA_LIMITS, _index),
    "corner_x": pixels,
    "corner_y": pixels,
    "coffset": offset,
    "fs": vector,
    "ss": vector,
    "res": _resolution,
    "clen": lambda text: length(text, header_factor=1e-3),
    "data": _data,
    "adu_per_photon": _positive,
    "adu_per_eV": _positive,
    "max_adu": number,
    "no_index": _truth,
    "mask_edge_pixels": _index,
    **{f"mask{i}_data": _path for i in range(8)},
    **{f"mask{i}_file": _file for i in range(8)},
    **{f"mask{i}_{kind}bits": _bits for i in range(8) for kind in ("good", "bad")},
    **{f"flag_{kind}": number for kind in ("lessthan", "morethan", "equal")},
    **{f"dim{i}": _dimension for i in range(16)},
}
"""How each field of a panel is read; any other is noted and has no effect, as in CrystFEL."""
