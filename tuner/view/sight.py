"""What is to be seen of a run's sample: pictures, peaks, and what a parameter set leads to.

Frames are kept ready, so an answer takes milliseconds. Hits are counted. The indexing rate is
predicted by the response map (`envs.response_map`), first from the peaks alone, then from the
lattices of the embedded indexer as well.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from envs.environments.tasks import run_space
from envs.evaluators.live import LiveEvaluator
from envs.look import look_design
from envs.parameter_space import ParameterSpace
from envs.response_map.session_map import ResponseMap
from envs.strata import Sample
from tuner.report.images import assemble, shrink
from tuner.report.prediction import detector_pixels
from wrappers.cell import Cell
from wrappers.detector.panels import HC
from wrappers.errors import InputError, ProgramError
from wrappers.frames.source import FrameSource
from wrappers.indexing import Pattern
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.peak_finders import unused_settings, usually_tuned_peaks
from wrappers.settings import ABOUT, Settings
from wrappers.workers.opening import open_pool
from wrappers.workers.pool import Pool

__all__ = ["MOVED", "Sight"]

MOST_MOVED = 64
"""Parameter sets that the map learns from beside those of its design: each position of a slider is
one."""

MOVED = (
    *("min_snr", "threshold", "min_probability", "min_pix_count", "max_pix_count"),
    *("local_bg_radius", "min_res", "max_res", "min_peaks"),
)
"""The settings that can be moved, as far as they mean something to the peak finder."""

LARGEST = 2048
"""Width and height of a picture in pixels, at most."""

DARKEST, BRIGHTEST = -2.0, 30.0
"""In standard deviations about the mean of the pixels as far from the beam: a picture's ends."""

NOTHING = 255
"""A picture's value where there is no usable pixel."""

RINGS = (20, 10, 5, 4, 3, 2.5, 2, 1.5)
"""Resolutions, in Å, at which a ring may be drawn."""

AT_ONCE = 4
"""Frames whose lattices are sought in one step."""

FIRST_LEARNT = 8
"""The map learns the lattices of so many frames, then of twice as many, and so on."""


class _Peaks(Protocol):
    """What finds and counts peaks in the sample."""

    def __call__(self, frame: int, settings: Settings) -> Pattern | None:
        """Return a frame's peaks; None where it cannot be read."""
        ...


class Sight:
    """Looks at the frames of a sample with any parameter set; used as a context manager.

    Its methods may be called by several threads; they take turns.

    Parameters
    ----------
    run : FrameSource
    sample : Sample
        Where it was drawn by strata, the predicted rate is that of the whole run.
    cell : Cell or None
        Without one no indexing rate is predicted.
    marked : Settings or None
        The recommended set; None: what a session starts from.
    jobs, memory : int
        Processes, and bytes for frames that are kept ready.

    Attributes
    ----------
    marked : Settings
        The set that the page begins with, and returns to.
    recommended : bool
        Whether that is a recommended one.
    """

    def __init__(
        self,
        run: FrameSource,
        sample: Sample,
        cell: Cell | None,
        marked: Settings | None,
        *,
        jobs: int,
        memory: int,
    ) -> None:
        self._run, self.frames = run, sample.frames
        frames = self.frames
        self.recommended = marked is not None
        finder = Settings.peak_finder if marked is None else marked.peak_finder
        self._moved = [name for name in MOVED if name not in unused_settings(finder)]
        self._space: ParameterSpace = run_space(run, frames, self._moved, peak_finder=finder)
        self.marked = self._space.base if marked is None else marked
        self._lock = threading.Lock()
        self._evaluator: LiveEvaluator | None = None
        self._map: ResponseMap | None = None
        self._known = self._designed = 0
        self._stage = "no cell was given, so no indexing rate is predicted"
        if "min_snr" in unused_settings(finder):
            # The map knows sets by it.
            cell, self._stage = None, f"no rate is predicted for the {finder} peak finder"
        self._pool: Pool | LiveEvaluator
        self._peaks: _Peaks
        if cell is None:
            pool = open_pool(run, None, frames, jobs, memory, finder=finder)
            self._pool, self._peaks = pool, _of_pool(pool, run)
        else:
            indexer = FastIndexer(run.geometry, cell)
            evaluator = LiveEvaluator(
                run, cell, indexer, sample, jobs=jobs, memory=memory, finder=finder
            )
            self._pool = self._evaluator = evaluator
            self._peaks = lambda frame, settings: evaluator.peaks([frame], settings).get(frame)
            self._stage = "looking at the frames"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._pool.close()

    def prepare(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Have the response map, and then the frames' lattices; seconds to minutes.

        Others may ask meanwhile: it goes on step by step.

        Parameters
        ----------
        ended : callable
            Whether to leave it at that; asked between steps.
        """
        if self._evaluator is None:
            return
        try:
            self._prepare(self._evaluator, ended)
        except (InputError, ProgramError, OSError) as error:
            self._stage = f"no further prediction: {error}"

    def _prepare(self, evaluator: LiveEvaluator, ended: Callable[[], bool]) -> None:
        with self._lock:
            usual = usually_tuned_peaks(Settings.peak_finder)
            design = look_design(run_space(self._run, self.frames, usual))
            looked = evaluator.look(design)
            self._map = ResponseMap.begun(looked, evaluator)
            self._designed = len(self._map.settings)
            self._stage = "predicted from the peaks alone; lattices are being sought"
        enough = FIRST_LEARNT
        for first in range(0, len(self.frames), AT_ONCE):
            if ended():
                return
            n = min(first + AT_ONCE, len(self.frames))
            with self._lock:
                # Few frames at a time are indexed, so that nobody waits for long.
                evaluator.lattice_counts(self.marked, [self.marked], self.frames[:n])
                if n < enough and n < len(self.frames):
                    continue
                found = evaluator.lattice_counts(self.marked, self._map.settings, self.frames[:n])
                self._map.learn_lattices(found.frames, found.own, found.other)
                self._known, enough = n, 2 * n
                self._stage = f"predicted with the lattices of {len(found.frames)} of {n} frames"

    @property
    def nominal_clen(self) -> float:
        """The geometry's camera length, in metres."""
        return self._run.nominal_clen

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to begin with."""
        sliders = []
        for name in self._moved:
            about, parameter = ABOUT[name], self._space[name]
            value = getattr(self.marked, name)
            low, high = min(parameter.low, value), max(parameter.high, value)
            log = parameter.scale == "log" and low > 0
            sliders.append(
                {
                    **{"name": name, "label": about.label, "unit": about.unit, "value": value},
                    "zero": about.zero,
                    **{"low": low, "high": high, "log": log, "whole": parameter.integer},
                }
            )
        names = [self._run.name(frame) for frame in self.frames]
        return {
            "sliders": sliders,
            "frames": [f"{Path(file).name} {event}".strip() for file, event in names],
            "recommended": self.recommended,
        }

    def settings(self, values: dict[str, Any]) -> Settings:
        """Return the marked set with other values of what can be moved.

        Raises
        ------
        InputError
            If they are not settings.
        """
        if not isinstance(values, dict) or not {*values} <= {*self._moved}:
            raise InputError(f"settings that can be moved are {', '.join(self._moved)}")
        try:
            return Settings.from_dict({**self.marked.as_dict(), **values})
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(str(error)) from None

    def picture(self, place: int) -> tuple[bytes, dict[str, Any]]:
        """Return a frame of the sample as a PNG file of grey values, and what belongs to it.

        Raises
        ------
        InputError
            If the frame cannot be read.
        """
        from PIL import Image

        with self._lock:
            frame = self._run[self.frames[place]]
        image, usable, (left, bottom) = assemble(self._run.geometry, frame)
        height, width = image.shape
        step = -(-max(width, height) // LARGEST)
        image, usable = shrink(image[::-1], usable[::-1], step)
        share = np.clip((image - DARKEST) / (BRIGHTEST - DARKEST), 0, 1)
        grey = np.where(usable, (NOTHING - 1) * share, NOTHING).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "PNG", compress_level=1)
        pixels = self._run.geometry.panels[0].res
        change = self.marked.clen_change(self._run.nominal_clen)
        distance = (frame.camera_length + change) * pixels
        # The detector moves, and the beam is elsewhere on it.
        shift_x = (frame.shift_x + self.marked.shift_x) * pixels
        shift_y = (frame.shift_y + self.marked.shift_y) * pixels
        wavelength = HC / frame.photon_energy
        angles = {d: 2 * np.arcsin(wavelength / (2 * d)) for d in RINGS if wavelength < 2 * d}
        return buffer.getvalue(), {
            "width": width,
            "height": height,
            "step": step,
            "origin": [-left, height + bottom],
            "beam": [-left - shift_x, height + bottom + shift_y],
            "rings": [
                [d, float(distance * np.tan(angle))]
                for d, angle in angles.items()
                if angle < np.pi / 2 and distance * np.tan(angle) < max(width, height)
            ],
        }

    def peaks(self, place: int, settings: Settings) -> dict[str, Any]:
        """Return a frame's peaks, in pixel widths from the beam, x to the right and y upwards."""
        with self._lock:
            pattern = self._peaks(self.frames[place], settings)
        if pattern is None:
            raise InputError("the frame cannot be read")
        found = pattern.peaks
        places = detector_pixels(self._run.geometry, found.fs, found.ss, found.panel)
        return {
            "peaks": np.round(places, 2).tolist(),
            "n": len(found),
            "hit": len(found) >= settings.min_peaks,
        }

    def effect(self, settings: Settings) -> dict[str, Any]:
        """Return what a parameter set leads to in the whole sample."""
        with self._lock:
            counted = self._pool.count(self.frames, [settings])
            counts = np.array([int(c.counts[0]) for c in counted.values() if c.counts is not None])
            answer: dict[str, Any] = {
                "n": len(counts),
                "hits": int((counts >= settings.min_peaks).sum()),
                "median": float(np.median(counts)) if len(counts) else 0.0,
                "stage": self._stage,
                "rate": None,
            }
            if self._map is not None and self._evaluator is not None:
                if len(self._map.settings) >= self._designed + MOST_MOVED:
                    self._map.forget(self._designed)
                known = self.frames[: self._known]
                answer |= _predicted(self._map, self._evaluator, settings, self.marked, known)
        return answer


def _of_pool(pool: Pool, run: FrameSource) -> _Peaks:
    def peaks(frame: int, settings: Settings) -> Pattern | None:
        patterns = pool.search([frame], [settings])[frame].patterns
        return patterns[0].placed(settings, run.nominal_clen) if patterns else None

    return peaks


def _predicted(
    known: ResponseMap,
    evaluator: LiveEvaluator,
    settings: Settings,
    source: Settings,
    frames: Sequence[int],
) -> dict[str, Any]:
    """Return the rate that the map expects of a set, as a share of the sample, and its error."""
    column = known.column(settings)
    if column is None:
        known.extend(evaluator.look([settings]))
        column = len(known.settings) - 1
        if frames:
            found = evaluator.lattice_counts(source, [settings], frames)
            known.learn_lattices(found.frames, found.own, found.other, column)
    forecast = known.forecast(first=column)
    return {"rate": float(forecast.mean[0]), "sd": float(forecast.sd[0]), "far": known.far}
