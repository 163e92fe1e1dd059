"""What a session was asked to do: the one reader and writer of ``session.json``."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Self

from envs.objective import USUAL_MERIT, Merit
from wrappers.errors import InputError
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
    seed : int
    indexer : str
        Name and version.
    policy : str or None
        Directory of a policy that is not the shipped one.
    data_sha256, geometry_sha256, cell_sha256, policy_sha256 : str or None
        Fingerprints of the files.
    linked_sha256 : str or None
        That of the geometry's mask files, and of the data behind the links of the data files.
    merit : Merit
        Sessions that do not say maximised the first version's.
    """

    data: str = ""
    geometry: str = ""
    cell: str = ""
    searcher: str = "gp"
    n_frames: int | None = None
    tuned: tuple[str, ...] = ()
    peak_finder: str = "peakfinder8"
    clen_range: float = 0.05
    seed: int = 0
    indexer: str = ""
    policy: str | None = None
    data_sha256: str | None = None
    geometry_sha256: str | None = None
    cell_sha256: str | None = None
    policy_sha256: str | None = None
    linked_sha256: str | None = None
    merit: Merit = USUAL_MERIT

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
        for field in fields(cls):
            if field.name in values:
                try:
                    known[field.name] = _checked(field.name, values[field.name])
                except ValueError as error:
                    raise InputError(f"{path}: {error}") from error
        return cls(**known)

    def refuse_other(self, other: SessionConfig, directory: Path) -> None:
        """Raise InputError where a session in a directory, begun as `self`, is not `other`."""
        for field in fields(self):
            begun, asked = getattr(self, field.name), getattr(other, field.name)
            if field.name == "linked_sha256":
                # Sessions of the first version do not say.
                if begun is not None and begun != asked:
                    raise InputError(
                        f"the files behind the links of {self.data}, or the geometry's mask files, "
                        f"are no longer those that {directory} was begun with: put them back, or "
                        "name another directory"
                    )
            elif begun != asked:
                raise InputError(
                    f"{directory} was begun with {field.name} = {_plain(begun)}, not "
                    f"{_plain(asked)}: resume it with what it was begun with, or name another "
                    "directory"
                )


@cache
def _types() -> dict[str, tuple[type, ...]]:
    """Return what a field may hold, as JSON has it."""
    hints = typing.get_type_hints(SessionConfig)
    return {
        name: typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for name, hint in hints.items()
    }


def _checked(name: str, value: Any) -> Any:
    if name == "merit":
        return Merit.from_dict(value)
    if name == "tuned":
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f"tuned is {value!r}, but must be a list of names")
        return tuple(value)
    allowed = _types()[name]
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        words = " or ".join("nothing" if t is type(None) else t.__name__ for t in allowed)
        raise ValueError(f"{name} is {value!r}, but must be {words}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Merit):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value
