"""The picture of the response map: the expected rate of every parameter set that was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from tuner.report.findings import Findings
from tuner.report.seen_map import SeenMap
from tuner.searchers import SEARCHERS
from tuner.session.racing import INDIFFERENCE
from tuner.session.trial import Trial, tuning_trials
from wrappers.settings import Settings

__all__ = ["Chart", "chart"]

GROUND, POINTS = "cividis", "RdPu"
"""Colours of what is expected and of what was measured."""

POINTS_SPAN = 0.2
"""Of the rate, below the best measured one: the colours of the points. So far apart are sets that
compete; what is worse is as pale as the worst of them."""

POOR = 0.2
"""Rate, below which a run's numbers have a decimal."""

FAR = 0.005
"""Relative difference of camera lengths that is told of a point."""

WIDE, HIGH = 38, 26
"""Size of a cell in pixels."""

LEFT, TOP, RIGHT, BOTTOM = 50, 24, 8, 60
"""Margins of a panel; below are its labels, and the line of the cell that is pointed at."""


@dataclass(frozen=True)
class Cell:
    """A set of the map's grid.

    Attributes
    ----------
    x, y : float
        Upper left corner in the panel, in pixels.
    number : str
        The expected rate in per cent.
    fill, ink : str
        Colours.
    words : str
        All that the map says of it.
    """

    x: float
    y: float
    number: str
    fill: str
    ink: str
    words: str


@dataclass(frozen=True)
class Point:
    """A measured set; `beyond` the grid it is at the edge, and `part` saw some frames only."""

    x: float
    y: float
    number: int
    fill: str
    ink: str
    words: str
    best: bool
    part: bool
    beyond: bool


@dataclass(frozen=True)
class Panel:
    """The sets with one min_pix_count.

    Attributes
    ----------
    title : str
    cells : tuple of Cell
    points : tuple of Point
    good, flood : str
        SVG paths around the sets that are as good as the best, and around those flooded by noise.
    flooded : tuple of (float, float)
        Upper left corners of the latter.
    columns, rows : tuple of (float, str)
        Places and labels along min_snr and threshold.
    """

    title: str
    cells: tuple[Cell, ...]
    points: tuple[Point, ...]
    good: str
    flood: str
    flooded: tuple[tuple[float, float], ...]
    columns: tuple[tuple[float, str], ...]
    rows: tuple[tuple[float, str], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return (
            LEFT + WIDE * len(self.columns) + RIGHT,
            TOP + HIGH * len(self.rows) + BOTTOM,
        )


@dataclass(frozen=True)
class Scale:
    """A legend of colours, from `low` to `high`."""

    low: str
    high: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """The map as the report shows it.

    Attributes
    ----------
    note : str
        Why there is no map although the session took a look, or "".
    panels : tuple of Panel
    expected, measured : Scale or None
    n_frames, n_lattices, n_sets, n_good : int
        Frames that were looked at, those whose lattices are known, sets of the grid, and how many
        of them may be as good as the best.
    any_flood, any_beyond, any_part, far : bool
        What the legend has to explain; whether the run is unlike those that the map was made on.
    indifference : float
    chooses : bool
        Whether the searcher went by it.
    """

    note: str = ""
    panels: tuple[Panel, ...] = ()
    expected: Scale | None = None
    measured: Scale | None = None
    n_frames: int = 0
    n_lattices: int = 0
    n_sets: int = 0
    n_good: int = 0
    any_flood: bool = False
    any_beyond: bool = False
    any_part: bool = False
    far: bool = False
    indifference: float = INDIFFERENCE
    chooses: bool = True


def chart(found: Findings, seen: SeenMap | str | None) -> Chart | None:
    """Return the map as it is shown, or None where the session made none."""
    if seen is None or isinstance(seen, str):
        return None if seen is None else Chart(note=seen)
    n = len(seen.found.look.settings)
    grid = seen.settings[:n]
    snr, threshold, pixels = (
        sorted({float(getattr(each, name)) for each in grid})
        for name in ("min_snr", "threshold", "min_pix_count")
    )
    top = max(float(seen.forecast.mean[:n].max()), 0.05)
    trials = [
        trial
        for trial in tuning_trials(found.trials)
        # CrystFEL's defaults are peakfinder8's, whatever is tuned.
        if trial.evaluation.n_frames
        and trial.evaluation.settings.peak_finder == grid[0].peak_finder
    ]
    best = max((trial.evaluation.rate for trial in trials), default=top)
    places = [*range(n)]
    panels = tuple(
        _panel(
            found,
            seen,
            [place for place in places if grid[place].min_pix_count == each],
            [trial for trial in trials if _nearest(pixels, trial) == each],
            (snr, threshold),
            top,
            best,
        )
        for each in pixels
    )
    points = [point for panel in panels for point in panel.points]
    return Chart(
        panels=panels,
        expected=Scale("0%", f"{top:.0%}", _colours(GROUND)),
        measured=Scale(f"≤ {max(best - POINTS_SPAN, 0):.0%}", f"{best:.0%}", _colours(POINTS)),
        n_frames=int(seen.found.look.readable.sum()),
        n_lattices=int(seen.found.learnt.lattice.sum()),
        n_sets=n,
        n_good=int(seen.good[:n].sum()),
        any_flood=bool(seen.flooded[:n].any()),
        any_beyond=any(point.beyond for point in points),
        any_part=any(point.part for point in points),
        far=seen.found.far,
        chooses=_looks(found.store.config.searcher),
    )


def _looks(searcher: str) -> bool:
    """Whether a session's searcher goes by the map; one that was retired since did not."""
    return searcher in SEARCHERS and SEARCHERS.get(searcher).looks


def _nearest(pixels: Sequence[float], trial: Trial) -> float:
    own = trial.evaluation.settings.min_pix_count
    return min(pixels, key=lambda each: abs(each - own))


def _panel(
    found: Findings,
    seen: SeenMap,
    places: Sequence[int],
    trials: Sequence[Trial],
    levels: tuple[list[float], list[float]],
    top: float,
    best: float,
) -> Panel:
    snr, threshold = levels
    shape = len(threshold), len(snr)
    good, flood = np.zeros(shape, bool), np.zeros(shape, bool)
    cells = []
    for place in places:
        settings = seen.settings[place]
        column = snr.index(settings.min_snr)
        row = len(threshold) - 1 - threshold.index(settings.threshold)
        good[row, column], flood[row, column] = seen.good[place], seen.flooded[place]
        cells.append(_cell(seen, place, column, row, top))
    pixels = seen.settings[places[0]].min_pix_count
    return Panel(
        title=f"min_pix_count {pixels}",
        cells=tuple(cells),
        points=tuple(_point(found, seen, trial, levels, pixels, best) for trial in trials),
        good=_outline(good),
        flood=_outline(flood),
        flooded=tuple(
            (float(LEFT + WIDE * column), float(TOP + HIGH * row))
            for row, column in zip(*np.nonzero(flood), strict=True)
        ),
        columns=tuple((LEFT + WIDE * (i + 0.5), f"{each:g}") for i, each in enumerate(snr)),
        rows=tuple(
            (TOP + HIGH * (i + 0.5), f"{each:.4g}") for i, each in enumerate(reversed(threshold))
        ),
    )


def _cell(seen: SeenMap, place: int, column: int, row: int, top: float) -> Cell:
    settings, forecast = seen.settings[place], seen.forecast
    rate, sd = float(forecast.mean[place]), float(forecast.sd[place])
    fill = to_hex(colormaps[GROUND](min(rate / top, 1.0)))
    return Cell(
        LEFT + WIDE * column,
        TOP + HIGH * row,
        f"{100 * rate:.{1 if top < POOR else 0}f}",
        fill,
        _ink(fill),
        f"min_snr {settings.min_snr:g}, threshold {settings.threshold:g}: "
        f"{100 * rate:.1f} ± {100 * sd:.1f} %, hits {forecast.hits[place]:.0%}, "
        f"noise {seen.noise[place]:.0f} peaks",
    )


def _point(
    found: Findings,
    seen: SeenMap,
    trial: Trial,
    levels: tuple[list[float], list[float]],
    pixels: int,
    best: float,
) -> Point:
    evaluation = trial.evaluation
    settings = evaluation.settings
    column, beyond_x = _place(levels[0], settings.min_snr)
    row, beyond_y = _place(levels[1], settings.threshold)
    fill = to_hex(colormaps[POINTS](np.clip(1 - (best - evaluation.rate) / POINTS_SPAN, 0, 1)))
    whole = len(seen.found.look.frames)
    recommended = found.recommendation
    others = "" if settings.min_pix_count == pixels else f", min_pix_count {settings.min_pix_count}"
    if recommended is not None and _far(settings, recommended.settings):
        others += f", clen {1e3 * (settings.clen or 0):.2f} mm"
    return Point(
        LEFT + WIDE * (column + 0.5),
        TOP + HIGH * (len(levels[1]) - 0.5 - row),
        trial.number,
        fill,
        _ink(fill),
        f"evaluation {trial.number}: min_snr {settings.min_snr:g}, threshold "
        f"{settings.threshold:g}{others}: {evaluation.n_indexed} of {evaluation.n_frames} measured",
        best=recommended is not None
        and settings.peak_key == recommended.settings.peak_key
        and evaluation.n_frames == whole,
        part=evaluation.n_frames < whole,
        beyond=beyond_x or beyond_y or settings.min_pix_count != pixels,
    )


def _far(settings: Settings, best: Settings) -> bool:
    """Whether a set was measured at quite another camera length, which says little of its peaks."""
    lengths = settings.clen, best.clen
    return None not in lengths and abs(settings.clen / best.clen - 1) > FAR  # type: ignore[operator]


def _place(levels: Sequence[float], value: float) -> tuple[float, bool]:
    """Return where a value lies among levels, counted from 0, and whether it is beyond them."""
    logs = np.log(np.maximum([*levels], 1e-9))
    place = float(np.interp(np.log(max(value, 1e-9)), logs, np.arange(len(levels))))
    return place, not 0.999 * levels[0] <= value <= 1.001 * levels[-1]


def _outline(inside: NDArray[np.bool_]) -> str:
    """Return the SVG path around the cells (rows, columns) that are inside."""
    padded = np.pad(inside, 1)
    path = []
    # Edges between a cell and the one to its left, and between one and the one above.
    for row, column in zip(*np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), strict=True):
        path.append(f"M{LEFT + WIDE * column} {TOP + HIGH * row}v{HIGH}")
    for row, column in zip(*np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]), strict=True):
        path.append(f"M{LEFT + WIDE * column} {TOP + HIGH * row}h{WIDE}")
    return "".join(path)


def _ink(fill: str) -> str:
    """Return black or white, whichever is read on a colour (WCAG's relative luminance)."""
    parts = np.array([int(fill[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return "#000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.18 else "#fff"


def _colours(name: str) -> tuple[str, ...]:
    return tuple(to_hex(colormaps[name](place)) for place in np.linspace(0, 1, 7))
