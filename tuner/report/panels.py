"""How far found spots are from predicted ones, and which panel is off by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from tuner.report.detector import Statement
from tuner.report.drawing import TOKENS, svg
from tuner.report.findings import Findings
from tuner.report.words import plainly
from tuner.session.residuals import SpotResiduals, read_residuals
from wrappers.lattices.spot_residuals import MATTERS, SIGMAS, PanelOffset

__all__ = ["Panels", "panels"]

MOST_ROWS = 16
ARROW = 0.12
"""Length of the longest arrow, as a share of the detector's width."""
STEPS = (1, 2, 5)
NAMED = 9
"""Panels up to which each has its name written in the picture."""


@dataclass(frozen=True)
class Panels:
    """What the report shows.

    Attributes
    ----------
    statements : tuple of Statement
    picture : Markup or None
        None where no panel has spots enough.
    magnified : int
        How many times the arrows are longer than the offsets.
    rows : list of tuple of str
        Panel, spots, frames, offset in x and in y; those that are off most come first.
    n_left_out : int
        Panels that the table leaves out.
    limits : (float, float)
        Pixels and standard errors beyond which a panel is said to be off.
    """

    statements: tuple[Statement, ...]
    picture: Markup | None
    magnified: int
    rows: list[tuple[str, ...]]
    n_left_out: int
    limits: tuple[float, float] = (MATTERS, SIGMAS)


def panels(found: Findings) -> Panels | None:
    """Return what a session's spots say of the panels; None where it has not asked them."""
    if found.recommendation is None or not found.finished or found.amended:
        return None
    residuals = read_residuals(found.store.directory)
    if residuals is None:
        return None
    known = [panel for panel in residuals.panels if math.isfinite(panel.x)]
    order = sorted(known, key=lambda panel: -panel.size)
    magnified = _magnified(residuals, known)
    return Panels(
        (_residual_words(residuals), *_offset_words(known, len(residuals.panels))),
        _picture(residuals, magnified) if known else None,
        magnified,
        [_row(panel) for panel in order[:MOST_ROWS]],
        len(residuals.panels) - len(order[:MOST_ROWS]),
    )


def _residual_words(residuals: SpotResiduals) -> Statement:
    kind = "fresh frames" if residuals.fresh else "frames of the search"
    given, refined = (
        f"{value:.2f}" + (f" ± {plainly(error)}" if error > 0 else "")
        for value, error in (residuals.given, residuals.refined)
    )
    frames = f"{residuals.n_lattices} lattices on {residuals.n_frames} {kind}"
    text = (
        f"Found spots are {refined} px from the predicted ones with the recommended geometry "
        f"(r.m.s. of a lattice; median of {frames})"
    )
    if residuals.given == residuals.refined:
        return Statement(f"{text}, which is the one that was given.")
    return Statement(f"{text}, and {given} px with the geometry as it was given: the same spots.")


def _offset_words(known: Sequence[PanelOffset], n_panels: int) -> tuple[Statement, ...]:
    off = sorted((panel for panel in known if panel.clear), key=lambda panel: -panel.size)
    few = n_panels - len(known)
    lacking = f" Too few spots fall on {few} of {n_panels} panels." if few else ""
    if not known:
        return (
            Statement(
                f"On none of {n_panels} panels are there spots enough.",
            ),
        )
    if not off:
        return (Statement(f"No panel is off by more than {MATTERS:g} px.{lacking}"),)
    worst = off[0]
    one = len(off) == 1
    return (
        Statement(
            f"{len(off)} of {len(known)} panels {'is' if one else 'are'} off by more than "
            f"{MATTERS:g} px{'' if one else ', most of all'}: {worst.name} by {worst.size:.2f} px. "
            "They are not moved here: `sfx-tuner export … --to align_detector` writes a job that "
            f"does.{lacking}",
            warning=True,
        ),
    )


def _row(panel: PanelOffset) -> tuple[str, ...]:
    return (
        panel.name,
        str(panel.n_spots),
        str(panel.n_frames),
        f"{panel.x:+.2f} ± {plainly(panel.x_se)}",
        f"{panel.y:+.2f} ± {plainly(panel.y_se)}",
        "off" if panel.clear else "",
    )


def _magnified(residuals: SpotResiduals, known: Sequence[PanelOffset]) -> int:
    """Return a round number of times that makes the longest arrow as long as it may be."""
    longest = max((panel.size for panel in known), default=0.0)
    width = float(np.ptp(np.array(residuals.outlines)[..., 0]))
    most = ARROW * width / max(longest, MATTERS)
    tens = 10 ** math.floor(math.log10(max(most, 1.0)))
    return max(step * tens for step in STEPS if step * tens <= max(most, 1.0))


def _picture(residuals: SpotResiduals, magnified: int) -> Markup:
    """Draw the panels, and by how much each is off."""
    corners = np.array(residuals.outlines)
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    width, height = high - low
    figure_width = 620
    figure_height = int(np.clip(figure_width * height / width, 200, 700)) + 60

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for outline, panel in zip(corners, residuals.panels, strict=True):
            known = math.isfinite(panel.x)
            axes.add_patch(
                Polygon(
                    outline,
                    facecolor=TOKENS["card"] if known else "none",
                    edgecolor=TOKENS["soft"],
                    lw=0.8,
                )
            )
            middle = outline.mean(axis=0)
            if len(corners) <= NAMED:
                axes.annotate(panel.name, outline.min(axis=0), (5, 5), textcoords="offset points")
            if not known:
                continue
            end = middle + magnified * np.array([panel.x, panel.y])
            axes.plot(*middle, "o", ms=2.5, color=TOKENS["soft"])
            axes.annotate(
                "",
                end,
                middle,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": TOKENS["vermilion" if panel.clear else "blue"],
                    "lw": 1.8 if panel.clear else 1.2,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
        room = 0.04 * max(width, height)
        axes.set(
            xlim=(low[0] - room, high[0] + room),
            ylim=(low[1] - room, high[1] + room),
            xlabel="x (px)",
            ylabel="y (px)",
        )
        axes.set_aspect("equal")
        axes.grid(False)

    return svg(
        draw,
        size=(figure_width, figure_height),
        name="panels",
        alternative="The detector's panels, with an arrow for how far each is off",
    )
