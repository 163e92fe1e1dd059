"""CrystFEL as an indexer that stays between calls."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from wrappers.cell import Cell
from wrappers.crystfel.indexamajig import CrystfelProgram
from wrappers.crystfel.indexer import (
    CrystfelIndexer,
    cores,
    indexing_of,
    require_possible,
)
from wrappers.crystfel.options import choose_method, require_program
from wrappers.crystfel.server import CrystfelServer, Served, can_serve
from wrappers.crystfel.supervision import temporary_files_needed
from wrappers.crystfel.time_limit import TimeLimit
from wrappers.detector.geometry import Geometry
from wrappers.indexing import Done, Indexing, Pattern, counting_on, unheard

__all__ = ["PersistentCrystfelIndexer"]

FRAMES_PER_LIFE = 20_000
"""Frames a worker does before the program is started anew: it loses some 10 kB of memory on each
(measured: 5 MB in 240 frames)."""


class PersistentCrystfelIndexer:
    """Gives the answers of a `CrystfelIndexer` without starting the program for each batch.

    The program is started by the first call and again after it died or ran out of time. Where
    the version cannot be served so, or does nothing that way, each call goes by files.

    Parameters
    ----------
    geometry : Geometry
    cell : Cell
    program, method, effort, options, jobs, timeout
        As for `CrystfelIndexer`.

    Attributes
    ----------
    persistent : bool
        Whether the program stays between calls.

    Raises
    ------
    ProgramError
        If there is no CrystFEL, or it cannot do this.

    Notes
    -----
    One thread at a time. Close it, or use it as a context manager, to end the program; it also
    ends with this process, however that ends. Pickled, it becomes an indexer that has not
    started its program yet.

    Examples
    --------
    >>> with PersistentCrystfelIndexer(geometry, cell) as indexer:  # doctest: +SKIP
    ...     answers = indexer.index(patterns)
    """

    def __init__(
        self,
        geometry: Geometry,
        cell: Cell,
        *,
        program: str | CrystfelProgram | None = None,
        method: str | None = None,
        effort: str = "normal",
        options: Sequence[str] | None = None,
        jobs: int | None = None,
        timeout: float | None = None,
    ) -> None:
        found = require_program(program)
        self._method = choose_method(found, cell, method, effort=effort, options=options)
        self._by_files = CrystfelIndexer(
            geometry,
            cell,
            program=found,
            method=method,
            effort=effort,
            options=options,
            jobs=jobs,
            timeout=timeout,
        )
        self._geometry, self._cell, self._program = geometry, cell, found
        self._jobs, self._timeout = jobs or cores(), timeout
        self._server: CrystfelServer | None = None
        self.persistent = can_serve(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_server": None}

    def close(self) -> None:
        """End the program; the next call would start it again."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    @property
    def name(self) -> str:
        """Program, version and method."""
        return self._by_files.name

    @property
    def parallel(self) -> bool:
        """The program spreads the frames over processes by itself."""
        return True

    def index(self, patterns: Sequence[Pattern], done: Done = unheard) -> list[Indexing]:
        """Index each pattern; the answers come in the patterns' order.

        A pattern without peaks is not sent to the program. A frame that the program lost, or
        did not come to before its time was over, is answered by a failure.

        Raises
        ------
        InputError
            If a camera length or photon energy is not above 0: CrystFEL takes them silently.
        ProgramError
            If the program did not do a single frame.
        """
        if not self.persistent:
            return self._by_files.index(patterns, done)
        require_possible(patterns)
        answers = [Indexing() for _ in patterns]
        left = [number for number, pattern in enumerate(patterns) if len(pattern.peaks)]
        seconds = self._timeout or self._method.time_limit(len(left), self._jobs)
        limit = TimeLimit(seconds, self._jobs)
        try:
            while left:
                told = counting_on(done, len(patterns) - len(left))
                served = self._serve([patterns[i] for i in left], limit, told)
                for position, chunk in served.chunks.items():
                    answers[left[position]] = indexing_of(chunk)
                out_of_time = limit.is_over
                if not served.chunks and not out_of_time:
                    # Then files do better, or say what is wrong.
                    by_files = self._by_files.index([patterns[i] for i in left], told)
                    self.persistent = all(answer.failure for answer in by_files)
                    for number, answer in zip(left, by_files, strict=True):
                        answers[number] = answer
                    break
                lost = dict(served.lost)
                if out_of_time:
                    lost |= dict.fromkeys(served.untouched, f"ran out of {limit}")
                for position, reason in lost.items():
                    answers[left[position]] = Indexing(
                        failure=f"indexamajig {reason}", out_of_time=out_of_time
                    )
                left = [] if out_of_time else [left[position] for position in served.untouched]
        except BaseException:
            # Whatever frames are under way must not answer the next call's.
            self.close()
            raise
        return answers

    def _serve(self, patterns: list[Pattern], limit: TimeLimit, done: Done) -> Served:
        """Hand the patterns to the program, which is started if need be."""
        if self._server is None:
            with temporary_files_needed():
                self._server = CrystfelServer(
                    self._program, self._method, self._geometry, self._cell, self._jobs
                )
        served = self._server.index(patterns, limit, done)
        old = self._server.n_frames > FRAMES_PER_LIFE * self._jobs
        if old or not self._server.running or limit.is_over:
            self.close()
        return served
