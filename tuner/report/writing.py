"""A session's report: its parts put together, and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from tuner.recommendation import Recommendation
from tuner.report.detector_page import detector_page
from tuner.report.findings import Findings, find
from tuner.report.frame_list import FrameList, list_frames
from tuner.report.frames import TITLES, Gallery, compare_frames
from tuner.report.geometry import geometry
from tuner.report.kinds import kinds_section
from tuner.report.landscape import landscape
from tuner.report.map_picture import chart
from tuner.report.page import POLICY, render
from tuner.report.panels import panels
from tuner.report.seen_map import SeenMap, seen_map
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
    seen = seen_map(found)
    listed = list_frames(found, seen) if isinstance(seen, SeenMap) else None
    return render(
        "report.html.j2",
        name=_name(store),
        best=found.best_words,
        opening=opening(found),
        progress=progress(found),
        chart=chart(found, seen),
        listed=listed,
        titles=TITLES,
        responses=responses(found),
        landscape=landscape(found),
        gallery=_gallery(found, listed) if frames else None,
        kinds_told=kinds_section(found, pictures=frames),
        detector=None if not frames or found.best is None else detector_page(store, found.best),
        geometry=geometry(found),
        panels=panels(found),
        evaluations=table_of_trials(found),
        usage=usage(found),
        provenance=_provenance(found),
    )


def _gallery(found: Findings, listed: FrameList | None) -> Gallery | None:
    """Return pictures of frames of each kind, where there is something to compare."""
    if listed is not None:
        words = f"{found.bar_words[:1].upper()}{found.bar_words[1:]}"
        shown = compare_frames(found.store, listed.best, listed.bar, listed.typical())
        return replace(shown, against=words)
    if found.best is None or found.baseline is None:
        return None
    return compare_frames(found.store, found.best, found.baseline)


def _name(store: SessionStore) -> str:
    return Path(store.config.data or store.directory).name


def _provenance(found: Findings) -> list[tuple[str, str]]:
    values = dict(found.recommendation.provenance) if found.recommendation else {}
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in {**found.store.config.as_dict(), **values}.items()
    ]
