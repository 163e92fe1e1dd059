"""Matplotlib figures as SVG in the page's own colours and type."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from tuner.report.colours import COLOURS, GROUPS
from tuner.session.trial import Trial

__all__ = [
    "TOKENS",
    "group_of",
    "is_logarithmic",
    "logarithmic",
    "percent",
    "points",
    "svg",
]

TOKENS = {name: f"#0102{number:02x}" for number, name in enumerate(COLOURS, start=16)}
"""Colours to draw with: each becomes the page's colour of that name, by day or by night."""

LOG_SPAN = 15
"""Positive values that span more than this factor are drawn on a logarithmic axis."""

RIGHT, BOTTOM, TOP = 14, 44, 22
"""Margins of every figure, in pixels."""

_STAGES = {"baseline": "defaults", "search": "search", "confirm": "check", "fresh": "check"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
    "font.size": 12.0,  # one of Matplotlib's points becomes a pixel of the page
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": TOKENS["soft"],
    "axes.labelcolor": TOKENS["soft"],
    "text.color": TOKENS["ink"],
    "xtick.color": TOKENS["soft"],
    "ytick.color": TOKENS["soft"],
    "grid.color": TOKENS["line"],
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "lines.markersize": 6.0,
    "axes.titlesize": 12.0,
}

# Matplotlib's settings belong to the whole process, and a dashboard draws in a thread.
WORDS, BETWEEN = "words: ", " ¦ "
"""How a group of markers is named that have something to say, and what is between the points'."""

_lock = threading.Lock()


def svg(
    draw: Callable[[Figure], None],
    *,
    size: tuple[int, int],
    name: str,
    alternative: str,
    left: int = 62,
) -> Markup:
    """Return a figure as an SVG element.

    Parameters
    ----------
    draw : callable
        Draws on the figure it is given.
    size : (int, int)
        Width and height in pixels, of which it never takes more.
    name : str
        Different for each figure of a page: identifiers are made of it.
    alternative : str
        What is to be seen, in words, for those who do not.
    left : int
        Pixels for what is written beside the vertical axis.
    """
    buffer = io.StringIO()
    # A fixed salt keeps the file the same for the same session.
    with _lock, matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        # Matplotlib's own layouts take longer than all the rest.
        figure.subplots_adjust(
            left=left / size[0],
            right=1 - RIGHT / size[0],
            bottom=BOTTOM / size[1],
            top=1 - TOP / size[1],
        )
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, token in TOKENS.items():
        text = text.replace(token, f"var(--{colour})")
    text = re.sub(f'<g id="{WORDS}([^"]*)">(.*?)</g>', _with_titles, text, flags=re.DOTALL)
    text = re.sub(r"(font: [^;\"']*?px) [^;\"]*", r"\1 inherit", text)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' width="[^"]*pt"| height="[^"]*pt"| version="1.1"', "", text)
    start = f'<svg role="img" aria-label="{escape(alternative)}" style="max-width: {size[0]}px"'
    return Markup(text.replace("<svg", start, 1))


def _with_titles(found: re.Match[str]) -> str:
    """Return a group of markers, each with its words as a title."""
    words, group = found.groups()
    titles = words.split(BETWEEN)
    if group.count("<use ") == len(titles):  # what lies beyond the picture is not drawn
        each = iter(titles)
        group = re.sub(
            r"<use ([^>]*)/>", lambda use: f"<use {use[1]}><title>{next(each)}</title></use>", group
        )
    return f"<g>{group}</g>"


def group_of(trial: Trial) -> str:
    """Return what a trial was made for: a key of `GROUPS`."""
    return _STAGES.get(trial.stage, "opening")


def points(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    error: ArrayLike | None,
    group: str,
    *,
    hollow: bool = False,
    words: Sequence[str] = (),
) -> None:
    """Draw the points of a group of trials, with intervals (2, n) around them where known.

    What `words` say of each is shown where the mouse rests on it.
    """
    _, marker, name = GROUPS[group]
    colour = TOKENS[name]
    drawn = axes.errorbar(
        x,
        y,
        yerr=error,
        fmt=marker,
        color=colour,
        markerfacecolor=TOKENS["page"] if hollow else colour,
        elinewidth=0.9,
        alpha=0.9,
    )
    if words:
        # The only text that Matplotlib takes along; `svg` makes titles of it.
        drawn.lines[0].set_gid(WORDS + BETWEEN.join(words))


def is_logarithmic(values: NDArray[np.float64]) -> bool:
    """Whether values are better drawn on a logarithmic axis."""
    return bool(len(values) and values.min() > 0 and values.max() > LOG_SPAN * values.min())


def logarithmic(axes: Axes, which: str, low: float, high: float) -> None:
    """Make the "x" or "y" axis logarithmic, with a few plain numbers from `low` to `high`."""
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    subs = (1.0,) if high > 300 * low else (1.0, 3.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def percent(axes: Axes, high: float = 1.0) -> None:
    """Label the vertical axis in per cent, from 0."""
    axes.set_ylim(-0.03 * high, 1.03 * high)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
