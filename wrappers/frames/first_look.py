"""What a few frames of a run show before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from wrappers.detector.panels import Header
from wrappers.errors import InputError
from wrappers.frames.frame import Frame, Mask
from wrappers.frames.source import FrameSource

__all__ = ["NoData", "first_look", "no_data", "spread"]

MOST_FRAMES = 5
MOST_VALUES = 3
FEWEST_PIXELS = 4
"""Fewer equal pixels may be chance, or hot pixels."""
ISOLATED = 10
"""A value is no count where it is so many times as far out as 99.9 % of the others."""
MOST_ENERGIES = 200
"""Frames whose photon energies are compared: those of files that are looked at in any case."""
ENERGY_SPREAD = 1.2
"""Largest photon energy of a run over its smallest; two colours and drifts are within."""
LARGEST_FLAG = 2_147_483_000
"""CrystFEL keeps flags in 32 bits with a sign."""


@dataclass(frozen=True, eq=False)
class NoData:
    """Pixels that have one extreme value in every frame: a detector's word for no data.

    Attributes
    ----------
    value : float
    pixels : bool array (ss, fs)
    share : float
        Of the usable pixels.
    high : bool
        Whether it is above all counts, rather than below.
    """

    value: float
    pixels: Mask
    share: float
    high: bool

    @property
    def sentence(self) -> str:
        """What it is, and the line that masks it."""
        line = (
            f"flag_morethan = {min(int(self.value) - 1, LARGEST_FLAG)}"
            if self.high
            else f"flag_lessthan = {int(self.value) + 1}"
        )
        return (
            f"{100 * self.share:.2g} % of the pixels are {self.value:.0f} in every frame looked "
            f"at, which is no count: add '{line}' to the geometry, above the panels"
        )


def spread(n: int, most: int = MOST_FRAMES) -> list[int]:
    """Return up to `most` indices below `n`, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(int)).tolist()


def no_data(frames: Sequence[Frame]) -> list[NoData]:
    """Return the values that stand for no data in frames of one run, the largest first.

    They are the same in the same pixels of all frames, beyond every other pixel, and either
    negative or far from the counts. At least two frames are needed to tell.
    """
    if len(frames) < 2 or any(frame.data.dtype.kind not in "iuf" for frame in frames):
        return []
    usable = np.logical_and.reduce([frame.mask for frame in frames])
    total = int(usable.sum())
    found: list[NoData] = []
    for high in (True, False):
        for _ in range(MOST_VALUES):
            if not usable.any():
                break
            counts = frames[0].data[usable]
            value = counts.max() if high else counts.min()
            pixels = usable & (frames[0].data == value)
            n = int(pixels.sum())
            steady = n >= max(FEWEST_PIXELS, 1e-5 * total) and all(
                bool((frame.data[pixels] == value).all()) for frame in frames
            )
            rest = usable & ~pixels
            if not steady or not rest.any():
                break
            others = np.abs(np.percentile(frames[0].data[rest], (0.1, 99.9)))
            limit = ISOLATED * max(others.max(), 1)
            # A calibrated count, which is a float, may be a little below nothing.
            low_enough = value < (-limit if value.dtype.kind == "f" else 0)
            far = value > limit if high else low_enough
            if not far:
                break
            found.append(NoData(float(value), pixels, n / total, high))
            usable = rest
    return found


def first_look(run: FrameSource) -> list[str]:
    """Return what is odd about a run, a sentence each, from a few of its frames.

    Its own notes; the share that is masked, where it is above a half; flags that the data type
    rules out; pixels that stand for no data. Frames that cannot be read are left to the reader.

    Raises
    ------
    InputError
        If all pixels are masked.
    """
    notes = list(run.notes)
    if run.n_frames is None:
        return notes
    frames: list[Frame] = []
    problems: list[str] = []
    chosen = spread(run.n_frames)
    for index in chosen:
        try:
            frames.append(run[index])
        except InputError as error:
            problems.append(str(error))
    if problems and frames:
        notes.append(
            f"{len(problems)} of {len(chosen)} frames looked at cannot be used: {problems[0]}"
        )
    if not frames:
        return notes
    frame = frames[0]
    on_panels = np.isfinite(run.geometry.radius_map())
    share = 1 - frame.mask[on_panels].mean()
    if share == 1:
        raise InputError(
            f"all pixels of {frame.file} {frame.event} are masked by {run.geometry.path}: check "
            "the good and bad bits of its masks, its flags and its bad regions"
        )
    if share > 0.5:
        notes.append(
            f"{100 * share:.1f} % of the pixels of {frame.file} {frame.event} are masked by "
            f"{run.geometry.path}: check the good and bad bits of its masks (are they the wrong "
            "way round?), its flags and its bad regions"
        )
    notes += _idle_flags(run, frame)
    notes += _energies(run, {each.file for each in frames})
    return notes + [each.sentence for each in no_data(frames)]


def _energies(run: FrameSource, files: Set[str]) -> list[str]:
    """Say that the frames of some files have photon energies that no one run has."""
    if not isinstance(run.geometry.photon_energy, Header):
        return []
    known: list[tuple[float, int]] = []
    for index in spread(len(run), MOST_ENERGIES):
        if run.name(index)[0] in files:
            with suppress(InputError):
                known.append((run.photon_energy(index), index))
    if not known or max(known)[0] <= ENERGY_SPREAD * min(known)[0]:
        return []
    (low, first), (high, second) = min(known), max(known)
    lowest, highest = (" ".join(run.name(index)) for index in (first, second))
    return [
        f"the photon energies differ within the run, from {low:.6g} eV ({lowest}) to {high:.6g} eV "
        f"({highest}): check {run.geometry.photon_energy.path} and its unit"
    ]


def _idle_flags(run: FrameSource, frame: Frame) -> list[str]:
    """Name the flags that no value of the frame's type can have."""
    if frame.data.dtype.kind not in "iu":
        return []
    limits = np.iinfo(frame.data.dtype)
    lowest, highest = int(limits.min), int(limits.max)
    notes = []
    flags = dict.fromkeys(flag for panel in run.geometry.panels for flag in panel.flags)
    for kind, value in flags:
        idle = {
            "morethan": value >= highest,
            # That there is nothing below 0 where nothing can be is no mistake.
            "lessthan": value <= lowest and value < 0,
            "equal": not lowest <= value <= highest or value != int(value),
        }[kind]
        if idle:
            notes.append(
                f"flag_{kind} = {value:g} of {run.geometry.path} has no effect: {frame.file} holds "
                f"{frame.data.dtype}, whose values are whole numbers from {lowest} to {highest}"
            )
    return notes
