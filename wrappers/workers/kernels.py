"""Kernels compiled once, before many processes would compile them at the same time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from wrappers.errors import InputError, Note
from wrappers.frames.source import FrameSource
from wrappers.indexing import Indexer
from wrappers.settings import Settings
from wrappers.workers.frame_pool import FramePool

__all__ = ["compile_kernels"]

SILENCE = 1.5
"""Seconds, before it is said what takes so long. Kernels from the disk are there in one."""

_MADE: set[tuple[str, bool, type, str]] = set()
"""What this process has compiled or loaded: a session opens several pools."""


def compile_kernels(
    run: FrameSource,
    indexer: Indexer | None,
    frame: int,
    *,
    again: bool = False,
    finder: str = Settings.peak_finder,
) -> None:
    """Compile what finds peaks in a run's frames, and indexes them; a second or so if cached.

    Parameters
    ----------
    run : FrameSource
    indexer : Indexer or None
        None where only peaks are wanted.
    frame : int
        Of the run; what it holds decides the data type.
    again : bool
        Whether frames will be kept ready, and searched with further settings.
    finder : str
        The peak finder that will be asked for.
    """
    try:
        kind = run[frame].data.dtype.str
    except InputError:
        return  # whoever wants the frame is told why
    made = (kind, again, type(indexer), finder)
    if made in _MADE:
        return
    with _told(), FramePool(run, indexer, jobs=1, memory=1 << 62) as pool:
        for _ in range(1 + again):  # a frame is made ready when it is searched again
            found = pool.search([frame], [Settings(threshold=0, peak_finder=finder)])[frame]
        if indexer is not None and not indexer.parallel:
            pool.index(found.patterns)
    _MADE.add(made)


@contextmanager
def _told() -> Iterator[None]:
    """Say what is going on where it lasts."""
    words = (
        "compiling the kernels for frames of this data type, which takes some ten seconds, once on "
        "this machine"
    )
    timer = threading.Timer(SILENCE, warnings.warn, (Note(words),))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
