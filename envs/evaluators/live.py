"""Evaluations on real frames: peak finding and indexing, as CrystFEL would."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.evaluation import Evaluation, FrameOutcome
from envs.evaluators.found_peaks import REMEMBERED, FoundPeaks, search_key
from envs.look import FrameLook, LatticeCounts, take_look
from envs.strata import Sample, weights
from wrappers.cell import Cell
from wrappers.errors import ProgramError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer, Indexing, Pattern, counting_on
from wrappers.indexing_cache import CachedIndexer
from wrappers.lattices.decoys import make_decoy
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.lattices.geometry_refinement import GeometryEstimate, estimate_geometry
from wrappers.lattices.own_peaks import FrameLattices
from wrappers.peakfinding.peak_batch import FrameCounts
from wrappers.settings import Settings
from wrappers.workers.opening import open_pool
from wrappers.workers.pool import Pool

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["LiveEvaluator"]


class LiveEvaluator:
    """Evaluates settings on real frames: finds the peaks, indexes the hits.

    Peaks are found by worker processes that keep their frames; what depends on neither the
    changed settings nor the changed peaks is not done again. A frame whose peak list and
    geometry were seen before is never indexed twice.

    Parameters
    ----------
    run : FrameSource
    cell : Cell
    indexer : Indexer
    frames : sequence of int, or Sample
        The sample: indices in the run, in random order, or drawn by strata.
    jobs : int
        Worker processes; with 1 everything runs in this process.
    max_decoys : int
        Hits per evaluation whose scrambled peak lists are indexed too.
    memory : int
        Bytes that may be taken, by each machine, to keep frames ready for further settings.
    cache : path, optional
        Folder in which lattices are kept, for further evaluators of the same run.
    cluster : distributed.Client, optional
        Its workers do the work instead of processes of this machine.
    finder : str
        The peak finder whose kernels are made ready before processes start.
    pool : Pool, optional
        Does the work; it is of the run and the indexer, and others may use it, too. Whoever opened
        it closes it.
    progress : callable
        Called with the frames and decoys of an evaluation that are done, and with the number of
        decoys and all frames of the sample.

    Notes
    -----
    Close it, or use it as a context manager, to end the worker processes.
    """

    def __init__(
        self,
        run: FrameSource,
        cell: Cell,
        indexer: Indexer,
        frames: Sequence[int] | Sample,
        *,
        jobs: int = 1,
        max_decoys: int = 50,
        memory: int = 2 << 30,
        cache: str | os.PathLike[str] | None = None,
        cluster: Client | None = None,
        finder: str = Settings.peak_finder,
        pool: Pool | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._run, self._geometry, self._cell = run, run.geometry, cell
        drawn = frames if isinstance(frames, Sample) else Sample(tuple(frames))
        self._frames, self._sizes = drawn.frames, drawn.sizes
        self._stratum = dict(zip(drawn.frames, drawn.strata, strict=False))
        self._max_decoys = max_decoys
        self._progress = progress
        self._owns_pool = pool is None
        self._pool = pool or open_pool(run, indexer, self._frames, jobs, memory, cluster, finder)
        self._cache = cache
        pooled = _PooledIndexer(indexer, self._pool.index)
        self._indexer = CachedIndexer(pooled, cache, run.geometry, cell)
        self._is_embedded = isinstance(indexer, FastIndexer)
        self._found = FoundPeaks()
        self._looks: dict[tuple[Settings, ...], FrameLook] = {}
        self._owed = 0.0, 0.0

    def __enter__(self) -> LiveEvaluator:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def forget(self) -> None:
        """Drop what is remembered of earlier evaluations, to bound the memory."""
        self._found.forget()
        self._looks.clear()
        self._indexer.forget()
        self._embedded.forget()

    def close(self) -> None:
        """End the worker processes."""
        if self._owns_pool:
            self._pool.close()

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        return len(self._frames)

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what the settings give on the first `n_frames` frames of the sample, or all.

        It is charged with what was spent on looks and on lattices' counts since the last one.

        Raises
        ------
        ProgramError
            If the indexer cannot be run at all, or not one of the frames can be read.
        """
        evaluation = self.inspect(settings, self._frames[:n_frames])[0]
        seconds, core_seconds = self._owed
        self._owed = 0.0, 0.0
        evaluation = evaluation.with_cost(
            evaluation.seconds + seconds, evaluation.core_seconds + core_seconds
        )
        if evaluation.unreadable:
            # A disk that has gone says nothing about the settings.
            raise ProgramError(
                f"none of the {evaluation.n_frames} frames can be read: "
                f"{evaluation.outcomes[0].failure}"
            )
        return evaluation

    def evaluate_all(self, settings: Sequence[Settings]) -> Iterator[Evaluation]:
        """Yield what `evaluate` returns for each, as they are done."""
        return (evaluation for evaluation, _, _ in self.inspect_all(settings))

    def inspect_all(
        self, settings: Sequence[Settings]
    ) -> Iterator[tuple[Evaluation, dict[int, Pattern], dict[int, Indexing]]]:
        """Yield what `inspect` returns for each, as they are done.

        Each frame is searched with many of the settings in one go before any of them is indexed.
        What that takes is shared equally: the first settings of each search is charged with it.
        """
        for first in range(0, len(settings), REMEMBERED):
            several = settings[first : first + REMEMBERED]
            started, cores_before = time.perf_counter(), self._pool.core_seconds()
            self._found.add(self._pool.search(*self._found.missing(self._frames, several)))
            spent = (
                time.perf_counter() - started,
                self._pool.core_seconds() - cores_before,
            )
            owed = dict.fromkeys(map(search_key, several), spent)
            n_searches = len(owed)
            for each in several:
                evaluation, patterns, answers = self.inspect(each)
                seconds, core_seconds = owed.pop(search_key(each), (0.0, 0.0))
                evaluation = evaluation.with_cost(
                    evaluation.seconds + seconds / n_searches,
                    evaluation.core_seconds + core_seconds / n_searches,
                )
                yield evaluation, patterns, answers

    def inspect(
        self,
        settings: Settings,
        frames: Sequence[int] | None = None,
        max_decoys: int | None = None,
    ) -> tuple[Evaluation, dict[int, Pattern], dict[int, Indexing]]:
        """Return the evaluation with the peaks (by frame) and the lattices (by hit) behind it.

        Other `frames` than the sample's may be asked for, and another number of decoys; rates are
        weighted where all of them are of a sample that was drawn by strata.
        """
        frames = self._frames if frames is None else tuple(frames)
        started, cores_before = time.perf_counter(), self._pool.core_seconds()
        found, patterns, hits = self._search(settings, frames)
        # The first hits, not an even choice: further frames then add decoys and change none.
        chosen = list(hits)[: self._max_decoys if max_decoys is None else max_decoys]
        made = [make_decoy(hits[i], self._geometry, self._cell, seed=i) for i in chosen]
        total = len(self._frames) + len(made)
        told = counting_on(lambda n: self._progress(n, total), len(frames) - len(hits))
        # The hits come first, so that they have an answer if the indexer runs out of time.
        found_in = self._indexer.index([*hits.values(), *made], told)
        answers = dict(zip(hits, found_in[: len(hits)], strict=True))
        decoys = [answer for answer in found_in[len(hits) :] if not answer.failure]
        estimate = estimate_geometry(
            list(hits.values()), [answers[frame] for frame in hits], self._geometry, self._cell
        )
        evaluation = Evaluation(
            settings=settings,
            outcomes=tuple(
                replace(_outcome(i, found[i], answers.get(i)), stratum=self._stratum.get(i, 0))
                for i in frames
            ),
            stratum_sizes=self._sizes if self._stratum.keys() >= {*frames} else (),
            n_decoys=len(decoys),
            n_decoys_indexed=sum(answer.indexed for answer in decoys),
            n_cut=sum(answer.out_of_time for answer in found_in),
            **self._diagnostics(estimate, settings, list(hits)),
            seconds=time.perf_counter() - started,
            core_seconds=self._pool.core_seconds() - cores_before,
        )
        return evaluation, patterns, answers

    def _search(
        self, settings: Settings, frames: Sequence[int]
    ) -> tuple[dict[int, Pattern | str], dict[int, Pattern], dict[int, Pattern]]:
        """Return what was found in frames, the peaks where the settings put them, and the hits."""
        self._found.add(self._pool.search(*self._found.missing(frames, [settings])))
        found = self._found.of(frames, settings)
        patterns = {
            frame: pattern.placed(settings, self._run.nominal_clen)
            for frame, pattern in found.items()
            if isinstance(pattern, Pattern)
        }
        hits = {
            frame: pattern
            for frame, pattern in patterns.items()
            if len(pattern.peaks) >= settings.min_peaks
        }
        return found, patterns, hits

    def peaks(self, frames: Sequence[int], settings: Settings) -> dict[int, Pattern]:
        """Return the peaks of frames that can be read, where the settings put the detector."""
        return self._search(settings, frames)[1]

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        """Return, by frame of the run, the number of peaks for each parameter set."""
        return self._pool.count(frames, settings)

    def look(self, settings: Sequence[Settings]) -> FrameLook:
        """Return the peak counts of the sample with a design; they are remembered."""
        design = tuple(settings)
        if design not in self._looks:
            with self._on_account():
                look = take_look(self, self._frames, design, progress=self._progress)
            strata = [self._stratum.get(frame, 0) for frame in self._frames]
            stands_for = weights(strata, self._sizes) if self._sizes else ()
            self._looks[design] = replace(look, weights=tuple(stands_for))
        return self._looks[design]

    @contextmanager
    def _on_account(self) -> Iterator[None]:
        """Charge the next evaluation with what is spent meanwhile."""
        started, cores_before = time.perf_counter(), self._pool.core_seconds()
        yield
        seconds, core_seconds = self._owed
        self._owed = (
            seconds + time.perf_counter() - started,
            core_seconds + self._pool.core_seconds() - cores_before,
        )

    @property
    def embedded(self) -> bool:
        """Whether it indexes with the embedded indexer, so that its lattices are evaluations."""
        return self._is_embedded

    @property
    def primitive_volume(self) -> float:
        """Of the cell whose lattices are sought, in Å³."""
        return self._cell.primitive_volume

    def lattice_counts(
        self, measured: Settings, settings: Sequence[Settings], frames: Sequence[int] | None = None
    ) -> LatticeCounts:
        """Return how many peaks of each set are on the lattices that `measured` leads to.

        The lattices are those that the embedded indexer finds in the hits of `measured`, whichever
        indexer this evaluator has; they are looked up where they were found before.

        Parameters
        ----------
        measured : Settings
        settings : sequence of Settings
        frames : sequence of int, optional
            Only these frames of the run, instead of the sample's.
        """
        with self._on_account():
            _, _, hits = self._search(measured, self._frames if frames is None else frames)
            answers = self._embedded.index([*hits.values()])
            known = [
                FrameLattices.of(frame, pattern, answer.lattices, self._cell)
                for (frame, pattern), answer in zip(hits.items(), answers, strict=True)
                if answer.indexed
            ]
            found = {
                frame: split.peaks
                for frame, split in self._pool.split(known, settings).items()
                if split.peaks is not None
            }
        peaks = np.array([*found.values()], np.uint16).reshape(len(found), len(settings), 2)
        return LatticeCounts(tuple(found), peaks[..., 0], peaks[..., 1])

    @cached_property
    def _embedded(self) -> CachedIndexer:
        """What has the embedded indexer's answers: this evaluator's own, or one beside it."""
        if self._is_embedded:
            return self._indexer
        indexer = FastIndexer(self._geometry, self._cell)
        pooled = _PooledIndexer(indexer, partial(self._pool.index, indexer=indexer))
        return CachedIndexer(pooled, self._cache, self._geometry, self._cell)

    def _diagnostics(
        self, estimate: GeometryEstimate | None, settings: Settings, hits: Sequence[int]
    ) -> dict[str, Any]:
        if estimate is None:
            return {}
        tried = settings.clen or self._run.nominal_clen
        return {
            "explained": estimate.explained,
            "residual": estimate.residual_px,
            "scale_deviation": estimate.scale_deviation,
            "refined": {
                "clen": (tried + estimate.camera_length_change, estimate.camera_length_se),
                "shift_x": (estimate.shift_x, estimate.shift_x_se),
                "shift_y": (estimate.shift_y, estimate.shift_y_se),
            },
            "frame_clens": tuple(
                (hits[place], _short(tried + change), _short(error))
                for place, change, error in estimate.frame_changes
            ),
        }


class _PooledIndexer:
    """An indexer that does its work in a pool."""

    parallel = True

    def __init__(self, indexer: Indexer, index: Callable[..., list[Indexing]]) -> None:
        self.name = indexer.name
        self.index = index

    def close(self) -> None:
        """Do nothing: the pool is closed by itself."""


def _outcome(frame: int, found: Pattern | str, answer: Indexing | None) -> FrameOutcome:
    if isinstance(found, str):
        return FrameOutcome(frame, 0, False, 0, found)
    n_peaks = len(found.peaks)
    if answer is None:
        return FrameOutcome(frame, n_peaks, False, 0)
    return FrameOutcome(frame, n_peaks, True, len(answer.lattices), answer.failure)


def _short(length: float) -> float:
    # To nanometres: a session keeps one for every frame of every evaluation.
    return round(length, 9)
