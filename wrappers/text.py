"""Text of others (names of files, words in files of strangers) on its way to a reader.

Each reader has characters that mean something to it: a terminal's escape codes, a comment's end of
line. There is one function for each; a shell has `shlex.quote`, HTML has `html.escape`, YAML has
its writer.
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from wrappers.errors import InputError

__all__ = [
    "from_utf8",
    "is_name",
    "is_plain",
    "one_line_value",
    "printable",
    "to_json",
    "to_utf8",
    "utf8_value",
]

_FILE = "file://"

LONGEST_NAME, LONGEST_PATH = 255, 4096
"""Bytes, in Linux."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return text for a terminal or a comment: what is not seen is written as ``\x1b``.

    Control characters, separators of lines, marks that turn the direction of writing, and bytes
    of a name that are no UTF-8 are not seen.

    Parameters
    ----------
    text : str
    lines : bool
        Whether line feeds stay.
    """
    if text.isprintable():
        return text
    return "".join(
        each if _is_seen(each) or (lines and each == "\n") else _escaped(each) for each in text
    )


def to_json(document: object) -> str:
    """Return a document as JSON, with null for what JSON has no number for, and paths as text."""
    return json.dumps(_finite(document), indent=2, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value


def one_line_value(text: str, what: str) -> str:
    """Return text for a file whose values end with the line and know no quotes.

    Raises
    ------
    InputError
        If it has a character that ends a line or that is not seen; `what` says whose it is.
    """
    # Other bytes than UTF-8 go through as they are.
    if any(not _is_seen(each) and not _is_byte(each) for each in text):
        raise InputError(
            f"{what} '{printable(text)}' has a character that the file cannot hold: give it "
            "another name"
        )
    return text


def utf8_value(text: str, what: str) -> str:
    """Return text for a file that holds UTF-8 only.

    Raises
    ------
    InputError
        If it is a name with other bytes; `what` says whose.
    """
    if any(map(_is_byte, text)):
        raise InputError(
            f"{what} '{printable(text)}' is not in UTF-8, and the file holds nothing else: give it "
            "another name"
        )
    return text


def to_utf8(text: str) -> str:
    """Return a name of a file for TOML or HDF5, which hold UTF-8: others are ``file://`` URIs."""
    if any(map(_is_byte, text)) or text.startswith(_FILE):
        return _FILE + quote(os.fsencode(text))
    return text


def from_utf8(text: str) -> str:
    """Return the name that `to_utf8` was given."""
    return os.fsdecode(unquote_to_bytes(text[len(_FILE) :])) if text.startswith(_FILE) else text


def is_plain(text: str) -> bool:
    """Whether text has no NUL, and no half of a character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeError:
        return False


def is_name(text: str) -> bool:
    """Whether text can be the name of a file: it is plain, and no longer than any system takes."""
    if not is_plain(text):
        return False
    name = os.fsencode(text)
    return len(name) < LONGEST_PATH and all(len(part) <= LONGEST_NAME for part in name.split(b"/"))


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _is_byte(character: str) -> bool:
    return "\udc80" <= character <= "\udcff"


def _escaped(character: str) -> str:
    if _is_byte(character):
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
