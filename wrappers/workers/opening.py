"""The one door to a pool: processes of this machine, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer
from wrappers.settings import Settings
from wrappers.workers.frame_pool import FramePool
from wrappers.workers.kernels import compile_kernels
from wrappers.workers.pool import Pool

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["open_pool"]


def open_pool(
    run: FrameSource,
    indexer: Indexer | None,
    frames: Sequence[int],
    jobs: int,
    memory: int,
    cluster: Client | None = None,
    finder: str = Settings.peak_finder,
) -> Pool:
    """Start what finds peaks in some frames of a run and indexes them.

    Parameters
    ----------
    run : FrameSource
    indexer : Indexer or None
        None where only peaks are wanted.
    frames : sequence of int
        Those that will be asked for: there are no more processes than frames.
    jobs : int
        Processes of this machine.
    memory : int
        Bytes that may be taken, by each machine, to keep frames ready for further settings.
    cluster : distributed.Client, optional
        Its workers do the work instead.
    finder : str
        The peak finder that will be asked for: its kernels are compiled here.
    """
    if cluster is not None:
        # Imported when needed: it is an extra.
        from wrappers.workers.cluster_pool import ClusterPool

        return ClusterPool(cluster, run, indexer, memory)
    jobs = max(1, min(jobs, len(frames)))
    if len(frames):
        compile_kernels(run, indexer, frames[0], again=memory > 0, finder=finder)
    return FramePool(run, indexer, jobs, memory)
