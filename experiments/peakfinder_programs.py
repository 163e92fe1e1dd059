"""The programs that `peakfinder_speed` compares with: cfelpyutils and ``indexamajig``."""

from __future__ import annotations

import itertools
import math
import os
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from experiments.peakfinder_cases import Case
from wrappers.crystfel.indexamajig import CrystfelProgram, find_indexamajig
from wrappers.crystfel.options import search_arguments
from wrappers.frames.frame import Frame
from wrappers.peakfinding.peakfinder8 import MAX_N_PEAKS
from wrappers.peaks import PeakList
from wrappers.settings import Settings

__all__ = ["Cfelpyutils", "count_different", "run_indexamajig", "time_indexamajig"]

NEAR = 0.02
SAME_INTENSITY = 1e-3
"""Peaks so near, in pixels, and of so nearly the same intensity are the same."""

Floats = NDArray[np.float64]


class Cfelpyutils:
    """cfelpyutils' compiled peakfinder8 with all that it takes ready made.

    Parameters
    ----------
    frames : sequence of Frame
        All of the first one's mask.
    module : tuple of int
        Width and height of the panels, which are one below the other in the slab.
    settings : Settings
    radius : float32 array (ss, fs)
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        module: tuple[int, int],
        settings: Settings,
        radius: NDArray[np.float32],
    ) -> None:
        from cfelpyutils.peakfinding.peakfinder8 import peakfinder_8

        self._search = peakfinder_8
        self._frames = [frame.data.astype(np.float32) for frame in frames]
        usable = frames[0].mask & (radius > settings.min_res)
        usable &= radius < (settings.max_res or math.inf)
        self._detector = usable.astype(np.int8), radius, *module, 1, len(radius) // module[1]
        self._settings = (
            settings.threshold,
            settings.min_snr,
            settings.min_pix_count,
            settings.max_pix_count,
            settings.local_bg_radius,
        )

    def find(self, index: int) -> tuple[Floats, Floats, Floats]:
        """Return fs, ss (pixel *i* spans *i* to *i* + 1) and intensity of a frame's peaks."""
        fs, ss, intensity, *_ = self._search(
            MAX_N_PEAKS, self._frames[index], *self._detector, *self._settings
        )
        return np.array(fs) + 0.5, np.array(ss) + 0.5, np.array(intensity)


def count_different(
    ours: PeakList, fs: NDArray[Any], ss: NDArray[Any], intensity: NDArray[Any]
) -> int:
    """Return the number of peaks of either list without the same one in the other.

    The same is within `NEAR` pixels and `SAME_INTENSITY` of the intensity: others add in float32.
    """
    if not len(ours) or not len(fs):
        return max(len(ours), len(fs))
    lists = (
        (np.column_stack([ours.fs, ours.ss]), ours.intensity),
        (np.column_stack([fs, ss]), intensity),
    )

    def without(first: Any, second: Any) -> int:
        distance, nearest = cKDTree(second[0]).query(first[0])
        same = np.isclose(first[1], second[1][nearest], rtol=SAME_INTENSITY, atol=0.01)
        return int(np.sum((distance > NEAR) | ~same))

    return max(without(*lists), without(*lists[::-1]))


def run_indexamajig(
    program: CrystfelProgram, folder: Path, geometry: Path, settings: Settings, jobs: int = 1
) -> Path:
    """Let CrystFEL find the peaks of the frames listed in ``x.lst``; return the stream.

    With ``--no-revalidate``, so that the stream has what peakfinder8 found.
    """
    files = ["-i", str(folder / "x.lst"), "-g", str(geometry), "-o", str(folder / "x.stream")]
    subprocess.run(
        [
            *(program.path, *files, f"-j{jobs}", "--no-revalidate"),
            *search_arguments(settings.replace(min_peaks=0)),
            *("--indexing=none", f"--temp-dir={folder}"),
        ],
        cwd=geometry.parent,
        env={**os.environ, "HDF5_PLUGIN_PATH": str(hdf5plugin.PLUGIN_PATH)},
        capture_output=True,
        check=True,
        start_new_session=True,
        timeout=600,
    )
    return folder / "x.stream"


def time_indexamajig(case: Case, settings: Settings, folder: Path) -> float | None:
    """Return what a frame costs ``indexamajig --indexing=none`` in ms of processor time.

    With one worker: the difference of two runs with different numbers of frames. None where there
    is no CrystFEL. The folder is that of `make_case`.
    """
    program = find_indexamajig()
    if program is None:
        return None
    most = 24 if case.mpx < 16 else 8
    with h5py.File(folder / "x.h5", "w") as file:
        shape = (most, *case.frames[0].data.shape)
        data = file.create_dataset("data", shape, np.int16, chunks=(1, *shape[1:]))
        for i in range(most):
            data[i] = case.frames[i % len(case.frames)].data
        file["mask"] = (~case.frames[0].mask).astype(np.uint8)
    spent = {most // 4: np.inf, most: np.inf}
    for _, n_frames in itertools.product(range(2), spent):
        listed = "".join(f"{folder / 'x.h5'} //{i}\n" for i in range(n_frames))
        (folder / "x.lst").write_text(listed)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_indexamajig(program, folder, folder / "x.geom", settings)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cost = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent[n_frames] = min(spent[n_frames], cost)
    return float(1e3 * (spent[most] - spent[most // 4]) / (most - most // 4))
