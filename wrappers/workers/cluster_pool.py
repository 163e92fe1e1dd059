"""Workers of a Dask cluster that hold the frames of a sample."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar, cast

from distributed import Client, KilledWorker, WorkerPlugin, get_worker, wait

from wrappers.errors import ProgramError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Done, Indexer, Indexing, Pattern, unheard
from wrappers.lattices.own_peaks import FrameLattices, FrameSplit
from wrappers.peakfinding.finders import NamedFinder
from wrappers.peakfinding.peak_batch import Finders, FrameCounts, FramePeaks
from wrappers.settings import Settings
from wrappers.workers.frame_worker import FrameWorker
from wrappers.workers.pool import KILLED
from wrappers.workers.processor_time import processor_seconds

__all__ = ["ClusterPool"]

ITEMS_PER_TASK = 8
"""Frames of one task: what a lost worker costs at most, beside reading its frames anew."""

COME_BACK = 60.0
"""Seconds in which lost workers may be replaced before the cluster counts as lost."""

STALL = 5.0
"""Seconds without any result after which it is checked whether anybody works on them."""

R = TypeVar("R")


class ClusterPool:
    """Finds peaks and indexes on the workers of a Dask cluster; a `pool.Pool`.

    A frame goes to the worker that read it before. Where a worker is lost, or busy, another
    takes its tasks; workers that join later are used as well. Whatever kills several workers
    one after the other goes without an answer.

    Parameters
    ----------
    client : distributed.Client
        Every worker must be able to read the run's files.
    run : FrameSource
    indexer : Indexer or None
        Pickled to the workers. One that uses several cores by itself should be made for as
        many as a worker has.
    memory : int
        Bytes that each worker may take to keep frames ready for further settings.
    """

    def __init__(
        self, client: Client, run: FrameSource, indexer: Indexer | None, memory: int
    ) -> None:
        self._client = client
        self._name = f"sfx-tuner-{uuid.uuid4().hex}"
        self._home: dict[int, int] = {}
        self._remote_seconds = 0.0
        client.register_plugin(
            _Holder(self._name, (run, NamedFinder(run.geometry), indexer, memory)), self._name
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers forget the sample; they stay for others."""
        if self._client.status == "running":
            self._client.unregister_worker_plugin(self._name)

    def core_seconds(self) -> float:
        """Return the processor time of this process and of all tasks that gave an answer."""
        return processor_seconds() + self._remote_seconds

    def search(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FramePeaks]:
        """Return, by frame, the peaks for each parameter set, or why there are none.

        Raises
        ------
        ProgramError
            If the cluster has no workers left.
        """
        for frame in frames:
            self._home.setdefault(frame, len(self._home))
        answers = self._run(_search, self._shares(frames), settings)
        return {frame: answers[frame] or FramePeaks(frame, (), KILLED) for frame in frames}

    def count(self, frames: Sequence[int], settings: Sequence[Settings]) -> dict[int, FrameCounts]:
        """Return, by frame, the number of peaks for each parameter set; none is kept for it.

        Raises
        ------
        ProgramError
            If the cluster has no workers left.
        """
        answers = self._run(_count, self._shares(frames), settings)
        return {frame: answers[frame] or FrameCounts(frame, None, KILLED) for frame in frames}

    def split(
        self, lattices: Sequence[FrameLattices], settings: Sequence[Settings]
    ) -> dict[int, FrameSplit]:
        """Return, by frame, how many of the peaks of each parameter set are on its lattices.

        Raises
        ------
        ProgramError
            If the cluster has no workers left.
        """
        items = {each.frame: each for each in lattices}
        answers = self._run(_split, self._shares([*items]), settings, items)
        return {frame: answers[frame] or FrameSplit(frame, None, KILLED) for frame in items}

    def _shares(self, frames: Sequence[int]) -> dict[str, list[int]]:
        """Return the frames by worker: that which holds them, if any does."""
        workers = self._workers()
        shares: dict[str, list[int]] = {}
        for number, frame in enumerate(frames):
            home = self._home.get(frame, number)
            shares.setdefault(workers[home % len(workers)], []).append(frame)
        return shares

    def index(
        self, patterns: Sequence[Pattern], done: Done = unheard, indexer: Indexer | None = None
    ) -> list[Indexing]:
        """Index the patterns, in order, with another indexer than the pool's if one is given.

        Raises
        ------
        ProgramError
            If the indexer cannot be run at all, or the cluster has no workers left.
        """
        workers = self._workers()
        shares: dict[str, list[int]] = {}
        for number in range(len(patterns)):
            shares.setdefault(workers[number % len(workers)], []).append(number)
        answers = self._run(_index, shares, indexer, dict(enumerate(patterns)), done)
        return [answers[i] or Indexing(failure=KILLED) for i in range(len(patterns))]

    def _workers(self) -> list[str]:
        try:
            self._client.wait_for_workers(1, timeout=COME_BACK)
        except TimeoutError as error:
            raise ProgramError(
                "the cluster has no workers left: start some, then go on with --resume"
            ) from error
        return list(self._client.scheduler_info(n_workers=-1)["workers"])

    def _run(
        self,
        task: Callable[..., tuple[list[R], float]],
        shares: dict[str, list[int]],
        how: Sequence[Settings] | Indexer | None,
        things: Mapping[int, Any] | None = None,
        done: Done = unheard,
    ) -> dict[int, R | None]:
        """Run a task on the items of each worker's share; None stands for what kills workers.

        The items are numbers; where they stand for other `things`, the task is given these. `how`
        is handed to the task beside them.
        """

        def submit(items: list[int], worker: str | None) -> Any:
            what = items if things is None else [things[i] for i in items]
            return self._client.submit(
                task,
                self._name,
                what,
                how,
                workers=None if worker is None else [worker],
                allow_other_workers=worker is not None,
                pure=False,
            )

        pending = {
            submit(items, worker): items
            for worker, share in shares.items()
            for items in _chunks(share)
        }
        answers: dict[int, R | None] = {}
        # Dask blames all that was given to a worker that dies: of several, each is tried alone.
        suspects: list[int] = []
        alone, found_guilty = -1, False
        while pending or suspects:
            if not pending:
                alone = suspects.pop()
                if suspects or found_guilty:
                    pending = {submit([alone], None): [alone]}
                else:
                    answers[alone] = None
                continue
            try:
                ended = wait(list(pending), timeout=STALL, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                if not any(self._client.processing().values()):
                    # When all workers die at once, Dask may never come back to what they did.
                    self._workers()
                    pending = {submit(items, None): items for items in pending.values()}
                continue
            for future in ended:
                items = pending.pop(future)
                try:
                    found, seconds = future.result(timeout=STALL)
                except TimeoutError:
                    pending[submit(items, None)] = items
                except KilledWorker:
                    if items == [alone]:
                        answers[alone], found_guilty = None, True
                    elif len(items) == 1:
                        suspects += items
                    else:
                        pending.update((submit([item], None), [item]) for item in items)
                else:
                    self._remote_seconds += seconds
                    answers.update(zip(items, found, strict=True))
            done(len(answers))
        return answers


def _chunks(items: list[int]) -> list[list[int]]:
    return [items[i : i + ITEMS_PER_TASK] for i in range(0, len(items), ITEMS_PER_TASK)]


class _Holder(WorkerPlugin):
    """What a worker holds of one pool."""

    idempotent = True

    def __init__(
        self, name: str, arguments: tuple[FrameSource, Finders, Indexer | None, int]
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._worker: FrameWorker | None = None
        self._lock: threading.Lock | None = None

    def setup(self, worker: object) -> None:
        self._lock = threading.Lock()

    def teardown(self, worker: object) -> None:
        _, _, indexer, _ = self._arguments
        if indexer is not None:
            indexer.close()

    def run(self, do: Callable[[FrameWorker], R]) -> tuple[R, float]:
        """Do something with the frames that are held; return its result and its cost."""
        assert self._lock is not None, "Dask calls setup first"
        # An indexer serves one thread at a time, and so does the clock.
        with self._lock:
            before = processor_seconds()
            if self._worker is None:
                self._worker = FrameWorker(*self._arguments)
            result = do(self._worker)
            return result, processor_seconds() - before


def _search(
    name: str, frames: Sequence[int], settings: Sequence[Settings]
) -> tuple[list[FramePeaks], float]:
    return _holder(name).run(lambda worker: worker.search(frames, settings))


def _count(
    name: str, frames: Sequence[int], settings: Sequence[Settings]
) -> tuple[list[FrameCounts], float]:
    return _holder(name).run(lambda worker: worker.count(frames, settings))


def _split(
    name: str, lattices: Sequence[FrameLattices], settings: Sequence[Settings]
) -> tuple[list[FrameSplit], float]:
    return _holder(name).run(lambda worker: worker.split(lattices, settings))


def _index(
    name: str, patterns: Sequence[Pattern], indexer: Indexer | None
) -> tuple[list[Indexing], float]:
    return _holder(name).run(lambda worker: worker.index(patterns, indexer=indexer))


def _holder(name: str) -> _Holder:
    return cast(_Holder, get_worker().plugins[name])
