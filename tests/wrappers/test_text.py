"""Text of others reaches each reader as text."""

from __future__ import annotations

import json
import math
import os
import tomllib
from pathlib import Path

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from wrappers.errors import InputError
from wrappers.text import from_utf8, one_line_value, printable, to_json, to_utf8

names = st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b).map(os.fsdecode)
"""What a file can be called."""


@given(names | st.text())
def test_nothing_that_commands_reaches_a_terminal(name):
    shown = printable(name)
    assert shown.isascii() or "\x1b" not in shown
    assert not set(shown) & {chr(i) for i in (*range(32), *range(127, 160), 0x2028, 0x2029, 0x202E)}
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.h5", "plain name.h5"),
        ("größe 大小 µ.h5", "größe 大小 µ.h5"),
        ("[red]x[/red].h5", "[red]x[/red].h5"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\r\u2028c", r"a\nb\r\u2028c"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\u202egnp.h5", r"\u202egnp.h5"),
    ],
)
def test_what_is_shown(name, shown):
    assert printable(name) == shown


def test_lines_of_our_own_stay():
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


@given(names)
def test_a_name_goes_through_toml_and_back(name):
    text = tomlkit.dumps({"data": to_utf8(name)})
    assert from_utf8(tomllib.loads(text.encode().decode())["data"]) == name


def test_a_usual_name_stays_as_it_is_in_toml():
    assert to_utf8("/data/größe/run 7.h5") == "/data/größe/run 7.h5"
    assert to_utf8(os.fsdecode(b"/caf\xe9/x.h5")) == "file:///caf%E9/x.h5"


def test_a_value_that_would_end_its_line_is_refused():
    latin = os.fsdecode(b"/caf\xe9/a b.h5")
    assert one_line_value(latin, "the data file") == latin
    for bad in ("a\nb", "a\rb", "a\u2028b", "a\x1bb", "a\x85b"):
        with pytest.raises(InputError, match="the data file 'a"):
            one_line_value(bad, "the data file")


def test_null_stands_for_what_json_has_no_number_for():
    values = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": ("x", None, True)}
    read = json.loads(to_json(values | {"e": Path("f")}))
    assert read == {"a": None, "b": [1.5, None, {"c": None}], "d": ["x", None, True], "e": "f"}
