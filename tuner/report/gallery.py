"""The frames in the report: image, peaks and predicted reflections as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from tuner.report.frames import Comparison, View
from tuner.report.html import paragraph, section

__all__ = ["gallery_section"]

TITLES = {
    "gained": "A hit gained",
    "lost": "A hit lost",
    "kept": "Indexed by both",
    "blank": "A blank",
}
MOST_MARKS = 1500
FOUND, PREDICTED = "var(--blue)", "var(--vermilion)"

LEGEND = f"""<ul class="legend">
<li><svg viewBox="0 0 16 16" fill="none" stroke="{FOUND}" stroke-width="2" aria-hidden="true">
<circle cx="8" cy="8" r="6"/></svg>found peak</li>
<li><svg viewBox="0 0 16 16" fill="none" stroke="{PREDICTED}" stroke-width="2" aria-hidden="true">
<path d="M8 1l7 7-7 7-7-7z"/></svg>predicted reflection</li></ul>
"""


def gallery_section(comparisons: Sequence[Comparison], note: str) -> str:
    """Return frames by the recommended and the default settings, side by side."""
    parts = [LEGEND] if comparisons else []
    parts += [_comparison(number, each) for number, each in enumerate(comparisons)]
    kinds = {each.kind for each in comparisons}
    if comparisons:
        missing = [f"no hit was {kind}" for kind in ("gained", "lost") if kind not in kinds]
        about = (
            "Typical frames, x to the right and y up, as dark as a pixel is brighter than others "
            "as far from the beam. Below each whole detector, which is shrunk so that spots stay, "
            "the framed part pixel by pixel."
        )
        if missing:
            about += f" On these frames {' and '.join(missing)}."
        parts.insert(0, paragraph(about))
    if note:
        parts.append(paragraph(escape(note)))
    return section("frames", "Frames", *parts)


def _comparison(number: int, each: Comparison) -> str:
    # The images are there once; both sides show them.
    width, height = each.size
    x, y, w, h = each.part
    images = (
        '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
        f'<image id="frame{number}" href="{each.overview}" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/>'
    )
    if each.detail:
        images += (
            f'<image id="detail{number}" href="{each.detail}" x="{x}" y="{y}" width="{w}" '
            f'height="{h}" preserveAspectRatio="none"/>'
        )
    images += "</defs></svg>"
    sides = ""
    for name, view in (("Recommended", each.recommended), ("Defaults", each.default)):
        whole = _picture(
            f"#frame{number}", (0, 0, width, height), view, name, each.part if each.detail else None
        )
        part = _picture(f"#detail{number}", each.part, view, f"{name}, a part")
        sides += (
            f"<figure><figcaption><b>{name}</b>: {_words(view)}</figcaption>"
            f"{whole}{part if each.detail else ''}</figure>"
        )
    return (
        f'<h3>{TITLES[each.kind]} <span class="soft">{escape(each.name)}</span></h3>\n'
        f'{images}<div class="pair">{sides}</div>\n'
    )


def _words(view: View) -> str:
    peaks = f"{view.outcome.n_peaks} peak{'s' * (view.outcome.n_peaks != 1)}"
    if not view.outcome.hit:
        return f"{peaks}, no hit"
    n = view.outcome.n_lattices
    return f"{peaks}, {f'{n} lattice' + 's' * (n != 1) if n else 'not indexed'}"


def _picture(
    image: str,
    box: tuple[int, int, int, int],
    view: View,
    name: str,
    framed: tuple[int, int, int, int] | None = None,
) -> str:
    x, y, width, height = box
    size = max(width, height) / 100
    line = f'fill="none" stroke-width="{size / 4:.2f}"'
    frame = ""
    if framed is not None:
        frame = (
            f'<rect x="{framed[0]}" y="{framed[1]}" width="{framed[2]}" height="{framed[3]}" '
            f'{line} stroke="#767f88"/>'
        )
    return (
        f'<svg viewBox="{x} {y} {width} {height}" role="img" '
        f'aria-label="{escape(name)}: {_words(view)}"><use href="{image}"/>{frame}'
        f'<path d="{_diamonds(_inside(view.predicted, box), size)}" {line} stroke="{PREDICTED}"/>'
        f'<path d="{_circles(_inside(view.peaks, box), size)}" {line} stroke="{FOUND}"/></svg>'
    )


def _inside(places: NDArray[np.float64], box: tuple[int, int, int, int]) -> list[list[float]]:
    low, span = np.array(box[:2]), np.array(box[2:])
    inside = ((places >= low) & (places < low + span)).all(axis=1)
    some: list[list[float]] = places[inside][:MOST_MARKS].tolist()
    return some


def _circles(places: Iterable[Sequence[float]], r: float) -> str:
    return "".join(
        f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0"
        f"a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0"
        for x, y in places
    )


def _diamonds(places: Iterable[Sequence[float]], size: float) -> str:
    r = 1.3 * size
    return "".join(
        f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f} {-r:.1f} {r:.1f} {-r:.1f} {-r:.1f}z"
        for x, y in places
    )
