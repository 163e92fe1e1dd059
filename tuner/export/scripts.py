"""The recommended settings as shell scripts: for ``indexamajig``, and on to ``align_detector``.

Options and files of ``align_detector`` are those of CrystFEL 0.12; 0.11 writes a file of Millepede
data for each process of ``indexamajig``, later versions one for all: both are in the one folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import hdf5plugin

from tuner.export.job import (
    Export,
    Job,
    comments,
    geometry_notes,
    indexing_arguments,
    limit_notes,
    mask_notes,
)
from wrappers.crystfel.options import search_arguments
from wrappers.detector.geometry import Geometry
from wrappers.frames.linked import names_files
from wrappers.text import one_line_value

__all__ = ["align_detector", "crystfel"]

NO_REFINEMENT = "--no-refine"
"""With it ``indexamajig`` predicts no spots, and writes nothing that a detector is aligned by."""


def crystfel(job: Job) -> Export:
    """Return a shell script that indexes the run as recommended, with its own geometry."""
    indexing, indexing_notes = indexing_arguments(job)
    notes = (*_notes(job), *indexing_notes)
    lines = [*_head(job, "indexamajig as recommended", notes), *_list(job)]
    return _script([*lines, _indexamajig(job, indexing, '"$@"')], notes)


def align_detector(job: Job) -> Export:
    """Return a shell script that indexes the run as recommended and then refines the geometry.

    ``align_detector`` needs Millepede's ``pede``, which it looks for beside itself and on the
    PATH; the script looks for it before it indexes.
    """
    indexing, indexing_notes = indexing_arguments(job)
    stem, n_panels = job.geometry.stem, len(Geometry.read(job.geometry).panels)
    folder, aligned = f"{stem}.mille", f"{stem}.aligned.geom"
    notes = (
        *_notes(job),
        *indexing_notes,
        *(
            [f"{NO_REFINEMENT} is left out: without refinement there is nothing to align by"]
            if NO_REFINEMENT in indexing
            else []
        ),
        f"the aligned geometry is {aligned}; align_detector drops the comments of a geometry",
        "LEVEL (0: the detector as a whole; 1: the groups of panels below it, which are all panels "
        "where the geometry has no group_ lines) may be set before the script's name; arguments "
        "go to align_detector, such as --camera-length or --out-of-plane",
        "camera length and cell size can hardly be told apart: --camera-length is left out, so "
        "the camera length of the session stays",
    )
    within = shlex.quote(folder)
    lines = [
        *_head(job, "indexamajig as recommended, then align_detector", notes),
        "program=$(command -v align_detector) ||",
        "  { echo 'CrystFEL has no align_detector here: install 0.11 or later' >&2; exit 1; }",
        '[ -x "$(dirname "$program")/pede" ] || command -v pede > /dev/null ||',
        "  { echo 'align_detector needs pede (Millepede-II): install it beside it' >&2; exit 1; }",
        *_list(job),
        f"mkdir -p {within}",
        f"rm -f {within}/*.bin",
        _indexamajig(
            job,
            [each for each in indexing if each != NO_REFINEMENT],
            f"--mille --mille-dir={within}",
        ),
        "# pede leaves its files where it runs.",
        f"out=$PWD/{shlex.quote(aligned)}",
        f"cd {within}",
        _command(
            "align_detector",
            # Its --help promises --geometry as well, which 0.12 refuses.
            f"-g {shlex.quote(str(job.geometry))}",
            '-o "$out"',
            f'-l "${{LEVEL:-{min(n_panels - 1, 1)}}}"',
            '"$@"',
            "*.bin",
        ),
    ]
    return _script(lines, notes)


def _notes(job: Job) -> tuple[str, ...]:
    return (
        *geometry_notes(job),
        *mask_notes(job),
        *limit_notes(job.settings, "CrystFEL before 0.12"),
    )


def _head(job: Job, what: str, notes: Sequence[str]) -> list[str]:
    # CrystFEL reads compressed frames only with the plugins that sfx-tuner itself reads them with.
    plugins = shlex.quote(str(hdf5plugin.PLUGIN_PATH))
    return [
        "#!/bin/sh",
        *comments(job, what, notes, "# "),
        "set -e",
        f"if [ -d {plugins} ]; then export HDF5_PLUGIN_PATH={plugins}"
        "${HDF5_PLUGIN_PATH:+:$HDF5_PLUGIN_PATH}; fi",
    ]


def _data(job: Job) -> str:
    return str(job.recommendation.provenance.get("data", "run.h5"))


def _list_file(job: Job) -> str:
    """Return the list of files that is indexed: the session's, or one that the script writes."""
    data = _data(job)
    return data if names_files(Path(data)) else f"{job.geometry.stem}.lst"


def _list(job: Job) -> list[str]:
    data, file = _data(job), _list_file(job)
    if file == data:
        return []
    entry = shlex.quote(one_line_value(data, "the run"))
    return [f"printf '%s\\n' {entry} > {shlex.quote(file)}"]


def _indexamajig(job: Job, indexing: Sequence[str], *more: str) -> str:
    """Return the command; `more` are words of the shell."""
    arguments = [
        f"--input={_list_file(job)}",
        f"--output={job.geometry.stem}.stream",
        f"--geometry={job.geometry}",
        f"--pdb={job.cell}",
        *search_arguments(job.settings),
        *indexing,
    ]
    return _command("indexamajig", *map(shlex.quote, arguments), '-j "${JOBS:-$(nproc)}"', *more)


def _command(*words: str) -> str:
    return " \\\n  ".join(words)


def _script(lines: Sequence[str], notes: Sequence[str]) -> Export:
    return Export("\n".join(lines) + "\n", tuple(notes))
