"""What CrystFEL's reader of geometries wants, and ours does not: mended in copies for CrystFEL.

The rules are those of CrystFEL 0.12, found by trying; earlier versions are no stricter, but for
those before 0.10, which take a ``clen`` for each panel.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from wrappers.detector.geom_fields import DATA_LIMITS, FIELDS
from wrappers.detector.geom_text import Statement, split_lines, statements, vector
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import BadRegion, Panel
from wrappers.files import write_whole

__all__ = ["mend_for_crystfel"]

_TOP_LEVEL = re.compile(
    r"detector_shift_[xy]|clen|photon_energy|electron_voltage|wavelength|peak_list|peak_list_type"
    r"|bandwidth|rigid_group.*|group_.*"
)
"""Fields that may stand anywhere: any other below the panels makes CrystFEL refuse the file."""

_MEASURES = (
    "photon_energy",
    "wavelength",
    "electron_voltage",
    "clen",
    "detector_shift_x",
    "detector_shift_y",
)
_QUANTITY = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?|\S*/\S*)\s*([A-Za-z]*)")
_LARGEST_FLAG = 2_147_483_520
"""The largest number that a float of 32 bits holds and an integer of 32 bits with a sign, too."""


def mend_for_crystfel(path: Path, *, linked: bool = False) -> list[str]:
    """Rewrite a geometry file, which ours reads, so that CrystFEL reads the same in it.

    Parameters
    ----------
    path : Path
        A copy that may be changed; it is, only where it must be.
    linked : bool
        Whether the frames are in linked data sets, ``data_000001`` …, instead of the geometry's
        ``data``.

    Returns
    -------
    list of str
        What was changed that is more than another way of writing, a sentence each.
    """
    lines, geometry = split_lines(path), Geometry.read(path)
    mending = _Mending(lines, geometry, path)
    mending.spell()
    mending.drop_useless_lines()
    mending.camera_lengths()
    mending.regions()
    mending.flags()
    mending.add_what_is_wanted()
    if linked:
        mending.link()
    write_whole(path, mending.text())
    return mending.notes


class _Mending:
    """The lines of a geometry file while they are mended."""

    def __init__(self, lines: list[str], geometry: Geometry, path: Path) -> None:
        self.notes: list[str] = []
        self._lines, self._geometry = lines, geometry
        self._newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        self._found = list(statements(lines, path))
        self._top: list[str] = []
        self._bottom: list[str] = []
        self._gone: set[int] = set()

    def text(self) -> str:
        """Return the mended file."""
        first = self._found[0].line if self._found else 0
        body = ["" if i in self._gone else line for i, line in enumerate(self._lines)]
        if body and body[-1] and not body[-1].endswith(("\n", "\r")):
            body[-1] += self._newline
        top, bottom = (
            [line + self._newline for line in each] for each in (self._top, self._bottom)
        )
        return "".join([*body[:first], *top, *body[first:], *bottom])

    def _write(self, statement: Statement, value: str, key: str = "") -> None:
        """Write a statement anew; what is behind it, a comment perhaps, stays."""
        line = self._lines[statement.line]
        rest = line[statement.start + len(statement.value) :]
        owner = f"{statement.owner}/" if statement.owner else ""
        self._lines[statement.line] = f"{owner}{key or statement.key} = {value}{rest}"
        # Its places in the line are no longer those that were found.
        self._found = [
            self._moved(each, value) if each is statement else each for each in self._found
        ]

    def _moved(self, statement: Statement, value: str) -> Statement:
        start = self._lines[statement.line].index(" = ") + 3
        return Statement(statement.line, statement.owner, statement.key, value, start)

    def spell(self) -> None:
        """Write values and keys as CrystFEL spells them."""
        for i, line in enumerate(self._lines):
            if line.lstrip().startswith("#"):
                self._lines[i] = line.replace("#", ";", 1)
        for statement in list(self._found):
            value = statement.value
            if statement.key in _MEASURES and not statement.of_bad_region:
                value = _spelt_measure(value)
            elif statement.key in ("fs", "ss") and re.search(r"\d[eE]", value):
                sizes = vector(value)
                value = " ".join(f"{n:+.12f}{axis}" for n, axis in zip(sizes, "xyz", strict=True))
            elif statement.key == "coffset":
                value = value.removesuffix("m").rstrip()
            elif statement.key == "data" and not value.startswith("/"):
                value = f"/{value}"
            line = self._lines[statement.line]
            head = line[: statement.start].partition("=")[0].strip()
            plain = f"{statement.owner}/{statement.key}" if statement.owner else statement.key
            if value != statement.value or head != plain:
                self._write(statement, value)

    def drop_useless_lines(self) -> None:
        """Take out unknown fields below the panels, and groups of panels that are not there."""
        last = 0
        seen: set[str] = set()
        for statement in self._found:
            if statement.owner and not statement.of_bad_region and statement.owner not in seen:
                seen.add(statement.owner)
                last = statement.line
        groups = {"all"} | seen
        for statement in self._found:
            if statement.owner:
                continue
            if statement.key.startswith("group_"):
                members = [name.strip() for name in statement.value.split(",")]
                if set(members) <= groups:
                    groups.add(statement.key.removeprefix("group_"))
                else:
                    self._drop(statement, "names panels that are not there")
            elif statement.line > last and not _TOP_LEVEL.fullmatch(statement.key):
                self._drop(statement, "stands below the panels, where it has no effect")

    def _drop(self, statement: Statement, why: str) -> None:
        self._gone.add(statement.line)
        self.notes.append(f"{statement.name} = {statement.value[:60]} is left out: it {why}")

    def camera_lengths(self) -> None:
        """Put one ``clen`` at the top, where panels have their own, and the rest into coffset."""
        own = [s for s in self._found if s.owner and s.key == "clen" and not s.of_bad_region]
        if not own:
            return
        self._gone |= {statement.line for statement in own}
        header = self._geometry.clen_header
        panels = self._geometry.panels
        top = next((s for s in self._found if not s.owner and s.key == "clen"), None)
        if header is not None:
            if top is None:
                self._top.append(f"clen = {_spelt_measure(own[0].value)}")
            return
        clen = panels[0].clen or 0.0
        if top is not None:
            self._gone.add(top.line)
        self._top.append(f"clen = {clen:.12g} m")
        for panel in panels:
            change = (panel.clen or 0.0) - clen
            if change:
                self._bottom.append(f"{panel.name}/coffset = {panel.coffset + change:.12g}")
        self.notes.append("clen stands once, for all panels; what differs is in their coffset")

    def regions(self) -> None:
        """Give each bad region of pixels its panel, and no pixel outside it."""
        for region in self._geometry.bad_regions:
            if region.in_lab:
                continue
            if region.panel and len(self._parts(region)) == 1:
                (panel, limits) = self._parts(region)[0]
                if limits == region.limits:
                    continue
            own = {s.line for s in self._found if s.owner == region.name}
            self._gone |= own
            for panel, limits in self._parts(region):
                name = region.name if region.panel else f"{region.name}_{panel.name}"
                self._bottom += [
                    f"{name}/{key} = {value:.0f}"
                    for key, value in zip(DATA_LIMITS, limits, strict=True)
                ]
                self._bottom.append(f"{name}/panel = {panel.name}")
            self.notes.append(f"the bad region {region.name} is written for each of its panels")

    def _parts(self, region: BadRegion) -> list[tuple[Panel, tuple[float, ...]]]:
        """Return the panels that a region meets, and its limits on each."""
        low_fs, high_fs, low_ss, high_ss = region.limits
        parts: list[tuple[Panel, tuple[float, ...]]] = []
        for panel in self._geometry.panels:
            limits = (
                max(math.ceil(low_fs), panel.min_fs),
                min(math.floor(high_fs), panel.max_fs),
                max(math.ceil(low_ss), panel.min_ss),
                min(math.floor(high_ss), panel.max_ss),
            )
            if (
                region.panel in ("", panel.name)
                and limits[0] <= limits[1]
                and limits[2] <= limits[3]
            ):
                parts.append((panel, limits))
        return parts

    def flags(self) -> None:
        """Write flags as CrystFEL keeps them: whole numbers of 32 bits with a sign."""
        for statement in list(self._found):
            kind = statement.key.removeprefix("flag_")
            if statement.of_bad_region or kind == statement.key or statement.key not in FIELDS:
                continue
            value = float(statement.value)
            rounded = math.ceil(value) if kind == "lessthan" else math.floor(value)
            key = statement.key
            if rounded > _LARGEST_FLAG:
                # Nothing that is counted is as large: all of it stands for no data.
                rounded, key = _LARGEST_FLAG, "flag_morethan" if kind == "equal" else key
            elif rounded < -(2**31):
                rounded, key = -(2**31), "flag_lessthan" if kind == "equal" else key
            if rounded == value and key == statement.key:
                continue
            self._write(statement, str(rounded), key)
            self.notes.append(
                f"{statement.name} = {statement.value} is written as {key} = {rounded}, because "
                "CrystFEL keeps flags as whole numbers of 32 bits with a sign"
            )

    def add_what_is_wanted(self) -> None:
        """Add what CrystFEL wants and the geometry does not say."""
        if any(p.adu_per_photon is None and p.adu_per_ev is None for p in self._geometry.panels):
            self._top.append("adu_per_photon = 1")
            self.notes.append(
                "adu_per_photon = 1 is added, without which CrystFEL takes no geometry: it scales "
                "intensities and finds no other peaks"
            )
        given = {s.key for s in self._found if not s.owner}
        for axis, other in ("xy", "yx"):
            if f"detector_shift_{axis}" in given and f"detector_shift_{other}" not in given:
                self._top.append(f"detector_shift_{other} = 0 m")

    def link(self) -> None:
        """Let ``data`` name every linked data set: CrystFEL looks for no ``data_000001``."""
        given = [s for s in self._found if s.key == "data" and not s.of_bad_region]
        for statement in given:
            if "%" not in statement.value:
                self._write(statement, f"{statement.value.rpartition('/')[0]}/%")
        if not given:
            self._top.append("data = /data/%")
        self.notes.append("data is written with '%', which stands for the linked data sets")


def _spelt_measure(text: str) -> str:
    """Write a value and its unit with one blank between them; MeV, which it lacks, as eV."""
    match = _QUANTITY.fullmatch(text)
    if match is None or not match[2]:
        return text
    if match[2] == "MeV" and "/" not in match[1]:
        return f"{float(match[1]) * 1e6:.12g} eV"
    return f"{match[1]} {match[2]}"
