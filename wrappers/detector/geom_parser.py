"""What the statements of a geometry file mean: panels, bad regions, energy, camera length."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrappers.detector.geom_text import (
    Statement,
    energy,
    length,
    mask_path,
    number,
    split_lines,
    statements,
    vector,
    whole,
)
from wrappers.detector.panels import BadRegion, Header, MaskSource, Panel
from wrappers.errors import InputError

__all__ = ["ParsedGeometry", "parse_geometry"]

_LAB_LIMITS = ("min_x", "max_x", "min_y", "max_y")
_DATA_LIMITS = ("min_fs", "max_fs", "min_ss", "max_ss")
_REQUIRED = (*_DATA_LIMITS, "corner_x", "corner_y", "fs", "ss", "res")
_OLD_MASK_KEYS = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be a path inside the data file, beginning with '/'")
    return text


def _name(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


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


def _dimension(text: str) -> int | str:
    if text in ("%", "ss", "fs"):
        return text
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError("must be '%', 'ss', 'fs' or an index")
    return int(text)


_FIELDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_DATA_LIMITS, _index),
    "corner_x": number,
    "corner_y": number,
    "coffset": number,
    "fs": vector,
    "ss": vector,
    "res": _positive,
    "clen": lambda text: length(text, header_factor=1e-3),
    "data": _name,
    "adu_per_photon": _positive,
    "adu_per_eV": _positive,
    "max_adu": number,
    "no_index": _truth,
    "mask_edge_pixels": _index,
    **{f"mask{i}_data": _path for i in range(8)},
    **{f"mask{i}_file": _name for i in range(8)},
    **{f"mask{i}_{kind}bits": _bits for i in range(8) for kind in ("good", "bad")},
    **{f"flag_{kind}": number for kind in ("lessthan", "morethan", "equal")},
    **{f"dim{i}": _dimension for i in range(16)},
}
"""How each field of a panel is read; any other is ignored, as CrystFEL does."""


@dataclass
class ParsedGeometry:
    """What a geometry file says, checked line by line.

    Attributes
    ----------
    panels : list of Panel
        Not yet placed in a slab.
    bad_regions : list of BadRegion
    clen_header : Header or None
        Where the camera length is a header value.
    photon_energy : float, Header or None
        In eV.
    shifts : list of 2 of float or Header
        ``detector_shift_x`` and ``detector_shift_y`` in metres.
    """

    panels: list[Panel] = field(default_factory=list)
    bad_regions: list[BadRegion] = field(default_factory=list)
    clen_header: Header | None = None
    photon_energy: float | Header | None = None
    shifts: list[float | Header] = field(default_factory=lambda: [0.0, 0.0])


def parse_geometry(path: Path) -> ParsedGeometry:
    """Read a geometry file.

    Raises
    ------
    InputError
        If it cannot be read, if a line is not understood, or if something that every panel
        needs is missing. Unknown fields are ignored.
    """
    parsed = ParsedGeometry()
    defaults: dict[str, Any] = {"dim0": "ss", "dim1": "fs", "flags": ()}
    panels: dict[str, dict[str, Any]] = {}
    regions: dict[str, dict[str, Any]] = {}
    clen: float | Header | None = None
    for statement in statements(split_lines(path), path):
        try:
            if statement.of_bad_region:
                _set_region(regions.setdefault(statement.owner, {}), statement)
            elif statement.owner:
                # A panel takes the defaults that stand when it is first mentioned.
                _set_field(panels.setdefault(statement.owner, dict(defaults)), statement)
            elif statement.key in ("photon_energy", "wavelength"):
                parsed.photon_energy = energy(statement.key, statement.value)
            elif statement.key in ("detector_shift_x", "detector_shift_y"):
                parsed.shifts[statement.key.endswith("y")] = length(statement.value)
            elif statement.key == "clen":
                # The one field that holds for the panels before it, too.
                clen = _FIELDS["clen"](statement.value)
            else:
                _set_field(defaults, statement)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            statement.fail(path, str(error))
    if not panels:
        raise InputError(
            f"{path} describes no panel: is it a CrystFEL geometry file "
            "(with lines such as 'p0/min_fs = 0')?"
        )
    lengths = {fields.setdefault("clen", clen) for fields in panels.values()}
    headers = [value for value in lengths if isinstance(value, Header)]
    if headers and len(lengths) > 1:
        raise InputError(
            f"the panels of {path} have different clen: give all of them the same, "
            "and the differences in coffset"
        )
    parsed.clen_header = headers[0] if headers else None
    parsed.panels = [_panel(name, fields, path) for name, fields in panels.items()]
    _require_equal_placeholders(parsed.panels, path)
    parsed.bad_regions = [_region(name, limits, path) for name, limits in regions.items()]
    for region in parsed.bad_regions:
        if region.panel and region.panel not in panels:
            raise InputError(
                f"{path}: the bad region {region.name} is on panel {region.panel!r}, "
                "which the file does not describe: correct the name"
            )
    return parsed


def _set_field(fields: dict[str, Any], statement: Statement) -> None:
    key = _OLD_MASK_KEYS.get(statement.key, statement.key)
    read = _FIELDS.get(key)
    if read is None:
        return
    value = read(statement.value)
    if key.startswith("flag_"):
        fields["flags"] = (*fields["flags"], (key.removeprefix("flag_"), value))
        return
    if key.startswith("adu_per_"):
        fields.pop("adu_per_eV", None)
        fields.pop("adu_per_photon", None)
    fields[key] = value


def _set_region(limits: dict[str, Any], statement: Statement) -> None:
    if statement.key == "panel":
        limits["panel"] = statement.value
    elif statement.key in _LAB_LIMITS or statement.key in _DATA_LIMITS:
        limits[statement.key] = number(statement.value)


def _region(name: str, limits: dict[str, Any], path: Path) -> BadRegion:
    in_lab = any(key in limits for key in _LAB_LIMITS)
    if in_lab and any(key in limits for key in _DATA_LIMITS):
        raise InputError(f"{path}: the bad region {name} mixes x/y and fs/ss limits: keep one kind")
    keys = _LAB_LIMITS if in_lab else _DATA_LIMITS
    missing = [key for key in keys if key not in limits]
    if missing:
        raise InputError(f"{path}: the bad region {name} lacks {', '.join(missing)}: add it")
    a, b, c, d = (limits[key] for key in keys)
    return BadRegion(name, (a, b, c, d), in_lab, limits.get("panel", ""))


def _panel(name: str, fields: dict[str, Any], path: Path) -> Panel:
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        raise InputError(f"{path}: panel {name} lacks {', '.join(missing)}: add it")
    if fields["max_fs"] < fields["min_fs"] or fields["max_ss"] < fields["min_ss"]:
        raise InputError(f"{path}: panel {name} ends before it begins: check its min and max")
    clen = fields["clen"]
    panel = Panel(
        name=name,
        **{key: fields[key] for key in _DATA_LIMITS},
        fs_vector=fields["fs"],
        ss_vector=fields["ss"],
        corner_x=fields["corner_x"],
        corner_y=fields["corner_y"],
        res=fields["res"],
        clen=None if isinstance(clen, Header) else clen,
        coffset=fields.get("coffset", 0.0),
        data=fields.get("data", "/data/data"),
        dims=_dims(name, fields, path),
        masks=_masks(name, fields, path),
        flags=fields["flags"],
        max_adu=fields.get("max_adu", float("inf")),
        adu_per_photon=fields.get("adu_per_photon"),
        adu_per_ev=fields.get("adu_per_eV"),
        no_index=fields.get("no_index", False),
        edge=fields.get("mask_edge_pixels", 0),
    )
    (a, b, c), (d, e, f) = panel.fs_vector, panel.ss_vector
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    if not 0 < sum(component**2 for component in normal) < float("inf"):
        raise InputError(
            f"{path}: the fs and ss directions of panel {name} span no plane: mend them"
        )
    return panel


def _dims(name: str, fields: dict[str, Any], path: Path) -> tuple[int | str, ...]:
    given = [i for i in range(16) if f"dim{i}" in fields]
    dims = tuple(fields[f"dim{i}"] for i in given)
    if given != list(range(len(given))):
        raise InputError(f"{path}: panel {name} skips a dimension between dim0 and dim{given[-1]}")
    if dims.count("ss") != 1 or dims.count("fs") != 1 or dims.index("ss") > dims.index("fs"):
        raise InputError(
            f"{path}: the dimensions of panel {name} are {', '.join(map(str, dims))}, "
            "but must have ss once and, after it, fs once (such as dim0 = %, dim1 = ss, dim2 = fs)"
        )
    return dims


def _masks(name: str, fields: dict[str, Any], path: Path) -> tuple[MaskSource, ...]:
    masks = []
    for i in range(8):
        data, file = fields.get(f"mask{i}_data"), fields.get(f"mask{i}_file")
        good, bad = fields.get(f"mask{i}_goodbits", 0), fields.get(f"mask{i}_badbits", 0)
        if data is None and file is not None:
            raise InputError(f"{path}: panel {name} has mask{i}_file, but no mask{i}_data: add it")
        if data is not None and (good or bad):
            resolved = None if file is None else mask_path(file, path.parent)
            masks.append(MaskSource(data, resolved, good, bad))
    return tuple(masks)


def _require_equal_placeholders(panels: list[Panel], path: Path) -> None:
    """Check that one event says where all panels are, and their masks."""
    counts = {(panel.data.count("%"), panel.dims.count("%")) for panel in panels}
    if len(counts) > 1:
        raise InputError(
            f"the panels of {path} differ in the number of '%' in data or dimensions, "
            "so that no event can name them all: make them equal"
        )
    for panel in panels:
        for mask in panel.masks:
            if mask.data.count("%") > panel.data.count("%"):
                raise InputError(
                    f"{path}: the mask {mask.data} of panel {panel.name} has more '%' "
                    f"than its data {panel.data}: remove them"
                )
