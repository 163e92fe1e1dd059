"""The parameter set that a session's result is held against: the user's own, or a customary one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from envs.geometry_rule import GEOMETRY
from envs.parameter_space import ParameterSpace
from wrappers.customary import counts_photons, detector_of
from wrappers.errors import InputError
from wrappers.reading import open_regular
from wrappers.settings import ABOUT, CRYSTFEL_DEFAULTS, Settings, check_clen, check_shifts

if TYPE_CHECKING:
    from wrappers.frames.source import FrameSource

__all__ = ["Start", "customary_start", "read_start", "start_of_values", "with_start"]

LARGEST = 1 << 20
"""Bytes of a file that are read: a stream has its command line at its top."""


@dataclass(frozen=True)
class Start:
    """What is in use today.

    Attributes
    ----------
    settings : Settings
        With a camera length only where one was given in so many metres.
    words : str
        What it is, to follow "than" or "of".
    given : tuple of str
        The fields that the user named; empty for what is customary.
    clen_change : float
        By how much it moves the geometry's camera length, in metres.
    """

    settings: Settings
    words: str
    given: tuple[str, ...] = ()
    clen_change: float = 0.0

    def measured(
        self,
        space: ParameterSpace,
        nominal_clen: float,
        fixed: Mapping[str, float] = MappingProxyType({}),
        bounds: Collection[str] = (),
    ) -> Settings:
        """Return the parameter set to measure in a run with that camera length (m).

        What is customary gives way to the settings that a user has fixed or bounded, so that it may
        be recommended; what a user names is measured as it is.
        """
        settings = self.settings
        if not self.given:
            free = [name for name in bounds if name not in GEOMETRY]
            within = {name: space[name].clip(getattr(settings, name)) for name in free}
            place = {"shift_x": space.base.shift_x, "shift_y": space.base.shift_y}
            settings = settings.replace(**within, **place).replace(**fixed)
        if (known := space.known) is not None:
            shifts = {"shift_x": settings.shift_x, "shift_y": settings.shift_y}
            check_shifts(shifts, known.largest_radius * known.pixel_size)
        if settings.clen is not None:
            check_clen(settings.clen, nominal_clen)
            return settings
        own = nominal_clen + self.clen_change if self.clen_change else space.base.clen
        return settings.replace(clen=own)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for ``session.json``."""
        settings = {k: v for k, v in self.settings.as_dict().items() if v is not None}
        return {
            "settings": settings,
            "words": self.words,
            "given": list(self.given),
            "clen_change": self.clen_change,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Start:
        """Return what `as_dict` gave.

        Raises
        ------
        InputError
            If it is something else.
        """
        try:
            return cls(
                Settings.from_dict(values["settings"]),
                str(values["words"]),
                tuple(map(str, values["given"])),
                float(values["clen_change"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"start is no parameter set of a session ({error}): restore session.json"
            ) from error


def customary_start(run: FrameSource, sample: Sequence[int]) -> Start:
    """Return what people use with a run's detector, or with one like it.

    Parameters
    ----------
    run : FrameSource
    sample : sequence of int
        Frames that tell counts from charges.
    """
    counts = counts_photons(run, sample)
    detector, known = detector_of(1 / run.geometry.panels[0].res, counts)
    kind = "photon-counting" if counts else "integrating"
    like = "" if known else f"{kind} detectors such as "
    return Start(detector.settings, f"what is customary for {like}{detector.name}")


def start_of_values(values: dict[str, float]) -> Start:
    """Return the start of settings that a user has typed; the others are as usual."""
    said = ",".join(f"{name}={value:.6g}" for name, value in values.items())
    return Start(Settings().replace(**values), f"what you use ({said})", tuple(values))


def read_start(path: Path) -> Start:
    """Read a recommended.toml, a session's directory, or another program's file.

    What a program's file does not name is as CrystFEL has it.

    Raises
    ------
    InputError
        If it cannot be read, is of no known program, or names no setting.
    """
    from tuner.export.exporters import TARGETS  # what --help should not wait for

    words = f"what you use ({path.name})"
    if path.is_dir():
        return _of_recommendation(path, words)
    try:
        with open_regular(path, "what is in use today,") as file:
            text = file.read(LARGEST).decode("utf-8-sig", "replace")
    except (InputError, OSError) as error:
        raise InputError(
            f"--start: {error}; name a file, or write settings such as min_snr=4.5,threshold=60"
        ) from error
    if "[settings]" in text and path.suffix == ".toml":
        return _of_recommendation(path, words)
    for target in (TARGETS.get(name) for name in TARGETS):
        given = _read(target.read, text, path) if target.read is not None else None
        if given:
            return _complete(given, words, path)
    known = ", ".join(TARGETS.get(name).words for name in TARGETS if TARGETS.get(name).read)
    raise InputError(
        f"--start {path} holds no settings of a peak search (known are recommended.toml and, as "
        f"export writes them: {known}): write them, such as min_snr=4.5,threshold=60"
    )


def with_start(space: ParameterSpace, start: Start, fixed: Sequence[str] = ()) -> ParameterSpace:
    """Return the box through a user's set: what is not tuned keeps the value that the user named.

    A `min_peaks` of 0, which sends every frame to the indexer, is not taken over; nor is anything
    of another peak finder's set.
    """
    if start.settings.peak_finder != space.base.peak_finder:
        return space
    kept = {
        name: getattr(start.settings, name)
        for name in start.given
        if name not in (*space.names, *fixed) and getattr(start.settings, name) is not None
    }
    if not kept.get("min_peaks", 1):
        del kept["min_peaks"]
    return replace(space, base=space.base.replace(**kept))


def _read(reader: Any, text: str, path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = reader(text)
    except InputError as error:
        raise InputError(f"--start {path}: {error}") from error
    return found


def _complete(given: dict[str, Any], words: str, path: Path) -> Start:
    try:
        known = Settings.from_dict({**CRYSTFEL_DEFAULTS.as_dict(), **given})
    except (InputError, TypeError, OverflowError) as error:
        raise InputError(f"--start {path}: {error}") from error
    return Start(known, words, tuple(name for name in given if name in ABOUT))


def _of_recommendation(path: Path, words: str) -> Start:
    from tuner.recommendation import clen_change, read_recommendation

    found = read_recommendation(path)
    given = tuple(name for name in ABOUT if getattr(found.settings, name) is not None)
    if "geometry_clen" in found.provenance:
        change = clen_change(found)
        return Start(found.settings.replace(clen=None), words, given, change)
    return Start(found.settings, words, given)
