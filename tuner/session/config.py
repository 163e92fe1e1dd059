"""What a session was asked to do: the one reader and writer of ``session.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Interval

from envs.objective import USUAL_MERIT, Merit
from wrappers.errors import InputError
from wrappers.indexers import IndexerChoice, recorded_choice
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.schema import Number, read_json, validated
from wrappers.settings import ABOUT, Settings, with_current_names
from wrappers.text import is_name

__all__ = ["REMEDY", "FoundGeometry", "Sampling", "SessionConfig"]

REMEDY = "put a copy of it back, or begin a session in another directory"
"""Where a session's files are damaged: what they have measured is not dropped by itself."""


Sampling = Literal["auto", "random", "strata"]
"""Ways to draw a session's frames: at random, by strata of what their peaks promise, or by strata
where a random sample would hold few promising ones."""


@dataclass(frozen=True)
class FoundGeometry:
    """Where the frames put the detector before anything was measured.

    Attributes
    ----------
    values : dict of str to float
        ``clen``, ``shift_x``, ``shift_y`` in metres, as far as they are elsewhere than given.
    words : str
        A sentence about that, or "".
    nominal_clen : float
        The geometry file's, in metres.
    """

    values: dict[str, Number] = field(default_factory=dict)
    words: str = ""
    nominal_clen: Number = 0.0


@dataclass(frozen=True)
class SessionConfig:
    """What a session was asked to do; whoever resumes it must ask for the same.

    Attributes
    ----------
    data, geometry, cell : str
        Absolute paths.
    searcher : str
    n_frames : int or None
        Size of the tuning sample; None: every frame.
    tuned : tuple of str
    peak_finder : str
    clen_range : float
    fixed : dict of str to float
        Settings that keep a value of the user's.
    bounds : dict of str to (float, float)
        Ranges of the user's.
    start : dict
        A `tuner.session.start.Start`: what the result is held against; empty where that is
        CrystFEL's defaults alone.
    seed : int
    indexer : str
        Name and version.
    indexer_choice : dict
        An `IndexerChoice`; empty in sessions of the first version.
    policy : str or None
        Directory of a policy that is not the shipped one.
    data_sha256, geometry_sha256, cell_sha256, policy_sha256 : str or None
        Fingerprints of the files.
    spots_sha256 : str or None
        That of the weights of the peak finder's model; None in sessions that do not say, or whose
        peak finder has none.
    linked_sha256 : str or None
        That of the geometry's mask files, and of the data behind the links of the data files.
    merit : Merit
        Sessions that do not say maximised the first version's.
    sampling : Sampling or None
        See `Sampling`; None in sessions that knew only random samples.
    cell_origin : str
        How the cell was found, where none was given.
    found_geometry : FoundGeometry or None
        None in sessions that have not asked the frames.
    evaluations, minutes, stop_early
        The budget, which may be another one when the session is resumed.
    """

    data: str = ""
    geometry: str = ""
    cell: str = ""
    searcher: str = "gp"
    n_frames: Annotated[int, Interval(ge=1)] | None = None
    tuned: tuple[str, ...] = ()
    peak_finder: str = "peakfinder8"
    clen_range: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    fixed: dict[str, Number] = field(default_factory=dict)
    bounds: dict[str, tuple[Number, Number]] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    seed: Annotated[int, Interval(ge=0, le=2**32 - 1)] = 0
    indexer: str = ""
    indexer_choice: dict[str, Any] = field(default_factory=dict, compare=False)
    policy: str | None = None
    data_sha256: str | None = None
    geometry_sha256: str | None = None
    cell_sha256: str | None = None
    policy_sha256: str | None = None
    spots_sha256: str | None = None
    linked_sha256: str | None = None
    merit: Merit = USUAL_MERIT
    sampling: Sampling | None = None
    cell_origin: str = field(default="", compare=False)
    found_geometry: FoundGeometry | None = field(default=None, compare=False)
    evaluations: Annotated[int, Interval(ge=1, le=10**9)] | None = field(
        default=None, compare=False
    )
    minutes: Annotated[float, Interval(gt=0, le=1e9)] | None = field(default=None, compare=False)
    stop_early: bool = field(default=False, compare=False)

    @property
    def choice(self) -> IndexerChoice:
        """The indexer that the session uses."""
        if self.indexer_choice:
            return IndexerChoice.from_dict(self.indexer_choice)
        return recorded_choice({"indexer": self.indexer})

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON, without what nobody asked for."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return values | {"tuned": list(self.tuned), "merit": self.merit.as_dict()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``session.json``.

        Raises
        ------
        InputError
            If there is none, or a field does not hold what it should.
        """
        if not path.exists():
            raise InputError(f"{path.parent} holds no session: {path} does not exist")
        values = with_current_names(read_json(path, dict[str, Any], "the session", REMEDY))
        found = validated(values, cls, str(path), REMEDY)
        for name in ("data", "geometry", "cell", "policy"):
            if not is_name(getattr(found, name) or ""):
                raise InputError(f"{path} is damaged: {name} is no name of a file; {REMEDY}")
        moved = found.found_geometry.values if found.found_geometry else {}
        strange = {*found.tuned, *found.fixed, *found.bounds} - (ABOUT.keys() - {"peak_finder"})
        strange |= moved.keys() - {"clen", "shift_x", "shift_y"}
        if strange:
            raise InputError(f"{path} is damaged: {strange.pop()!r} is no setting; {REMEDY}")
        if found.start:
            validated({"start": found.start}, dict[str, _Start], str(path), REMEDY)
        try:
            Settings().replace(**moved)
            PEAK_FINDERS.name_of(found.peak_finder)
            found.choice  # noqa: B018
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}; {REMEDY}") from None
        return found

    def refuse_other(self, other: SessionConfig, directory: Path) -> None:
        """Raise InputError where a session in a directory, begun as `self`, is not `other`."""
        for each in fields(self):
            begun, asked = getattr(self, each.name), getattr(other, each.name)
            if not each.compare:
                continue
            if each.name == "sampling" and begun is None:
                continue  # sessions that do not say drew at random, and go on so
            if each.name == "spots_sha256" and begun is None:
                continue  # sessions of earlier versions do not say
            if each.name == "linked_sha256":
                # Sessions of the first version do not say.
                if begun is not None and begun != asked:
                    raise InputError(
                        f"the files behind the links of {self.data}, or the geometry's mask files, "
                        f"are no longer those that {directory} was begun with: put them back, or "
                        "name another directory"
                    )
            elif begun != asked:
                raise InputError(
                    f"{directory} was begun with {each.name} = {_plain(begun)}, not "
                    f"{_plain(asked)}: resume it with what it was begun with, or name another "
                    "directory"
                )


@dataclass(frozen=True)
class _Start:
    """The fields of a `tuner.session.start.Start`."""

    settings: Settings
    words: str
    given: tuple[str, ...]
    clen_change: Number


def _plain(value: Any) -> Any:
    if isinstance(value, Merit):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value
