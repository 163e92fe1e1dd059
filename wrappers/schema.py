"""The one door for the program's own text files: JSON, JSON lines and TOML, checked as they enter.

What a file holds is a dataclass (or any type that pydantic knows). Somebody may have edited it,
and a disk may have damaged it: whatever it is, the reader returns what was asked for, or says in
one sentence which file, line and field is wrong. Arrays have `wrappers.schema_arrays`.
"""

from __future__ import annotations

import json
import reprlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Interval, Predicate

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.reading import LARGEST_TEXT, open_regular, read_bytes

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

__all__ = [
    "Count",
    "Measured",
    "Number",
    "Pair",
    "Share",
    "hooked",
    "made_by",
    "read_json",
    "read_json_lines",
    "read_json_text",
    "read_toml",
    "validated",
]

T = TypeVar("T")

_WORDS = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_": "a text",
    "list_": "a list",
    "tuple_": "a list",
    "dict_": "a table of fields",
    "mapping_": "a table of fields",
    "dataclass_": "a table of fields",
}
"""What pydantic's kinds of fault ask for."""

MOST_LEVELS = 50
"""Of tables and lists within each other."""

_LARGE = 1e15


def is_nan_or_bounded(value: float) -> bool:
    """Whether a number is none, or one that something was measured to be."""
    return not abs(value) > _LARGE


Count = Annotated[int, Interval(ge=0, le=2**31 - 1)]
Number = Annotated[float, Interval(ge=-_LARGE, le=_LARGE)]
"""A finite number."""
Pair = tuple[Number, Number]
Share = Annotated[float, Interval(ge=0, le=1)]
Measured = Annotated[float, Predicate(is_nan_or_bounded)]
"""A number, or NaN where there was nothing to measure."""


def read_json(path: Path, shape: type[T], what: str, remedy: str) -> T:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
    shape : type
        What it holds: a dataclass, a list of some, and so on.
    what : str
        For messages, such as "the policy".
    remedy : str
        What to do where it is damaged, for the end of the sentence.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else; file and field are named.
    """
    return read_json_text(read_bytes(path, what), shape, str(path), remedy)


def read_json_text(text: str | bytes, shape: type[T], where: str, remedy: str) -> T:
    """Read JSON that stands within a file; `where` says in which, and at which place.

    Raises
    ------
    InputError
        As `read_json` does.
    """
    return validated(_parsed(json.loads, text, "JSON", where, remedy), shape, where, remedy)


def read_json_lines(
    path: Path, shape: type[T], what: str, remedy: str, *, mend: bool = False
) -> list[T]:
    """Read a file that grows by a line of JSON at a time.

    A last line that is not whole is left out: a process was killed while it wrote it, or is
    writing it. `mend` drops it from the file, too, which is for the file's owner to do.

    Raises
    ------
    InputError
        As `read_json` does; the line is named.
    """
    found, whole, torn = [], 0, False
    for number, line in enumerate(_lines(path, what), start=1):
        if not line.endswith(b"\n"):
            torn = True
            break
        found.append(read_json_text(line, shape, f"{path}, line {number}", remedy))
        whole += len(line)
    if mend and torn:
        with open(path, "rb") as file:
            write_whole(path, file.read(whole))
    return found


def read_toml(path: Path, shape: type[T], what: str, remedy: str) -> T:
    """Read a TOML file.

    Raises
    ------
    InputError
        As `read_json` does.
    """
    content = read_bytes(path, what)
    parsed = _parsed(lambda text: tomllib.loads(text.decode()), content, "TOML", str(path), remedy)
    return validated(parsed, shape, str(path), remedy)


def validated(values: Any, shape: type[T], where: str, remedy: str) -> T:
    """Return plain values as what they stand for.

    Raises
    ------
    InputError
        If they do not; the first field that is wrong is named.
    """
    from pydantic import ValidationError

    hashable: Any = shape
    try:
        found: T = _adapter(hashable).validate_python(values, extra="forbid")
    except ValidationError as error:
        raise InputError(f"{where} is damaged: {_fault(error)}; {remedy}") from None
    return found


def made_by(make: Callable[[dict[str, Any]], Any]) -> Any:
    """Return what a class is made by where it stands in a shape: a function of a table.

    For the class's ``__get_pydantic_core_schema__``. An `InputError` of the function is told
    with the field.
    """
    from pydantic_core import core_schema

    def checked(values: object) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError(f"it is {reprlib.repr(values)}, but must be a table of fields")
        return make(dict(values))

    return core_schema.no_info_plain_validator_function(checked)


def hooked(
    schema: Any,
    *,
    before: Callable[[Any], Any] | None = None,
    after: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a class's schema with functions that are called before and after it is applied.

    For the class's ``__get_pydantic_core_schema__``: one brings what older versions wrote to the
    names of today, the other says by a ValueError what no type says.
    """
    from pydantic_core import core_schema

    if before is not None:
        schema = core_schema.no_info_before_validator_function(before, schema)
    if after is not None:
        schema = core_schema.no_info_after_validator_function(after, schema)
    return schema


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)


def _lines(path: Path, what: str) -> Iterator[bytes]:
    """Yield a file's lines one by one: it may be large, and a line may not."""
    with open_regular(path, what) as file:
        try:
            while line := file.readline(LARGEST_TEXT):
                yield line
        except OSError as error:
            raise InputError(
                f"{what} {path} cannot be read ({error.strerror}): copy it again"
            ) from None


def _parsed(
    parse: Callable[[Any], Any], text: str | bytes, kind: str, where: str, remedy: str
) -> Any:
    if isinstance(text, bytes):
        text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        values = parse(text)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        what = "is not TOML" if kind == "TOML" else "is damaged: it is not JSON"
        raise InputError(f"{where} {what} ({reason}); {remedy}") from None
    if _is_deep(values):
        raise InputError(f"{where} is damaged: it is nested too deeply; {remedy}")
    return values


def _is_deep(values: Any) -> bool:
    level: list[Any] = [[values]]
    for _ in range(MOST_LEVELS + 1):
        level = [
            below
            for each in level
            for below in (each.values() if isinstance(each, dict) else each)
            if isinstance(below, dict | list)
        ]
        if not level:
            return False
    return True


def _fault(error: ValidationError) -> str:
    """Say which field is wrong, and how."""
    first = error.errors(include_url=False, include_context=False)[0]
    # Which one of several shapes it is, is nothing that the file says.
    named = [at for at in first["loc"] if not str(at).startswith("_")]
    place = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in named)
    field, text = place.removeprefix("."), first["msg"]
    value = reprlib.repr(first["input"])
    match first["type"]:
        case "missing":
            return f"{field} is missing"
        case "value_error":
            text = text.removeprefix("Value error, ")
            return f"{field}: {text}" if field else text
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{field} is no field that this version knows"
        case "predicate_failed":
            return f"{field} is {value}, but must be a number that can be"
    must = next(
        (word for kind, word in _WORDS.items() if first["type"].startswith(kind)),
        text.removeprefix("Input should be "),
    )
    return f"{field or 'it'} is {value}, but must be {must}"
