"""How much memory a command may take, and how many processes that allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import psutil

from wrappers.frames.source import FrameSource

__all__ = ["share_out", "usual_memory"]

USUAL_SHARE = 0.25
"""Of the machine's memory, or of what a container or a batch system allows."""

PROCESS = 300e6
"""Bytes of a process that has no frame: libraries and compiled kernels, 230 to 300 MB here."""
PIXEL = 60.0
"""Bytes a pixel of a process at work: the rings' layout, a frame, what is made of it."""

CGROUPS = Path("/sys/fs/cgroup")


def usual_memory() -> int:
    """Return the bytes that a command may take where nobody says: a quarter of what there is."""
    return int(USUAL_SHARE * min(psutil.virtual_memory().total, *_limits()))


def share_out(
    memory: int, jobs: int, n_frames: int, run: FrameSource, n_pools: int = 1
) -> tuple[int, int]:
    """Return how many processes there may be, and the bytes left to keep frames ready.

    Parameters
    ----------
    memory : int
        Bytes that the program may take, all its processes together.
    jobs : int
        The most processes that are wanted.
    n_frames : int
        To be worked on: a process without any would be for nothing.
    run : FrameSource
        Its geometry says how large a frame is.
    n_pools : int
        Pools of so many processes that there will be at once; the bytes are those of each.
    """
    each = PROCESS + PIXEL * math.prod(run.geometry.slab_shape)
    # Beside the processes there is this one.
    affordable = (int(memory / each) - 1) // n_pools
    processes = max(1, min(jobs, n_frames, affordable))
    spent = each * (1 if processes == 1 else 1 + n_pools * processes)
    return processes, max(0, int((memory - spent) / n_pools))


def _limits() -> Iterator[float]:
    """Yield what the control groups of this process allow, in bytes."""
    yield math.inf
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, name = (
            (CGROUPS, "memory.max")
            if not controllers
            else (CGROUPS / "memory", "memory.limit_in_bytes")
        )
        group = Path(inside.lstrip("/"))
        for folder in (root / group, *(root / above for above in group.parents)):
            try:
                limit = (folder / name).read_text().strip()
            except OSError:
                continue
            if limit.isdigit():  # or "max"
                yield float(limit)
