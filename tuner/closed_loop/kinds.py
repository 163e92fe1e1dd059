"""The kinds of a night's frames: some of each block are told, and a kind that rises is said.

The kinds are those of the session whose set came into force first: what is usual is what was so
then. Of each block about `N_TOLD` frames are told, evenly spread, for telling one takes as long as
searching several.

A kind has become more frequent where two shares, one before and one behind the likeliest block,
are likelier than one (`tuner.apply.kind_drift.rise`). That is asked after each block, so the chance
of a false word is shared out among the blocks: the j-th has 6/(pi j)^2 of it, and all together have
1 %. Frames of a block are taken to be independent of each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tuner.apply.by_kind import KINDS_FILE
from tuner.apply.kind_drift import CHANCE, WORDS, KindAlarm, rise
from tuner.apply.kind_shares import Counted, kind_shares
from tuner.closed_loop.events import Block, Rose
from wrappers.detector.geometry import Geometry
from wrappers.frame_kinds import KINDS, FrameKinds, KindTeller, Told
from wrappers.frames.frame import Frame

__all__ = ["N_TOLD", "kind_rows", "risen", "rose_words", "some_told", "teller_of"]

N_TOLD = 50
"""Frames of a block whose kinds are told, about."""
LAST = 10
"""Blocks whose shares are shown beside those of all."""


def teller_of(session: Path, geometry: Geometry) -> KindTeller | None:
    """Return what tells frames by a session's kinds; None where it has none.

    Raises
    ------
    InputError
        If they cannot be read, or are of another detector.
    """
    file = session / KINDS_FILE
    return KindTeller(FrameKinds.read(file), geometry) if file.exists() else None


def some_told(teller: KindTeller, n_frames: float) -> Callable[[Frame], Told | None]:
    """Return what tells the kinds of about `N_TOLD` of so many frames, in any thread."""
    step, number = max(int(n_frames / N_TOLD), 1), itertools.count()
    return lambda frame: None if next(number) % step else teller.tell(frame)


def risen(blocks: Sequence[Block], since: Mapping[str, int]) -> Rose | None:
    """Return a kind that has become more frequent, or None.

    Parameters
    ----------
    blocks : sequence of Block
        With beam, and with frames whose kinds were told.
    since : mapping of str to int
        By kind the frame since which it has been more frequent, as is known.
    """
    chance = CHANCE * 6 / (math.pi * max(len(blocks), 1)) ** 2
    for kind in WORDS:
        own = [block for block in blocks if block.first >= since.get(kind, 0)]
        if not own:
            continue
        k = np.array([block.kinds.get(kind, 0) for block in own])
        n = np.array([sum(block.kinds.values()) for block in own])
        found = rise(kind, [block.first for block in own], k, n, chance)
        if found is not None:
            return Rose(kind, found.since, found.k, found.n, found.before)
    return None


def rose_words(event: Rose) -> str:
    """Return it as a sentence."""
    return str(KindAlarm(event.of, event.since, event.k, event.n, event.before))


def kind_rows(blocks: Sequence[Block]) -> list[tuple[str, Counted, Counted]]:
    """Return how frequent each kind is: in all blocks, and in the last that were told."""
    told = [block.kinds for block in blocks if block.kinds]
    in_all, in_last = (
        kind_shares({name: sum(each.get(name, 0) for each in some) for name in KINDS})
        for some in (told, told[-LAST:])
    )
    return [(name, in_all[name], in_last[name]) for name in KINDS if in_all[name].k]
