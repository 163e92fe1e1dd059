"""Faults of a sender, on request: what a beamline's stream does sooner or later in a night."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.source import FrameSource

__all__ = ["Faults", "damaged", "parse_faults", "segments"]

OTHERS = 10
"""Images of another detector, each time."""


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong.

    Attributes
    ----------
    drop, corrupt : float
        Share of the messages that never come, and that come with wrong bytes.
    restart : int
        Images after each of which the sender goes and comes back with a new series; 0 for never.
    other : int
        Images after each of which some of another detector come; 0 for never.
    """

    drop: float = 0.0
    corrupt: float = 0.0
    restart: int = 0
    other: int = 0


def parse_faults(words: Sequence[str]) -> Faults:
    """Return the faults that words such as ``drop=0.1`` or ``restart=50`` ask for.

    Raises
    ------
    InputError
        If one is none.
    """
    found: dict[str, float] = {}
    for word in words:
        kind, _, value = word.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        is_share = kind in ("drop", "corrupt") and 0 <= number <= 1
        if not is_share and not (
            kind in ("restart", "other") and number >= 1 and number.is_integer()
        ):
            raise InputError(
                f"--fault {word} is none: write drop=0.1 or corrupt=0.1, a share of the messages, "
                "restart=50, images after which the sender begins anew, or other=50, images after "
                "which some of another detector come"
            )
        found[kind] = number
    return Faults(
        found.get("drop", 0.0),
        found.get("corrupt", 0.0),
        int(found.get("restart", 0)),
        int(found.get("other", 0)),
    )


def segments(
    run: FrameSource, faults: Faults, n_before: int = 0
) -> Iterator[tuple[FrameSource, bool]]:
    """Yield the run in pieces, and images of another detector between them.

    Each comes with whether the sender begins anew behind it. So many images were played before,
    as a run that is played again and again goes on counting.
    """
    n, first = len(run), 0
    steps = [step for step in (faults.restart, faults.other) if step]
    while first < n:
        stop = min([n, *(step * ((n_before + first) // step + 1) - n_before for step in steps)])
        played = n_before + stop
        restarts = bool(faults.restart) and played % faults.restart == 0
        yield _Piece(run, range(first, stop)), restarts
        if faults.other and played % faults.other == 0:
            yield _Piece(run, range(min(OTHERS, n)), run.geometry.slab_shape[0] // 2), False
        first = stop


def damaged(
    messages: Iterable[list[bytes]], faults: Faults, rng: random.Random
) -> Iterator[list[bytes]]:
    """Yield messages without those that get lost, and with wrong bytes in some."""
    for message in messages:
        if rng.random() < faults.drop:
            continue
        yield [_torn(part, rng) for part in message] if rng.random() < faults.corrupt else message


def _torn(part: bytes, rng: random.Random) -> bytes:
    """Return a part that is cut short, behind some wrong bytes at its beginning."""
    kept = part[: rng.randrange(len(part) + 1)]
    return rng.randbytes(min(4, len(kept))) + kept[4:]


class _Piece(FrameSource):
    """Some frames of a run, perhaps only their first rows."""

    def __init__(self, run: FrameSource, indices: Sequence[int], n_rows: int | None = None) -> None:
        self._run, self._indices = run, indices
        n_all, n_columns = run.geometry.slab_shape
        self._rows = slice(0, n_rows or n_all)
        self.geometry = replace(run.geometry, slab_shape=(n_rows or n_all, n_columns))

    @property
    def n_frames(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Frame:
        frame = self._run[self._indices[index]]
        return replace(frame, data=frame.data[self._rows], mask=frame.mask[self._rows])

    def name(self, index: int) -> tuple[str, str]:
        return self._run.name(self._indices[index])

    def close(self) -> None:
        self._run.close()

    def static_mask(self, index: int) -> Mask:
        return self._run.static_mask(self._indices[index])[self._rows]
