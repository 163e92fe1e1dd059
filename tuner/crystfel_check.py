"""Which CrystFEL was found, and whether its own peak search says the same as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.evaluation import Evaluation
from wrappers.cell import Cell
from wrappers.crystfel.indexer import index_own_peaks
from wrappers.crystfel.options import require_program
from wrappers.crystfel.server import can_serve
from wrappers.detector.geom_file import write_geometry
from wrappers.errors import InputError, ProgramError
from wrappers.files import temporary_folder
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice
from wrappers.masks.mask_file import geometry_lines, write_mask
from wrappers.masks.settings_mask import SettingsMask
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import Settings

__all__ = ["check_own_search", "crystfel_found"]


def check_own_search(
    evaluation: Evaluation,
    run: FrameSource,
    geometry_file: Path,
    cell: Cell,
    choice: IndexerChoice,
    *,
    jobs: int,
) -> dict[str, Any]:
    """Let ``indexamajig`` find the peaks by itself and compare with an evaluation.

    Parameters
    ----------
    evaluation : Evaluation
        Of our peaks, indexed by CrystFEL.
    run : FrameSource
    geometry_file : Path
        That of the session.
    cell : Cell
    choice : IndexerChoice
    jobs : int

    Returns
    -------
    dict
        Plain values for the evidence: ``n_frames``; on how many of them the number of peaks is
        the same (``same_peaks``) and whether they index (``same_indexed``); and ``n_indexed``
        of CrystFEL's own search. Where that cannot be done ``not_done`` says why.
    """
    settings = evaluation.settings
    if not PEAK_FINDERS.get(settings.peak_finder).in_crystfel:
        return {"not_done": f"CrystFEL has no {settings.peak_finder} peak search"}
    names = [run.name(outcome.frame) for outcome in evaluation.outcomes]
    try:
        with temporary_folder() as folder:
            chunks = index_own_peaks(
                names,
                _masked(geometry_file, run, settings, folder),
                cell,
                settings,
                clen_change=settings.clen_change(run.nominal_clen),
                method=choice.method,
                effort=choice.effort,
                jobs=jobs,
                timeout=choice.timeout,
            )
    except (ProgramError, InputError, OSError) as error:
        # The recommendation does not depend on it: CrystFEL may be gone, or the disk be full.
        return {"not_done": str(error)}
    pairs = [
        (outcome, chunk)
        for outcome, chunk in zip(evaluation.outcomes, chunks, strict=True)
        if chunk is not None and not outcome.failure
    ]
    return {
        "n_frames": len(pairs),
        "n_indexed": sum(chunk.indexed for _, chunk in pairs),
        "same_peaks": sum(outcome.n_peaks == chunk.n_peaks for outcome, chunk in pairs),
        "same_indexed": sum(outcome.indexed == chunk.indexed for outcome, chunk in pairs),
    }


def _masked(geometry_file: Path, run: FrameSource, settings: Settings, folder: Path) -> Path:
    """Return a geometry that masks what the settings mask; it lives as long as the folder."""
    if not any(settings.mask_key):
        return geometry_file
    geometry, mask, masked = run.geometry, folder / "mask.h5", folder / "masked.geom"
    write_mask(mask, geometry, SettingsMask(geometry, run.bad_pixels).bits(settings))
    top, bottom = geometry_lines(mask, geometry)
    write_geometry(geometry_file, masked, top=top, bottom=bottom)
    return masked


def crystfel_found() -> dict[str, Any]:
    """Return what CrystFEL was found here, or why none is any more."""
    try:
        program = require_program(None)
        stays = can_serve(program)
    except (ProgramError, OSError) as error:
        return {"not_known": str(error)}
    return {
        "version": program.version,
        "program": program.path,
        "indexers": list(program.indexers),
        "stays": stays,
    }
