"""The door of the program's own text files: what fits comes in, what does not is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wrappers.errors import InputError
from wrappers.schema import (
    Count,
    Number,
    Share,
    read_json,
    read_json_lines,
    read_json_text,
    read_toml,
)

REMEDY = "make it anew"


@dataclass(frozen=True)
class Shelf:
    number: Count
    share: Share = 0.5
    marks: tuple[tuple[str, Number], ...] = ()
    others: dict[str, Number] = field(default_factory=dict)


def test_what_fits_comes_in(tmp_path):
    path = tmp_path / "shelf.json"
    path.write_bytes(
        b'\xef\xbb\xbf{"number": 3, "marks": [["caf\\udce9", 1]], "others": {"a": -2.5}}'
    )
    shelf = read_json(path, Shelf, "the shelf", REMEDY)
    assert shelf == Shelf(3, 0.5, (("caf\udce9", 1.0),), {"a": -2.5})
    (tmp_path / "shelf.toml").write_text('number = 3\nmarks = [["a", 1]]\n')
    assert read_toml(tmp_path / "shelf.toml", Shelf, "the shelf", REMEDY).marks == (("a", 1.0),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ('{"number": 1', "is not JSON"),
        ("null", "it is None, but must be a table of fields"),
        ("[]", "must be a table of fields"),
        ('{"share": 0.5}', "number is missing"),
        ('{"number": 1, "nummer": 2}', "nummer is no field that this version knows"),
        ('{"number": "many"}', "number is 'many', but must be a whole number"),
        ('{"number": 1.5}', r"number is 1\.5, but must be a whole number"),
        ('{"number": -1}', "number is -1, but must be greater than or equal to 0"),
        (f'{{"number": {10**40}}}', "number is 1000000000000000"),
        ('{"number": 1, "share": NaN}', "share is nan"),
        ('{"number": 1, "share": 1e300}', r"share is 1e\+300"),
        (
            '{"number": 1, "marks": [["a", 1], ["b", []]]}',
            r"marks\[1\]\[1\] is \[\], but must be a n",
        ),
        ('{"number": 1, "others": {"x": Infinity}}', r"others\.x is inf"),
        (f'{{"number": {"[" * 100 + "]" * 100}}}', "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "is not JSON"),
    ],
)
def test_what_does_not_fit_is_told_with_its_field(text, sentence):
    with pytest.raises(InputError, match=sentence) as told:
        read_json_text(text, Shelf, "shelf.json", REMEDY)
    assert str(told.value).startswith("shelf.json is damaged")
    assert str(told.value).endswith(f"; {REMEDY}")
    assert len(str(told.value)) < 400


def test_bytes_of_another_encoding_are_told(tmp_path):
    path = tmp_path / "shelf.json"
    for content in (b'{"number": "\xff"}', bytes(100)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"shelf\.json is damaged"):
            read_json(path, Shelf, "the shelf", REMEDY)


def test_what_is_no_file_on_a_disk_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        for read in (read_json, read_toml, read_json_lines):
            with pytest.raises(InputError, match="the shelf"):
                read(path, Shelf, "the shelf", REMEDY)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "shelf.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="far too large"):
        read_json(path, Shelf, "the shelf", REMEDY)


def test_a_damaged_line_is_told_by_its_number_and_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "shelves.jsonl"
    path.write_text('{"number": 0}\n{"number": 1}\n{"num')
    assert [each.number for each in read_json_lines(path, Shelf, "the shelf", REMEDY)] == [0, 1]
    assert path.read_text().endswith('{"num')
    read_json_lines(path, Shelf, "the shelf", REMEDY, mend=True)
    assert path.read_text() == '{"number": 0}\n{"number": 1}\n'
    path.write_text('{"number": 0}\n{"number": "x"}\n{"num')
    with pytest.raises(InputError, match=r"shelves\.jsonl, line 2 is damaged: number is 'x'"):
        read_json_lines(path, Shelf, "the shelf", REMEDY, mend=True)
    assert path.read_text().endswith('{"num'), "nothing is dropped from what is damaged"


def test_importing_the_front_door_waits_for_no_schema():
    code = (
        "import sfx_tuner, sys; from sfx_tuner import Settings; sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
