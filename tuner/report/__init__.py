"""The session's report: one HTML file that needs nothing else.

Each module gathers facts of one part; the templates beside them lay the facts out.

============== =============================================================================
`findings`     what the trials come to
`verdict`      the recommendation, its evidence, how to apply it
`detector`     what is said of camera length and beam centre, here and in the terminal
`trials`       progress, rate against each setting, the table of trials
`landscape`    what matters, with the models of `model`
`frames`       frames seen by two sets, with `images` and the reflections of `prediction`
`geometry`     the figures of camera length, shift and cell
`drawing`      Matplotlib figures in the page's colours
`page`         the templates' environment, `words` numbers as people read them
============== =============================================================================
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from tuner.recommendation import Recommendation
from tuner.report.findings import Findings, find
from tuner.report.frames import compare_frames
from tuner.report.geometry import geometry
from tuner.report.landscape import landscape
from tuner.report.page import POLICY, render
from tuner.report.trials import progress, responses, table_of_trials
from tuner.report.verdict import opening, usage
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
        None where no parameter set indexed any frame.
    path : Path

    Raises
    ------
    InputError
        If it cannot be written.
    """
    main = render_body(store, recommendation)
    write_whole(path, render("page.html.j2", title=title_of(store), policy=POLICY, main=main))


def title_of(store: SessionStore) -> str:
    """Return the title of a session's report."""
    return f"sfx-tuner: {_name(store)}"


def render_body(
    store: SessionStore, recommendation: Recommendation | None, *, frames: bool = True
) -> Markup:
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
    gallery = None
    if frames and found.best is not None and found.baseline is not None:
        gallery = compare_frames(store, found.best, found.baseline)
    return render(
        "report.html.j2",
        name=_name(store),
        opening=opening(found),
        progress=progress(found),
        responses=responses(found),
        landscape=landscape(found),
        gallery=gallery,
        geometry=geometry(found),
        evaluations=table_of_trials(found),
        usage=usage(found),
        provenance=_provenance(found),
    )


def _name(store: SessionStore) -> str:
    return Path(store.config.data or store.directory).name


def _provenance(found: Findings) -> list[tuple[str, str]]:
    values = dict(found.recommendation.provenance) if found.recommendation else {}
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in {**found.store.config.as_dict(), **values}.items()
    ]
