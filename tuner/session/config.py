"""What a session was asked to do: the one reader and writer of ``session.json``."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Self

from envs.objective import USUAL_MERIT, Merit
from wrappers.errors import InputError
from wrappers.indexers import IndexerChoice, recorded_choice
from wrappers.settings import with_current_names

__all__ = ["SessionConfig"]


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
        A `tuner.start.Start`: what the result is held against; empty where that is CrystFEL's
        defaults alone.
    seed : int
    indexer : str
        Name and version.
    indexer_choice : dict
        An `IndexerChoice`; empty in sessions of the first version.
    policy : str or None
        Directory of a policy that is not the shipped one.
    data_sha256, geometry_sha256, cell_sha256, policy_sha256 : str or None
        Fingerprints of the files.
    linked_sha256 : str or None
        That of the geometry's mask files, and of the data behind the links of the data files.
    merit : Merit
        Sessions that do not say maximised the first version's.
    cell_origin : str
        How the cell was found, where none was given.
    evaluations, minutes, stop_early
        The budget, which may be another one when the session is resumed.
    """

    data: str = ""
    geometry: str = ""
    cell: str = ""
    searcher: str = "gp"
    n_frames: int | None = None
    tuned: tuple[str, ...] = ()
    peak_finder: str = "peakfinder8"
    clen_range: float = 0.05
    fixed: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    indexer: str = ""
    indexer_choice: dict[str, Any] = field(default_factory=dict, compare=False)
    policy: str | None = None
    data_sha256: str | None = None
    geometry_sha256: str | None = None
    cell_sha256: str | None = None
    policy_sha256: str | None = None
    linked_sha256: str | None = None
    merit: Merit = USUAL_MERIT
    cell_origin: str = field(default="", compare=False)
    evaluations: int | None = field(default=None, compare=False)
    minutes: float | None = field(default=None, compare=False)
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
        try:
            values = with_current_names(json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise InputError(f"{path.parent} holds no session: {path} does not exist") from error
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{path} cannot be read as a session: {error}") from error
        if not isinstance(values, Mapping):
            raise InputError(f"{path} cannot be read as a session: it holds no table of fields")
        known = {}
        for each in fields(cls):
            if each.name in values:
                try:
                    known[each.name] = _checked(each.name, values[each.name])
                except ValueError as error:
                    raise InputError(f"{path}: {error}") from error
        return cls(**known)

    def refuse_other(self, other: SessionConfig, directory: Path) -> None:
        """Raise InputError where a session in a directory, begun as `self`, is not `other`."""
        for each in fields(self):
            begun, asked = getattr(self, each.name), getattr(other, each.name)
            if not each.compare:
                continue
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


@cache
def _types() -> dict[str, tuple[type, ...]]:
    """Return what a field may hold, as JSON has it."""
    hints = typing.get_type_hints(SessionConfig)
    return {
        name: typing.get_args(hint)
        if isinstance(hint, types.UnionType)
        else (typing.get_origin(hint) or hint,)
        for name, hint in hints.items()
    }


def _checked(name: str, value: Any) -> Any:
    if name == "merit":
        return Merit.from_dict(value)
    if name == "tuned":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"tuned is {value!r}, but must be a list of names")
        return tuple(value)
    if name in ("fixed", "bounds"):
        return _numbers(name, value)
    allowed = _types()[name]
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        words = " or ".join("nothing" if t is type(None) else t.__name__ for t in allowed)
        raise ValueError(f"{name} is {value!r}, but must be {words}")
    return value


def _numbers(name: str, value: Any) -> dict[str, Any]:
    """Return settings by name, each with one number or with the two ends of its range."""

    def number(each: Any) -> bool:
        return isinstance(each, int | float) and not isinstance(each, bool)

    if isinstance(value, dict):
        if name == "fixed" and all(map(number, value.values())):
            return value
        if name == "bounds" and all(
            isinstance(ends, list) and len(ends) == 2 and all(map(number, ends))
            for ends in value.values()
        ):
            return {key: tuple(ends) for key, ends in value.items()}
    raise ValueError(f"{name} is {value!r}, but must be settings with numbers")


def _plain(value: Any) -> Any:
    if isinstance(value, Merit):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value
