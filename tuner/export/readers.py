"""Reading the settings of a peak search out of other programs' files, a function a program.

They are the inverse of `tuner.export.formats`. Each is given the text of a file that may be
anything, and returns the settings that it names, by field, or None where it is another program's.
Nothing in a file is ever run: a command line is cut into words as a shell would, and no more.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from tuner.export.formats import NAMES
from wrappers.crystfel.options import NO_LIMIT
from wrappers.errors import InputError
from wrappers.peak_finders import PEAK_FINDERS
from wrappers.settings import ABOUT, WHOLE_FIELDS

__all__ = [
    "Given",
    "read_cheetah",
    "read_crystfel",
    "read_json",
    "read_om",
    "read_project",
    "read_xwiz",
]

Given = dict[str, Any]
"""Settings by field, as far as a file names them."""

ENDS_OF_COMMAND = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"}
CHEETAH_PEAKFINDER8 = 8


def read_crystfel(text: str) -> Given | None:
    """Read the options of the last ``indexamajig`` command of a script, a note or a stream."""
    commands = [words for line in _logical_lines(text) if (words := _command(line)) is not None]
    return _of_options(commands[-1]) if commands else None


def read_project(text: str) -> Given | None:
    """Read a project of CrystFEL's graphical program: a key, a space and a value a line."""
    pairs = [line.split(" ", 1) for line in text.splitlines() if " " in line.strip()]
    values = {key.strip(): value.strip() for key, value in pairs}
    if not any(key.startswith("peak_search_params.") for key in values):
        return None
    return _by_field(values, NAMES["project"])


def read_xwiz(text: str) -> Given | None:
    """Read an EXtra-Xwiz configuration, of before or after September 2023."""
    document = _toml(text)
    blocks = [document.get(name) for name in ("indexamajig_run", "proc_coarse")]
    block = next((block for block in blocks if isinstance(block, dict)), None)
    if block is None:
        return None
    extra = block.get("extra_options", "")
    options = _of_options(_words(extra) or []) if isinstance(extra, str) else {}
    return {**_by_field(block, NAMES["xwiz"]), **options}


class _PlainYAML(yaml.SafeLoader):
    """YAML without merged keys (``<<``): a few lines of those may come to gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("merged keys are not read")


def read_om(text: str) -> Given | None:
    """Read an OM (OnDA) configuration, which wants one peak more than it says."""
    try:
        document = yaml.load(text, _PlainYAML)
    except Exception:  # of a value that is not what its tag says, it may be any
        return None
    block = document.get("peakfinder8_peak_detection") if isinstance(document, dict) else None
    if not isinstance(block, dict):
        return None
    values = _by_field(block, NAMES["om"])
    group = document.get("crystallography")
    least = group.get("min_num_peaks_for_hit") if isinstance(group, dict) else None
    if least is not None:
        values["min_peaks"] = _number("min_num_peaks_for_hit", "min_peaks", least) + 1
    return values


def read_cheetah(text: str) -> Given | None:
    """Read a Cheetah configuration; resolution limits in Å are left out."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = re.split("[#;]", line, maxsplit=1)[0].partition("=")
        if equals:
            values[key.strip().lower()] = value.strip()
    if not any(key.startswith("hitfinder") for key in values):
        return None
    algorithm = values.get("hitfinderalgorithm", str(CHEETAH_PEAKFINDER8))
    if algorithm != str(CHEETAH_PEAKFINDER8):
        raise InputError(
            f"hitfinderAlgorithm is {algorithm}, but only 8 is peakfinder8: give the settings "
            "themselves, such as min_snr=5,threshold=60"
        )
    found = _by_field(values, {field: name.lower() for field, name in NAMES["cheetah"].items()})
    if values.get("hitfinderresolutionunitpixel", "0") != "1":
        found.pop("min_res", None)
        found.pop("max_res", None)
    return found


def read_json(text: str) -> Given | None:
    """Read what ``export --to json`` wrote."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = document.get("settings") if isinstance(document, dict) else None
    return dict(values) if isinstance(values, dict) else None


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _logical_lines(text: str) -> Iterator[str]:
    """Yield lines, with those that a backslash continues in one."""
    yield from re.sub(r"\\\r?\n", " ", text).splitlines()


def _words(line: str) -> list[str] | None:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return None


def _command(line: str) -> list[str] | None:
    """Return the arguments of the ``indexamajig`` in a line, or None."""
    if "indexamajig" not in line:
        return None
    words = _words(line) or []
    places = [n for n, word in enumerate(words) if word.rpartition("/")[2] == "indexamajig"]
    if not places:
        return None
    arguments = []
    for word in words[places[-1] + 1 :]:
        if word in ENDS_OF_COMMAND:
            break
        arguments.append(word)
        if word.endswith(";"):
            break
    # A name in a sentence, or in an installation's path, is no command.
    return arguments if any(word.startswith("-") for word in arguments) else None


def _of_options(words: Iterable[str]) -> Given:
    fields = {about.option: name for name, about in ABOUT.items() if about.option}
    given: Given = {}
    waiting = ""
    for word in words:
        if waiting and not word.startswith("--"):
            given[waiting] = _value(f"--{ABOUT[waiting].option}", waiting, word.rstrip(";"))
            waiting = ""
            continue
        waiting = ""
        name, equals, value = word.removeprefix("--").partition("=")
        field = fields.get(name) if word.startswith("--") else None
        if field is None:
            continue
        if equals:
            given[field] = _value(f"--{name}", field, value.rstrip(";"))
        else:
            waiting = field
    return given


def _by_field(values: Mapping[str, Any], names: Mapping[str, str]) -> Given:
    return {
        field: _value(name, field, values[name])
        for field, name in names.items()
        if name and name in values
    }


def _value(name: str, field: str, value: Any) -> Any:
    """Return a setting's value as we have it; `name` is what the file calls it."""
    if field == "peak_finder":
        kinds = [kind for kind in PEAK_FINDERS.names() if PEAK_FINDERS.get(kind).in_crystfel]
        if value not in kinds:
            raise InputError(
                f"{name} is {_shown(value)}, but only {', '.join(kinds)} can be compared with: "
                "give the settings themselves, such as min_snr=5,threshold=60"
            )
        return value
    return _number(name, field, value)


def _number(name: str, field: str, value: Any) -> float | int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        # CrystFEL drops what follows the point of a whole number.
        whole = int(number) if field in WHOLE_FIELDS else number
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"{name} is {_shown(value)}, but must be a number (variables are not looked up)"
        ) from None
    return 0 if ABOUT[field].zero and whole >= NO_LIMIT else whole


def _shown(value: Any) -> str:
    # Whole numbers of thousands of digits cannot be written.
    return (
        "far too large" if isinstance(value, int) and abs(value) > 1e18 else repr(str(value)[:40])
    )
