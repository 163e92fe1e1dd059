"""One door for the parts that come in several kinds: peak finders, indexers, searchers, exports."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from wrappers.errors import InputError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Parts of one kind by their names.

    A part is whatever its kind says: usually a small frozen dataclass with a factory and what
    the part is able to do, typed, so that nobody asks for a name to learn an ability.

    Parameters
    ----------
    noun : str
        What a part is called in an error, such as "peak finder".
    """

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._parts: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._retired: dict[str, str] = {}

    def register(self, name: str, part: T, aliases: tuple[str, ...] = ()) -> T:
        """Add a part under a name, and further names that mean the same; return the part.

        Raises
        ------
        ValueError
            If a name is taken, which is a programmer's mistake.
        """
        for each in (name, *aliases):
            if each in self._parts or each in self._aliases:
                raise ValueError(f"there is already a {self.noun} {each!r}")
        self._parts[name] = part
        self._aliases.update(dict.fromkeys(aliases, name))
        return part

    def retire(self, why: str, *names: str) -> None:
        """Have names that stood for a part once refused with a sentence of their own."""
        self._retired.update(dict.fromkeys(names, why))

    def forget(self, name: str) -> None:
        """Take a part out again, with its aliases."""
        del self._parts[name]
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name}

    def names(self) -> tuple[str, ...]:
        """Return the names, without aliases, in the order of their registration."""
        return tuple(self._parts)

    def name_of(self, name: object) -> str:
        """Return the name that a name or an alias stands for, whatever a file holds as a name.

        Raises
        ------
        InputError
            If there is no such part; the sentence lists the choices and the nearest, or says
            what became of it.
        """
        near: list[str] = []
        if isinstance(name, str):
            own = self._aliases.get(name, name)
            if own in self._parts:
                return own
            if name in self._retired:
                raise InputError(self._retired[name])
            near = difflib.get_close_matches(name.lower(), [*self._parts, *self._aliases], n=1)
        raise InputError(
            f"there is no {self.noun} {name!r}; choose one of {', '.join(self._parts)}"
            + (f" (did you mean {near[0]}?)" if near else "")
        )

    def get(self, name: object) -> T:
        """Return the part of a name or an alias; raises what `name_of` raises."""
        return self._parts[self.name_of(name)]

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return names and parts, in the order of their registration."""
        return tuple(self._parts.items())

    def __contains__(self, name: object) -> bool:
        return name in self._parts or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)
