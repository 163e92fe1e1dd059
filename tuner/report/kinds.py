"""The kinds of a session's frames: how frequent each is, how often it indexes, how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.apply.kind_drift import changes
from tuner.apply.kind_shares import Counted, kind_shares
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
    told : Counted
        Its frames among those spread over the run.
    indexed : Counted
        Of its frames in the sample, those that the best set indexes.
    pictures : tuple of (str, str)
        Name of a frame and its picture as a ``data:`` address.
    """

    name: str
    meaning: str
    told: Counted
    indexed: Counted
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
    shares = kind_shares(
        {name: sum(told.names[frame] == name for frame in spread) for name in KINDS}
    )
    rows = []
    for name, frames in by_kind.items():
        if frames:
            sample = [outcomes[frame] for frame in frames if frame in outcomes]
            indexed = Counted(sum(each.indexed for each in sample), len(sample))
            pictures_of = drawn.get(name, ())
            rows.append(KindRow(name, KINDS[name], shares[name], indexed, pictures_of))
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
