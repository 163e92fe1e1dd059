"""Other indexers, asked through one door: probixi, and CrystFEL's with given peaks.

probixi needs a PyTorch of its own making, so it may live in another environment:
``SFX_TUNER_PROBIXI_PYTHON`` names that environment's Python; without it, this one is tried.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.real_peak_lists import RecordedList
from wrappers.crystfel.indexamajig import find_indexamajig
from wrappers.crystfel.indexer import CrystfelIndexer
from wrappers.detector.geometry import Geometry
from wrappers.detector.panels import HC
from wrappers.errors import ProgramError
from wrappers.indexing import Pattern
from wrappers.peaks import PeakList

__all__ = ["Answers", "Program", "find_programs"]

Floats = NDArray[np.float64]
Answers = tuple[list[Floats | None], float | None]
"""The first lattice of each list (rows a*, b*, c*), and the milliseconds of one core a list; None
where the program was ended before it had done them all."""
Program = Callable[[Sequence[RecordedList]], Answers]
"""Takes lists of one cell."""

PYTHON = "SFX_TUNER_PROBIXI_PYTHON"
WORKER = Path(__file__).with_name("probixi_worker.py")
METHODS = ("xgandalf", "asdf")

CAMERA_LENGTH = 0.1
PIXEL = 1e-4
LARGEST_PANEL = 8000
SECONDS_A_LIST = 60.0
"""What CrystFEL may take at most: asdf is busy for many seconds with some noisy lists."""


def find_programs() -> tuple[dict[str, Program], list[str]]:
    """Return the programs that can be asked, by name, and why others cannot."""
    programs: dict[str, Program] = {}
    lacking = []
    python = os.environ.get(PYTHON, sys.executable)
    try:
        subprocess.run([python, "-c", "import probixi"], check=True, capture_output=True)
        programs["probixi"] = partial(_ask_probixi, python)
    except (OSError, subprocess.CalledProcessError):
        lacking.append(f"probixi is not installed for {python}: pip install it, or set {PYTHON}")
    try:
        crystfel = find_indexamajig()
    except ProgramError as error:
        lacking.append(str(error))
        return programs, lacking
    if crystfel is None:
        lacking.append("indexamajig is not on the PATH: install CrystFEL, or set its variable")
        return programs, lacking
    for method in METHODS:
        if method in crystfel.indexers:
            programs[method] = partial(_ask_crystfel, method)
        else:
            lacking.append(f"{crystfel.path} has no {method}")
    return programs, lacking


def _ask_probixi(python: str, lists: Sequence[RecordedList]) -> Answers:
    positions = [_on_detector(one) for one in lists]
    cell = lists[0].cell
    with tempfile.TemporaryDirectory(prefix="sfx-tuner-") as folder:
        given, answered = Path(folder) / "given.npz", Path(folder) / "answered.npz"
        np.savez(
            given,
            row_column=np.concatenate([place[:, ::-1] for place in positions]),
            strength=np.concatenate(
                [np.ones(len(one.q)) if one.strength is None else one.strength for one in lists]
            ),
            start=np.cumsum([0, *(len(one.q) for one in lists)]),
            wavelength=[1.0 / one.wavenumber for one in lists],
            cell=cell.parameters,
            lattice_type=cell.lattice_type,
            unique_axis=cell.unique_axis,
            centering=cell.centering,
            camera_length=CAMERA_LENGTH,
            pixel=PIXEL,
        )
        run = subprocess.run(
            [python, str(WORKER), str(given), str(answered)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if run.returncode:
            raise ProgramError(f"probixi failed: {run.stderr.decode(errors='replace')[-500:]}")
        with np.load(answered) as file:
            found, seconds = file["lattice"], file["seconds"]
    lattices = [lattice if np.isfinite(lattice).all() else None for lattice in found]
    return lattices, 1e3 * float(np.median(seconds))


def _ask_crystfel(method: str, lists: Sequence[RecordedList]) -> Answers:
    positions = [_on_detector(one) for one in lists]
    half = 100 + max((int(np.abs(place).max(initial=0)) for place in positions), default=0)
    half = min(half, LARGEST_PANEL // 2)
    patterns = []
    for one, place in zip(lists, positions, strict=True):
        on_panel = np.abs(place).max(axis=1, initial=0) < half
        fs, ss = (place[on_panel] + half).T
        strength = np.ones(len(fs)) if one.strength is None else one.strength[on_panel]
        zeros = np.zeros(len(fs))
        whole = zeros.astype(np.int32)
        peaks = PeakList(fs, ss, strength, zeros, whole, whole, zeros)
        patterns.append(Pattern(peaks, HC * one.wavenumber, CAMERA_LENGTH))
    with tempfile.TemporaryDirectory(prefix="sfx-tuner-") as folder:
        file = Path(folder) / "flat.geom"
        file.write_text(_flat_geometry(half))
        geometry = Geometry.read(file)
    timeout = SECONDS_A_LIST * (1 + len(lists))
    indexer = CrystfelIndexer(geometry, lists[0].cell, method=method, timeout=timeout)
    before = _child_seconds()
    indexer.index(patterns[:1])
    once = _child_seconds()
    answers = indexer.index(patterns)
    # what the program takes to start is in both calls
    seconds = max(_child_seconds() - once - (once - before), 0.0) / max(len(lists) - 1, 1)
    lattices = [each.lattices[0].reciprocal if each.lattices else None for each in answers]
    ended = any(each.failure for each in answers)
    return lattices, None if ended else 1e3 * seconds


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _on_detector(one: RecordedList) -> Floats:
    """Return x and y (n, 2) of the peaks on a flat detector, in its pixels from the beam."""
    along = np.maximum(one.wavenumber + one.q[:, 2:], 1e-3 * one.wavenumber)
    place: Floats = CAMERA_LENGTH / PIXEL * one.q[:, :2] / along
    return place


def _flat_geometry(half: int) -> str:
    last = 2 * half - 1
    return (
        f"photon_energy = 9000 eV\nadu_per_photon = 1\nclen = {CAMERA_LENGTH} m\n"
        f"res = {1 / PIXEL}\ndata = /data\ndim0 = %\ndim1 = ss\ndim2 = fs\n"
        f"flat/min_fs = 0\nflat/max_fs = {last}\nflat/min_ss = 0\nflat/max_ss = {last}\n"
        f"flat/corner_x = -{half}\nflat/corner_y = -{half}\nflat/fs = x\nflat/ss = y\n"
    )
