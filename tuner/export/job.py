"""What every export needs: the recommendation, where it comes from, CrystFEL's options for it."""

from __future__ import annotations

import importlib.metadata
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.recommendation import Recommendation
from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import CrystfelProgram
from wrappers.crystfel.options import NO_LIMIT, choose_method, search_values
from wrappers.indexers import INDEXERS, IndexerChoice, recorded_choice
from wrappers.settings import MASK_FIELDS, Settings
from wrappers.text import printable

__all__ = [
    "INSTEAD",
    "Export",
    "Job",
    "comments",
    "geometry_notes",
    "indexing_arguments",
    "limit_notes",
    "mask_notes",
    "translated",
    "version",
]

INSTEAD = "write the hits with their peaks (sfx-tuner apply) and index with indexamajig --peaks=cxi"
"""What to do with settings that are of no peak finder of CrystFEL's."""


@dataclass(frozen=True)
class Job:
    """What a file is made of.

    Attributes
    ----------
    recommendation : Recommendation
    path : Path
        The file that is written.
    geometry : Path
        The geometry file with the recommended camera length and shift.
    cell : Path
    old : bool
        Whether to write for releases before a format was changed.
    mask : Path or None
        The mask file that the geometry names for the settings' own mask.
    mended : tuple of str
        What of the session's geometry is written otherwise, because CrystFEL takes it otherwise.
    """

    recommendation: Recommendation
    path: Path
    geometry: Path
    cell: Path
    old: bool = False
    mask: Path | None = None
    mended: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The recommended settings."""
        return self.recommendation.settings


@dataclass(frozen=True)
class Export:
    """A file's text, and what it does not hold or holds in another way, a sentence each.

    `beside` are the texts of further files, by what their names end with.
    """

    text: str
    notes: tuple[str, ...]
    beside: Mapping[str, str] = field(default_factory=dict)


def translated(settings: Settings, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a peak search under a program's own names, in that order.

    Parameters
    ----------
    settings : Settings
    names : mapping of str to str
        The program's names by our fields; what has none is left out.
    """
    values = search_values(settings)
    return {name: values[field] for field, name in names.items() if name}


def indexing_arguments(job: Job) -> tuple[list[str], list[str]]:
    """Return CrystFEL's options for the session's indexing, the method first, and notes."""
    provenance = job.recommendation.provenance
    used = recorded_choice(provenance)
    of_crystfel = used.name in INDEXERS and INDEXERS.get(used.name).of_crystfel
    choice = used if of_crystfel else IndexerChoice("crystfel", "xgandalf")
    # The choice of a named method depends on no program.
    program = CrystfelProgram("indexamajig", "", (), frozenset())
    chosen = choose_method(
        program,
        Cell.read(job.cell),
        choice.method or "xgandalf",
        effort=choice.effort,
        options=choice.options,
    )
    if of_crystfel:
        return list(chosen.arguments), []
    indexer = provenance.get("indexer", "an indexer not named")
    return list(chosen.arguments), [
        f"indexing: the settings were tuned with {indexer}, not with CrystFEL; its xgandalf, which "
        "is written, may index far fewer frames with them: tune with --indexer crystfel what "
        "CrystFEL is to index"
    ]


def geometry_notes(job: Job) -> list[str]:
    """Say that the camera length and the shift stand in the geometry file."""
    settings = job.settings
    clen = "as it was" if settings.clen is None else f"{settings.clen!r} m"
    return [
        f"clen ({clen}), shift_x ({settings.shift_x!r} m), shift_y ({settings.shift_y!r} m): they "
        f"stand in the geometry file {job.geometry.name}",
        *job.mended,
    ]


def limit_notes(settings: Settings, name: str) -> list[str]:
    """Say how a missing outer limit is written for a program of that name."""
    if settings.max_res:
        return []
    return [f"max_res: 0 is no limit for sfx-tuner but not for {name}, so {NO_LIMIT} px is written"]


def mask_notes(job: Job, mend: str = "add its lines to the geometry") -> list[str]:
    """Say where the pixels are that the settings mask; `mend` is what to do with a mask file."""
    values = {name: getattr(job.settings, name) for name in MASK_FIELDS}
    masking = [f"{name} ({value:g})" for name, value in values.items() if value]
    if not masking:
        return []
    if job.mask is not None:
        return [f"{', '.join(masking)}: they stand as pixels in the mask file {job.mask.name}"]
    hot, noisy, dead, edge = job.settings.mask_key
    return [
        f"{', '.join(masking)} are NOT held: make a mask with sfx-tuner mask DATA -g GEOMETRY "
        f"--hot-sigma {hot:g} --noisy-sigma {noisy:g} --dead-sigma {dead:g} --edge {edge:g} "
        f"-o mask.h5, and {mend}"
    ]


def version() -> str:
    """Return name and version of this program."""
    return f"sfx-tuner {importlib.metadata.version('sfx-tuner')}"


def comments(job: Job, what: str, notes: Sequence[str], mark: str) -> list[str]:
    """Return comment lines: what this is, where it comes from, and the notes."""
    provenance, evidence = job.recommendation.provenance, job.recommendation.evidence
    measured = ("n_frames", "indexing_rate", "ci95", "false_rate", "baseline_rate")
    caution = job.recommendation.caution
    sentences = [
        f"{what}. Written by {version()}.",
        *([f"Note: {caution}."] if caution else []),
        *(
            []
            if job.recommendation.edited
            else [f"evidence: {key} = {evidence[key]}" for key in measured if key in evidence]
        ),
        *(f"provenance: {key} = {value}" for key, value in provenance.items()),
        *(f"Note: {note}." for note in notes),
    ]
    return [
        mark + line
        for sentence in sentences
        for line in textwrap.wrap(
            printable(sentence), 95, break_long_words=False, break_on_hyphens=False
        )
    ]
