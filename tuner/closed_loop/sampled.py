"""Some of a block's frames, indexed while others are still searched.

Indexing takes longer than the search, and the sender does not wait: so each frame that is drawn
is indexed at once, in a thread of its own, and the end of a block only waits for the last ones.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from tuner.closed_loop.events import Pairs
from tuner.closed_loop.evidence import CLEN_OFF, PIXELS_OFF
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.frames.frame import Frame
from wrappers.indexing import Indexer, Indexing, Pattern
from wrappers.lattices.geometry_refinement import fit_frame
from wrappers.reduction.placed import Placed

__all__ = ["BlockSample", "Sampled"]

HEARD = 3
"""Standard errors of a frame that go into what the detector may be off: others are not heard."""
BATCH = 16
"""Patterns that an indexer of several processes is given at once."""


@dataclass(frozen=True)
class Sampled:
    """What became of the frames that were drawn.

    Attributes
    ----------
    n, n_indexed : int
        Frames, and those that index with the set in force.
    n_placed, n_elsewhere : int
        Indexed frames whose lattices tell where the detector is, and those that put it elsewhere
        than the set does.
    pairs : Pairs
        The frames, with the set in force and with another one; of none where there is no other.
    """

    n: int = 0
    n_indexed: int = 0
    n_placed: int = 0
    n_elsewhere: int = 0
    pairs: Pairs = Pairs()  # noqa: RUF009 (frozen)


class BlockSample:
    """Draws frames of a block, and indexes those that are hits; used as a context manager.

    Parameters
    ----------
    indexer : Indexer
    geometry : Geometry
    cell : Cell
    share : float
        Chance of each frame to be drawn.
    most : int
        Frames that are drawn.
    jobs : int
        Threads, where the indexer has no processes of its own.
    seed : int
    other : callable, optional
        What another set makes of a frame; frames that are drawn are indexed with it, too.
    """

    def __init__(
        self,
        indexer: Indexer,
        geometry: Geometry,
        cell: Cell,
        *,
        share: float,
        most: int,
        jobs: int,
        seed: int,
        other: Callable[[Frame], Placed] | None = None,
    ) -> None:
        self._indexer, self._geometry, self._cell = indexer, geometry, cell
        self._share, self._left, self._other = share, most, other
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._batch = BATCH if indexer.parallel else 1
        self._pool = ThreadPoolExecutor(1 if indexer.parallel else jobs)
        self._waiting: list[_Drawn] = []
        self._asked: list[Future[Sampled]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def beside(self, frame: Frame) -> Placed | None:
        """Return what the other set makes of a frame, if it is drawn; in any thread."""
        return self._other(frame) if self._other is not None and self._is_drawn() else None

    def add(self, placed: Placed) -> None:
        """Take a frame that was searched."""
        if self._other is None and self._is_drawn():
            self._ask(_hit(placed), None)
        elif placed.beside is not None:
            self._ask(_hit(placed), _hit(placed.beside))

    def result(self) -> Sampled:
        """Wait for the last frames, and return what became of all.

        Raises
        ------
        ProgramError
            If the indexer cannot be run.
        """
        self._hand_over()
        total = Sampled()
        for part in self._asked:
            total = _sum(total, part.result())
        return total

    def _is_drawn(self) -> bool:
        with self._lock:
            is_drawn = self._left > 0 and self._random.random() < self._share
            self._left -= is_drawn
            return is_drawn

    def _ask(self, now: Pattern | None, other: Pattern | None) -> None:
        self._waiting.append((now, other))
        if len(self._waiting) >= self._batch:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._asked.append(self._pool.submit(self._indexed, self._waiting))
            self._waiting = []

    def _indexed(self, drawn: list[_Drawn]) -> Sampled:
        patterns = [each for pair in drawn for each in pair if each is not None]
        answers = dict(zip(map(id, patterns), self._indexer.index(patterns), strict=True))
        total = Sampled()
        for now, other in drawn:
            answer = None if now is None else answers[id(now)]
            is_indexed = answer is not None and answer.indexed
            placed, elsewhere = False, False
            if self._other is not None:
                with_other = other is not None and answers[id(other)].indexed
                pairs = Pairs(
                    1,
                    is_indexed and not with_other,
                    with_other and not is_indexed,
                    is_indexed and with_other,
                )
            else:
                pairs = Pairs()
                if now is not None and answer is not None and answer.indexed:
                    placed, elsewhere = self._place(now, answer)
            total = _sum(total, Sampled(1, is_indexed, placed, elsewhere, pairs))
        return total

    def _place(self, pattern: Pattern, answer: Indexing) -> tuple[bool, bool]:
        """Return whether a frame tells where the detector is, and whether that is elsewhere."""
        fit = fit_frame(pattern, answer.lattices[0], self._geometry, self._cell)
        if fit is None:
            return False, False
        tried = (pattern.camera_length, pattern.shift_x, pattern.shift_y)
        most = PIXELS_OFF / self._geometry.panels[0].res
        limits = (CLEN_OFF * pattern.camera_length, most, most)
        errors = fit.standard_errors
        if not all(HEARD * error < limit for error, limit in zip(errors, limits, strict=True)):
            return False, False
        length, x, y = (float(now - then) for now, then in zip(fit.geometry, tried, strict=True))
        return True, abs(length) > limits[0] or math.hypot(x, y) > most


_Drawn = tuple[Pattern | None, Pattern | None]
"""What the set in force finds in a frame, and the other one; None where that is no hit."""


def _hit(placed: Placed) -> Pattern | None:
    return placed.pattern if placed.is_hit else None


def _sum(one: Sampled, other: Sampled) -> Sampled:
    return Sampled(
        one.n + other.n,
        one.n_indexed + other.n_indexed,
        one.n_placed + other.n_placed,
        one.n_elsewhere + other.n_elsewhere,
        one.pairs + other.pairs,
    )
