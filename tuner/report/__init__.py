"""The session's report: one HTML file that needs nothing else.

================ ===========================================================================
`findings`       what the trials come to
`verdict`        the recommendation, its evidence, how to apply it
`sections`       progress, responses, importance, geometry, the table of trials
`trends`         their figures, and `landscape` those of importance and response
`model`          the smooth response and the importance behind them
`frames`         frames seen by two settings, `prediction` where reflections should be
`gallery`        their pictures
`drawing`        Matplotlib figures in the page's colours
`html`, `style`  the page
================ ===========================================================================
"""

from __future__ import annotations

from pathlib import Path

from tuner.recommendation import Recommendation
from tuner.report.findings import Findings, find
from tuner.report.frames import compare_frames
from tuner.report.gallery import gallery_section
from tuner.report.html import page, section, table
from tuner.report.sections import (
    geometry_section,
    landscape_section,
    progress_section,
    responses_section,
    trials_section,
)
from tuner.report.verdict import apply_section, opening
from tuner.session.store import SessionStore
from wrappers.files import write_whole

__all__ = ["render_body", "title_of", "write_report"]


def write_report(store: SessionStore, recommendation: Recommendation | None, path: Path) -> None:
    """Write the report of a session, atomically.

    Pictures of frames are made of the run's files and of the lattices that the session has kept;
    where those are gone the report says so instead.

    Parameters
    ----------
    store : SessionStore
    recommendation : Recommendation or None
        None where no settings indexed any frame.
    path : Path

    Raises
    ------
    InputError
        If it cannot be written.
    """
    write_whole(path, page(title_of(store), render_body(store, recommendation)))


def title_of(store: SessionStore) -> str:
    """Return the title of a session's report."""
    return f"sfx-tuner: {Path(store.config.data or store.directory).name}"


def render_body(
    store: SessionStore, recommendation: Recommendation | None, *, frames: bool = True
) -> str:
    """Return the report's ``<main>``.

    Parameters
    ----------
    store : SessionStore
    recommendation : Recommendation or None
        Without one the best so far takes its place.
    frames : bool
        Whether there are to be pictures of frames.
    """
    found = find(store, recommendation)
    gallery = ""
    if frames and found.best is not None and found.baseline is not None:
        gallery = gallery_section(*compare_frames(store, found.best, found.baseline))
    sections = {
        "Progress": progress_section(found),
        "Responses": responses_section(found),
        "Importance": landscape_section(found),
        "Frames": gallery,
        "Geometry": geometry_section(found),
        "Evaluations": trials_section(found),
        "Apply": apply_section(found),
        "Provenance": _provenance(found),
    }
    links = "".join(
        f'<a href="#{name.lower()}">{name}</a>' for name, text in sections.items() if text
    )
    return f"<main>{opening(found)}<nav>{links}</nav>\n{''.join(sections.values())}</main>\n"


def _provenance(found: Findings) -> str:
    values = dict(found.recommendation.provenance) if found.recommendation else {}
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in {**found.store.config.as_dict(), **values}.items()
    ]
    return section(
        "provenance", "Provenance", table(("", ""), rows, kind="provenance", text=(0, 1))
    )
