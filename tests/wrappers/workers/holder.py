"""What test processes hold, and do; a module of its own, so that they find it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path


class Holder:
    """Remembers what its process was given; kills the process `deaths` times at `deadly`."""

    def __init__(self, folder: Path, deadly: int = -1, deaths: int = 0) -> None:
        self.folder, self.deadly, self.deaths = folder, deadly, deaths
        (folder / f"made{os.getpid()}").touch()

    def one(self, item: int) -> int:
        if item == self.deadly and len(list(self.folder.glob("died*"))) < self.deaths:
            (self.folder / f"died{time.time_ns()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item < 0:
            raise ValueError(f"{item} is negative")
        return item * item

    def slow(self, item: int) -> int:
        time.sleep(0.3)
        return item

    def all(self, items: Sequence[int]) -> list[int]:
        return [self.one(item) for item in items]
