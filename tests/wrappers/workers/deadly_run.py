"""A run with a frame that kills whoever reads it; a module of its own, so that workers find it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from wrappers.frames.frame import Frame
from wrappers.frames.source import FrameSource


class DeadlyRun(FrameSource):
    """Kills the process that reads `frame`, the first `deaths` times."""

    def __init__(self, run: FrameSource, frame: int, deaths: int, folder: Path) -> None:
        self.run, self.frame, self.deaths, self.folder = run, frame, deaths, folder
        self.geometry = run.geometry

    @property
    def n_frames(self) -> int | None:
        return self.run.n_frames

    def name(self, index: int) -> tuple[str, str]:
        return self.run.name(index)

    def __getitem__(self, index: int) -> Frame:
        died = len(list(self.folder.glob("died*")))
        if index == self.frame and died < self.deaths:
            (self.folder / f"died{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.run[index]
