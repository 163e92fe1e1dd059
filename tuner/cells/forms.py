"""The check of a session's cell: whether the frames bear it out, and whether they show another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tuner.cells.checking import CellCheck, check_cell
from tuner.cells.search import ClearFrames, clear_frames
from tuner.cells.words import cell_words
from wrappers.cell import Cell
from wrappers.errors import InputError, ProgramError
from wrappers.frames.source import FrameSource
from wrappers.lattices.blind_geometry import moved
from wrappers.lattices.crystal_forms import CrystalForms, find_other_form
from wrappers.lattices.geometry_start import find_geometry
from wrappers.settings import Settings

__all__ = ["check_session_cell", "with_other_form"]

ASKED = 60
"""Frames with clear spots that are asked, evenly from those with many peaks to those with few."""
FOR_GEOMETRY = 12
LEAST_GIVEN, LEAST_SHARE = 3, 0.05
"""Frames that must show the given cell, and their share of all that show either, for it to be one
of the run's forms: a wrong cell shows in a few frames by accident."""


def check_session_cell(
    run: FrameSource, settings: Settings, sample: Sequence[int], cell: Cell, jobs: int
) -> CellCheck:
    """Check a session's cell with the settings that it recommends; never raises for its frames."""
    try:
        clear = clear_frames(run, settings, sample, most=len(sample), jobs=jobs)
    except (InputError, ProgramError) as error:
        return CellCheck("unknown", str(error))
    pixel = 1 / run.geometry.panels[0].res
    check = check_cell(clear, cell, pixel_size=pixel, nominal_clen=run.nominal_clen, jobs=jobs)
    return with_other_form(check, clear, cell, jobs)


def with_other_form(check: CellCheck, clear: ClearFrames, cell: Cell, jobs: int = 1) -> CellCheck:
    """Return what a session says of its cell, with the second crystal form where there is one.

    Parameters
    ----------
    check : CellCheck
        Of the clearest frames.
    clear : ClearFrames
        All that show enough peaks, at the geometry that is recommended.
    cell : Cell
        The given one.
    jobs : int
        Threads.
    """
    step = max(1, -(-len(clear.lists) // ASKED))
    lists = clear.lists[::step]
    forms = find_other_form(lists, cell, jobs=jobs)
    if forms is None:
        return check
    # A wrong centre or camera length makes cells of its own: the given cell is heard at its best.
    start = find_geometry(lists[:FOR_GEOMETRY], cell, jobs=jobs)
    if start is not None and start.evidence > start.evidence_before:
        forms = find_other_form([moved(one, start.place) for one in lists], cell, jobs=jobs)
        if forms is None:
            return check
    shown = forms.n_given + forms.n_other
    if forms.n_given < max(LEAST_GIVEN, LEAST_SHARE * shown):
        if check.verdict == "contradicted":
            return check
        return CellCheck("contradicted", _nothing_words(forms, cell), forms.other)
    words = _words(forms)
    if check.verdict == "agrees":
        words = f"{check.reason}; {words}"
    return replace(check, verdict="agrees", reason=words, second=forms)


def _words(forms: CrystalForms) -> str:
    return (
        f"of {forms.n_frames} frames with clear spots {_share(forms.n_given, forms)} show the "
        f"given cell and {_share(forms.n_other, forms)} a second crystal form, "
        f"{cell_words(forms.other.cell)}: give it as the cell of a session of its own (second.cell)"
    )


def _nothing_words(forms: CrystalForms, cell: Cell) -> str:
    some = f"{forms.n_given} of them" if forms.n_given else "none"
    return (
        f"of {forms.n_frames} frames with clear spots {forms.n_other} agree on "
        f"{cell_words(forms.other.cell)}, and {some} on the given {cell_words(cell)}; check the "
        "cell before the settings are used"
    )


def _share(n: int, forms: CrystalForms) -> str:
    return f"{n} ({n / forms.n_frames:.0%})"
