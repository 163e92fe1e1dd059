"""Writing CrystFEL geometry files: edited copies, and those of peak lists without images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wrappers.detector.geom_text import (
    LENGTH_UNITS,
    MASK_FILE,
    NUMBER,
    Statement,
    mask_path,
    split_lines,
    statements,
)
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole

__all__ = ["slab_geometry_text", "write_geometry"]


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
        match = NUMBER.match(statement.value)
        if match is None:
            statement.fail(source, "must be a plain number to be changed")
        unit = statement.value[match.end() :].strip() or "m"
        if unit not in LENGTH_UNITS:
            statement.fail(source, "must be in m or mm")
        value = f"{float(match[0]) + change / LENGTH_UNITS[unit]:.12g}"
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
        if MASK_FILE.fullmatch(statement.key) and not os.path.isabs(statement.value):
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
