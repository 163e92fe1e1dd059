"""Writing the recommended settings for other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.export.dials import dials
from tuner.export.formats import cheetah, geom, om, plain_json, project, xwiz
from tuner.export.job import INSTEAD, Export, Job
from tuner.export.readers import (
    Given,
    read_cheetah,
    read_crystfel,
    read_json,
    read_om,
    read_project,
    read_xwiz,
)
from tuner.export.scripts import align_detector, crystfel
from tuner.recommendation import (
    Recommendation,
    clen_change,
    files_of_session,
    session_geometry,
)
from wrappers.cell import Cell
from wrappers.crystfel.geometry_rules import mend_for_crystfel
from wrappers.detector.geom_file import write_geometry
from wrappers.detector.geom_text import energy, split_lines, statements
from wrappers.detector.geometry import Geometry
from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.frames.events import find_names, read_list, split_event
from wrappers.frames.hdf5 import HDF5Files, is_hdf5
from wrappers.frames.linked import masks_named
from wrappers.indexers import recorded_choice
from wrappers.masks.bad_pixel_map import BadPixelMap
from wrappers.masks.mask_file import geometry_lines, write_mask
from wrappers.masks.settings_mask import SettingsMask, needs_map
from wrappers.outputs import check_outputs, companion
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.registry import Registry

__all__ = ["TARGETS", "Target", "write_export"]


@dataclass(frozen=True)
class Target:
    """A program's file.

    Attributes
    ----------
    render : callable
        Returns the `Export` of a `Job`.
    file : str
        Its name where the user gives none.
    words : str
        What it is, for the command line's help.
    searches : str
        The program, where it is told to find peaks, which none does with the robust finder; or "".
    needs_geometry : bool
        Whether the tuned geometry file is written beside it.
    takes_mask : bool
        Whether it applies the masks that the geometry names.
    takes_cell : bool
        Whether it is told the cell: a CrystFEL cell file is written beside it.
    has_versions : bool
        Whether older releases read another form.
    plain_energy : bool
        Whether its reader of geometries stops at a photon energy with a unit.
    is_geometry : bool
        Whether the file is the tuned geometry itself.
    prints_options : bool
        Whether the command line shows the options of ``indexamajig`` as well.
    executable : bool
    beside : tuple of str
        What the names of further files end with, which `Export.beside` has.
    read : callable or None
        The other way round: returns the settings that such a file's text names, None for another
        program's file.
    """

    render: Callable[[Job], Export]
    file: str
    words: str
    searches: str = ""
    needs_geometry: bool = True
    takes_mask: bool = True
    takes_cell: bool = False
    has_versions: bool = False
    plain_energy: bool = False
    is_geometry: bool = False
    prints_options: bool = False
    executable: bool = False
    beside: tuple[str, ...] = ()
    read: Callable[[str], Given | None] | None = None


TARGETS: Registry[Target] = Registry("export target")
"""What can be written, by the name that the command line has for it."""

TARGETS.register(
    "crystfel",
    Target(
        crystfel,
        "recommended.sh",
        "a script for indexamajig",
        "indexamajig",
        takes_cell=True,
        prints_options=True,
        executable=True,
        read=read_crystfel,
    ),
)
TARGETS.register(
    "align_detector",
    Target(
        align_detector,
        "align.sh",
        "a script that refines the geometry with CrystFEL's align_detector",
        "indexamajig",
        takes_cell=True,
        executable=True,
    ),
)
TARGETS.register(
    "dials",
    Target(
        dials,
        "recommended.phil",
        "DIALS: parameters, and the geometry as an experiment list",
        "DIALS",
        takes_mask=False,
        takes_cell=True,
        beside=(".expt",),
    ),
)
TARGETS.register(
    "project",
    Target(
        project,
        "recommended.project",
        "for CrystFEL's graphical program",
        "CrystFEL's graphical program",
        takes_cell=True,
        read=read_project,
    ),
)
TARGETS.register("geom", Target(geom, "recommended.geom", "the geometry alone", is_geometry=True))
TARGETS.register(
    "xwiz",
    Target(
        xwiz,
        "recommended.xwiz.toml",
        "EXtra-Xwiz",
        "EXtra-Xwiz",
        takes_cell=True,
        has_versions=True,
        read=read_xwiz,
    ),
)
TARGETS.register(
    "om",
    Target(
        om,
        "recommended.yaml",
        "OM (OnDA)",
        "OM",
        takes_mask=False,
        has_versions=True,
        plain_energy=True,
        read=read_om,
    ),
)
TARGETS.register(
    "cheetah",
    Target(
        cheetah,
        "recommended.ini",
        "Cheetah",
        "Cheetah",
        needs_geometry=False,
        takes_mask=False,
        read=read_cheetah,
    ),
)
TARGETS.register(
    "json",
    Target(
        plain_json,
        "recommended.json",
        "plain JSON",
        needs_geometry=False,
        takes_mask=False,
        read=read_json,
    ),
)


def write_export(
    recommendation: Recommendation,
    target: Target,
    path: Path,
    *,
    geometry: Path | None = None,
    cell: Path | None = None,
    old: bool = False,
    inputs: Sequence[Path] = (),
    replace: bool = True,
) -> tuple[list[Path], tuple[str, ...]]:
    """Write a recommendation for another program.

    Parameters
    ----------
    recommendation : Recommendation
    target : Target
        Registered in `TARGETS`.
    path : Path
        The file to write. A geometry file, where the target needs one, is written beside it, and
        a mask file, where the settings mask pixels.
    geometry, cell : Path, optional
        By default those that the session was run with.
    old : bool
        Write for releases before the format was changed.
    inputs : sequence of Path
        Files and folders that must stay as they are, beside the geometry and the cell.
    replace : bool
        Whether earlier files of those names may be replaced.

    Returns
    -------
    files : list of Path
    notes : tuple of str
        What the target cannot hold, or holds in another way.

    Raises
    ------
    InputError
        If the geometry or cell is gone or has changed, a file would overwrite another, the
        target cannot search as recommended, or the indexer's method or options are none.
    """
    # A stranger's words end in no file, though some targets have no use for them.
    recorded_choice(recommendation.provenance)
    finder = recommendation.settings.peak_finder
    if target.searches and not PEAK_FINDERS.get(finder).in_crystfel:
        raise InputError(
            f"the recommended settings are of the {finder} peak finder, which {target.searches} "
            f"does not have: {INSTEAD} (--to geom writes the geometry, --to json everything)"
        )
    if old and not target.has_versions:
        raise InputError("this target has no older form: leave out --format-version old")
    cell = cell or Path(str(recommendation.provenance.get("cell", "protein.cell")))
    tuned = path if target.is_geometry else companion(path, ".geom")
    source = masked = mask = None
    mended: list[str] = []
    if target.needs_geometry:
        source = session_geometry(recommendation, geometry)
        masked = companion(path, ".mask.h5") if target.takes_mask else None
    unit = companion(path, ".cell") if target.takes_cell else None
    further = [companion(path, suffix) for suffix in target.beside]
    check_outputs(
        unit,
        *(path, *([tuned] if tuned != path and source else []), masked, *further),
        inputs=[
            *(*inputs, cell, source, *files_of_session(recommendation)),
            *(masks_named(source) if source is not None else ()),
        ],
        force=replace,
    )
    if source is not None:
        if masked is not None:
            mask = _write_mask(recommendation, masked, source)
        _write_tuned_geometry(recommendation, tuned, source, mask)
        mended = mend_for_crystfel(tuned, linked=_is_linked(recommendation, source))
        if target.plain_energy:
            _write_plain_energy(tuned)
    if unit is not None:
        # CrystFEL takes other files' cells otherwise: a second CRYST1, or R on hexagonal axes.
        Cell.read(cell).write(unit)
    job = Job(
        recommendation,
        path,
        tuned.absolute(),
        (unit or cell).absolute(),
        old,
        mask,
        tuple(mended),
    )
    export = target.render(job)
    for file, suffix in zip(further, target.beside, strict=True):
        write_whole(file, export.beside[suffix])
    write_whole(path, export.text)
    if target.executable:
        path.chmod(0o755)
    if target.needs_geometry and tuned != path:
        further = [tuned, *further]
    caution = recommendation.caution
    notes = (caution, *export.notes) if caution else export.notes
    return [path, *further, *(each for each in (mask, unit) if each)], notes


def _write_mask(recommendation: Recommendation, out: Path, geometry: Path) -> Path | None:
    """Write the settings' own mask, where they have one and the session's map is still there."""
    settings = recommendation.settings
    if not any(settings.mask_key):
        return None
    read = Geometry.read(geometry)
    found = None
    if needs_map(settings):
        stored = Path(str(recommendation.provenance.get("bad_pixels", "")))
        if not stored.is_file():
            return None
        found = BadPixelMap.load(stored, read)
    write_mask(out, read, SettingsMask(read, found).bits(settings))
    return out


def _is_linked(recommendation: Recommendation, geometry: Path) -> bool:
    """Tell whether the session's frames are in linked data sets that stand for ``data``.

    That can only be known while the session's data are there.
    """
    data, read = Path(str(recommendation.provenance.get("data", ""))), Geometry.read(geometry)
    if "%" in read.blocks[0].data or not data.is_file():
        return False
    files = HDF5Files()
    try:
        if not is_hdf5(data):
            file, event = read_list(data)[0]
            if event:
                return bool(split_event(event)[0])
            data = Path(file)
        return any(find_names(files, str(data), read))
    except InputError:
        return False
    finally:
        files.close()


def _write_tuned_geometry(
    recommendation: Recommendation, out: Path, source: Path, mask: Path | None
) -> None:
    """Write the session's geometry with the recommended camera length, shift and mask."""
    top, bottom = geometry_lines(mask, Geometry.read(source)) if mask else ([], [])
    write_geometry(
        source,
        out,
        clen_change=clen_change(recommendation),
        shift_x=recommendation.settings.shift_x,
        shift_y=recommendation.settings.shift_y,
        top=top,
        bottom=bottom,
    )


def _write_plain_energy(path: Path) -> None:
    """Write the photon energy without its unit, which is eV in every version of CrystFEL."""
    lines = split_lines(path)
    for statement in statements(list(lines), path):
        if statement.key == "photon_energy" and not statement.value.startswith("/"):
            line, end = lines[statement.line], statement.start + len(statement.value)
            value = f"{energy(statement.key, statement.value):.12g}"
            lines[statement.line] = line[: statement.start] + value + line[end:]
    write_whole(path, "".join(lines))
