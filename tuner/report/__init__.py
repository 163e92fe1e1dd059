"""The session's report: one HTML file that needs nothing else.

Each module gathers facts of one part; the templates beside them lay the facts out.

============== =============================================================================
`writing`      the parts put together, and written
`findings`     what the trials come to
`verdict`      the recommendation, its evidence, how to apply it
`detector`     what is said of camera length and beam centre, here and in the terminal
`trials`       progress, rate against each setting, the table of trials
`seen_map`     the session's response map, read again, with `map_picture`, its picture:
               what the look at the peaks says of every parameter set
`frame_list`   the frames by what became of them, and why
`landscape`    what matters, with the models of `model`
`frames`       frames seen by two sets, with `images` and the reflections of `prediction`
`detector_page` the detector: all frames in one, peaks, with the figures of `spots`
`geometry`     the figures of camera length, shift and cell
`panels`       residuals of the spots, and which panel is off by how much
`drawing`      Matplotlib figures in the page's colours
`page`         the templates' environment, `words` numbers as people read them
============== =============================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.report.writing import render_body, title_of, write_report

__all__ = ["render_body", "title_of", "write_report"]


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import, which a page that shows nothing yet should not wait for.
    if name in __all__:
        from tuner.report import writing

        return getattr(writing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
