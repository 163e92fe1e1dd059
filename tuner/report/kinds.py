"""The kinds of a session's frames: how frequent each is, how often it indexes, how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.evaluation import wilson_interval
from tuner.apply.kind_drift import changes
from tuner.report.findings import Findings
from tuner.report.frames import open_run
from tuner.report.images import placed, powder_address
from tuner.session.kinds import read_told
from wrappers.errors import InputError
from wrappers.frame_kinds import KINDS
from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource

__all__ = ["KindRow", "KindsSection", "kinds_section"]

SHOWN = 4
"""Frames of each kind that are shown."""
THUMBNAIL = 220
"""Largest width and height of a picture, in pixels."""


@dataclass(frozen=True)
class KindRow:
    """One kind.

    Attributes
    ----------
    name, meaning : str
    n, share, low, high
        Frames of those spread over the run, and their share with its 95 % interval.
    n_sample, n_indexed : int
        Frames of the sample, and those of them that the best set indexes.
    rate, rate_low, rate_high
        Share of the latter with its 95 % interval.
    pictures : tuple of (str, str)
        Name of a frame and its picture as a ``data:`` address.
    """

    name: str
    meaning: str
    n: int
    share: float
    low: float
    high: float
    n_sample: int
    n_indexed: int
    rate: float
    rate_low: float
    rate_high: float
    pictures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class KindsSection:
    """What the report says of the kinds.

    Attributes
    ----------
    rows : tuple of KindRow
    n_spread : int
        Frames that the shares are of.
    changes : tuple of str
        Which kinds have become more frequent within the run, a sentence each.
    note : str
        Why there are no pictures, or "".
    """

    rows: tuple[KindRow, ...]
    n_spread: int
    changes: tuple[str, ...]
    note: str = ""


def kinds_section(found: Findings, *, pictures: bool) -> KindsSection | None:
    """Return what is to be said of the kinds, or None where they were not told."""
    try:
        told = read_told(found.store.directory)
    except InputError:
        return None
    if told is None:
        return None
    spread = [frame for frame in told.spread if frame in told.names]
    outcomes = {} if found.best is None else {o.frame: o for o in found.best.outcomes}
    by_kind = {
        name: [frame for frame, kind in told.names.items() if kind == name] for name in KINDS
    }
    drawn: dict[str, tuple[tuple[str, str], ...]] = {}
    note = ""
    if pictures:
        try:
            run, _ = open_run(found.store)
            with run:
                drawn = {name: _draw(run, frames[:SHOWN]) for name, frames in by_kind.items()}
        except (InputError, OSError) as error:
            note = f"No pictures of the kinds: {error}."
    rows = []
    for name, frames in by_kind.items():
        if not frames:
            continue
        n = sum(told.names[frame] == name for frame in spread)
        in_sample = [outcomes[frame] for frame in frames if frame in outcomes]
        n_indexed = sum(each.indexed for each in in_sample)
        low, high = wilson_interval(n, max(len(spread), 1))
        rate_low, rate_high = wilson_interval(n_indexed, max(len(in_sample), 1))
        rows.append(
            KindRow(
                name=name,
                meaning=KINDS[name],
                n=n,
                share=n / max(len(spread), 1),
                low=low,
                high=high,
                n_sample=len(in_sample),
                n_indexed=n_indexed,
                rate=n_indexed / max(len(in_sample), 1),
                rate_low=rate_low,
                rate_high=rate_high,
                pictures=drawn.get(name, ()),
            )
        )
    ordered = sorted(spread)
    said = changes(ordered, [told.names[frame] for frame in ordered])
    return KindsSection(tuple(rows), len(spread), tuple(map(str, said)), note)


def _draw(run: FrameSource, frames: Sequence[int]) -> tuple[tuple[str, str], ...]:
    found = []
    for index in frames:
        if index >= len(run):
            continue
        frame = run[index]
        name = f"{Path(frame.file).name} {frame.event}".strip()
        found.append((name, _thumbnail(run, frame)))
    return tuple(found)


def _thumbnail(run: FrameSource, frame: Frame) -> str:
    (image, usable), there, _ = placed(run.geometry, (frame.data, frame.mask))
    step = -(-max(image.shape) // THUMBNAIL)
    return powder_address(image[::-1], usable[::-1].astype(bool), there[::-1], step, brightest=True)
