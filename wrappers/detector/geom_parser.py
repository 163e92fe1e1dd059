"""What the statements of a geometry file mean: panels, bad regions, energy, camera length."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrappers.detector.geom_fields import (
    DATA_LIMITS,
    FIELDS,
    LAB_LIMITS,
    NO_USE,
    canonical,
    pixels,
    unknown_mask,
)
from wrappers.detector.geom_text import (
    Statement,
    energy,
    length,
    mask_path,
    name,
    split_lines,
    statements,
)
from wrappers.detector.panels import BadRegion, Header, MaskSource, Panel
from wrappers.errors import InputError

__all__ = ["ParsedGeometry", "parse_geometry"]

_REQUIRED = (*DATA_LIMITS, "corner_x", "corner_y", "fs", "ss", "res")
_ENERGY_KEYS = ("photon_energy", "wavelength", "electron_voltage")


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
    notes : list of str
        What has no effect, or another than its writer may have thought, a sentence each.
    """

    panels: list[Panel] = field(default_factory=list)
    bad_regions: list[BadRegion] = field(default_factory=list)
    clen_header: Header | None = None
    photon_energy: float | Header | None = None
    shifts: list[float | Header] = field(default_factory=lambda: [0.0, 0.0])
    notes: list[str] = field(default_factory=list)


def parse_geometry(path: Path) -> ParsedGeometry:
    """Read a geometry file.

    Raises
    ------
    InputError
        If it cannot be read, if a line is not understood, if something that every panel needs
        is missing, or if a line of a mask, or a default below the panels, has no effect. Other
        unknown fields are noted.
    """
    parsed = ParsedGeometry()
    defaults: dict[str, Any] = {"dim0": "ss", "dim1": "fs", "flags": ()}
    panels: dict[str, dict[str, Any]] = {}
    regions: dict[str, dict[str, Any]] = {}
    clen: float | Header | None = None
    unused: list[Statement] = []
    unknown: list[Statement] = []
    for statement in statements(split_lines(path), path):
        key = canonical(statement.key)
        try:
            name(statement.owner or "top level")
            if statement.of_bad_region:
                region = regions.setdefault(statement.owner, {})
                known = _set_region(region, statement)
            elif statement.owner:
                if statement.owner not in panels:
                    unused = []
                # A panel takes the defaults that stand when it is first mentioned.
                panel = panels.setdefault(statement.owner, dict(defaults))
                known = _set_field(panel, key, statement)
            elif key in _ENERGY_KEYS:
                parsed.photon_energy, known = energy(key, statement.value), True
            elif key in ("detector_shift_x", "detector_shift_y"):
                parsed.shifts[key.endswith("y")], known = length(statement.value), True
            elif key == "clen":
                # The one field that holds for the panels before it, too.
                clen, known = FIELDS["clen"](statement.value), True
            else:
                known = _set_field(defaults, key, statement)
                if known:
                    unused.append(statement)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            statement.fail(path, str(error))
        if not known and not NO_USE.fullmatch(key):
            unknown.append(statement)
    if not panels:
        raise InputError(
            f"{path} describes no panel: is it a CrystFEL geometry file "
            "(with lines such as 'p0/min_fs = 0')?"
        )
    if unused:
        raise InputError(
            f"{path}: {_listed(unused)} below the panels and so without effect, because a "
            "default holds for the panels after it (CrystFEL refuses such a file): move it above "
            "the first panel"
        )
    if unknown:
        parsed.notes.append(f"{path}: unknown and without effect: {_listed(unknown, '')}")
    lengths = {fields.setdefault("clen", clen) for fields in panels.values()}
    headers = [value for value in lengths if isinstance(value, Header)]
    if headers and len(lengths) > 1:
        raise InputError(
            f"the panels of {path} have different clen: give all of them the same, "
            "and the differences in coffset"
        )
    parsed.clen_header = headers[0] if headers else None
    parsed.panels = [_panel(owner, fields, path) for owner, fields in panels.items()]
    _require_equal_placeholders(parsed.panels, path)
    for owner, limits in regions.items():
        region_read = _region(owner, limits, path)
        if region_read.panel and region_read.panel not in panels:
            raise InputError(
                f"{path}: the bad region {owner} is on panel {region_read.panel!r}, "
                "which the file does not describe: correct the name"
            )
        if region_read.panel and region_read.in_lab:
            parsed.notes.append(
                f"the bad region {owner} of {path} holds for all panels, not for "
                f"{region_read.panel} only, because its limits are x and y (so has CrystFEL 0.10 "
                "and later): give limits in fs and ss if it is to hold for one panel"
            )
        parsed.bad_regions.append(region_read)
    return parsed


def _listed(found: list[Statement], verb: str = " stand", most: int = 5) -> str:
    """Name statements with their lines."""
    texts = [f"{each.name} (line {each.line + 1})" for each in found[:most]]
    texts += [f"and {len(found) - most} more"] * (len(found) > most)
    return ", ".join(texts) + (verb + "s" * (len(found) == 1) if verb else "")


def _set_field(fields: dict[str, Any], key: str, statement: Statement) -> bool:
    """Set a field of a panel or a default; return whether there is such a field."""
    if fault := unknown_mask(key):
        raise ValueError(fault)
    read = FIELDS.get(key)
    if read is None:
        return False
    value = read(statement.value)
    if key.startswith("flag_"):
        fields["flags"] = (*fields["flags"], (key.removeprefix("flag_"), value))
        return True
    if key.startswith("adu_per_"):
        fields.pop("adu_per_eV", None)
        fields.pop("adu_per_photon", None)
    fields[key] = value
    return True


def _set_region(limits: dict[str, Any], statement: Statement) -> bool:
    """Set a limit of a bad region; return whether there is such a field."""
    if statement.key == "panel":
        limits["panel"] = statement.value
    elif statement.key in LAB_LIMITS or statement.key in DATA_LIMITS:
        limits[statement.key] = pixels(statement.value)
    elif fault := unknown_mask(statement.key):
        raise ValueError(fault)
    elif canonical(statement.key) in FIELDS:
        raise ValueError(
            "describes a panel, but what begins with 'bad' is a bad region: rename the panel"
        )
    else:
        return False
    return True


def _region(name: str, limits: dict[str, Any], path: Path) -> BadRegion:
    in_lab = any(key in limits for key in LAB_LIMITS)
    if in_lab and any(key in limits for key in DATA_LIMITS):
        raise InputError(f"{path}: the bad region {name} mixes x/y and fs/ss limits: keep one kind")
    keys = LAB_LIMITS if in_lab else DATA_LIMITS
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
        **{key: fields[key] for key in DATA_LIMITS},
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
        if data is None and (file is not None or good or bad):
            what = "file" if file is not None else "goodbits" if good else "badbits"
            raise InputError(
                f"{path}: panel {name} has mask{i}_{what}, but no mask{i}_data: add it, or "
                "nothing is masked"
            )
        if data is None:
            continue
        if not (good or bad):
            raise InputError(
                f"{path}: panel {name} has mask{i}_data = {data}, but no bits of it that are good "
                f"or bad, so that it masks nothing: add mask{i}_badbits = 0xffff, or remove it"
            )
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
