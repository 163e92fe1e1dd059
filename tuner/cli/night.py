"""``sfx-tuner tune NIGHT.toml``: the sessions of several samples, one after the other."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import print_json, stderr
from tuner.cli.tune_request import FREE_TO_CHANGE
from tuner.session.config import SessionConfig
from wrappers.errors import ContradictedError, InputError, ProgramError
from wrappers.files import is_of_the_disk, mend
from wrappers.frames.address import is_address
from wrappers.reading import open_regular

__all__ = ["Sample", "is_night", "read_night", "tune_night"]

NOT_IN_ROWS = ("resume", "dashboard", "cluster", "json", "help")
"""Options that are of the whole night, or of none of its samples."""

BY_SETTING = ("set", "range")
"""Options that say something of several settings."""

LARGEST = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One row of a night: what `tune` is called with.

    Attributes
    ----------
    output : Path
        The session's directory.
    arguments : tuple of str
        As on the command line, for a session that has not begun.
    free : tuple of str
        Those of them that may be given with ``--resume``.
    inputs : mapping of str to str
        The run, geometry and cell that it names, as a session keeps them.
    """

    output: Path
    arguments: tuple[str, ...]
    free: tuple[str, ...]
    inputs: Mapping[str, str]


def is_night(data: object) -> bool:
    """Return whether what is to be tuned is a night's file."""
    return isinstance(data, Path) and data.suffix.lower() == ".toml"


def read_night(path: Path, command: click.Command) -> list[Sample]:
    """Return the samples of a night's file.

    Its table ``[all]`` holds for every ``[[sample]]`` that does not say otherwise; ``set`` and
    ``range`` count setting by setting. Keys are the options of `command`, without
    the dashes, and ``run``; names of files are relative to the night's file.

    Parameters
    ----------
    path : Path
    command : click.Command
        ``sfx-tuner tune``.

    Raises
    ------
    InputError
        If the file is no such table, or a sample lacks something or has what `command` refuses.
    """
    try:
        with open_regular(path, "the night's file") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes: no night has so many samples")
        night = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML file ({error}): mend it") from None
    for key in night:
        if key not in ("all", "sample"):
            raise InputError(f"{path}: {key!r} is neither [all] nor [[sample]]: put it into one")
    usual, rows = night.get("all", {}), night.get("sample", [])
    if not isinstance(usual, dict) or not isinstance(rows, list) or not rows:
        raise InputError(f"{path} has no sample: give each a table [[sample]] with run and output")
    samples: dict[Path, Sample] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}, sample {number}"
        if not isinstance(row, dict):
            raise InputError(f"{where} is no table: write [[sample]] above it")
        sample = _sample(_over(usual, row), command, path.absolute().parent, where)
        place = Path(os.path.realpath(sample.output))
        if place in samples:
            raise InputError(f"{where}: an earlier sample has the output {sample.output}, too")
        samples[place] = sample
    return [*samples.values()]


def _over(usual: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with what holds for all; of what is set, each setting by itself."""
    both = {**usual, **row}
    for key in BY_SETTING:
        if key in usual and key in row:
            both[key] = {**_by_setting(usual[key]), **_by_setting(row[key])}
    return both


def _by_setting(value: Any) -> dict[str, Any]:
    """Return what is given for settings, by their names, however it is written."""
    if isinstance(value, dict):
        return value
    pairs = (pair.partition("=") for pair in _text(value, ",").split(","))
    return {name.strip(): text.strip() for name, _, text in pairs}


def _sample(row: Mapping[str, Any], command: click.Command, folder: Path, where: str) -> Sample:
    options = {
        flag.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
        if flag.startswith("--") and flag.removeprefix("--") not in NOT_IN_ROWS
    }
    arguments: list[str] = []
    free: list[str] = []
    row = {key.replace("_", "-"): value for key, value in row.items()}
    for key in ("run", "output"):
        if not isinstance(row.get(key), str):
            raise InputError(f'{where} names no {key}: write {key} = "…"')
    run = row.pop("run")
    output = folder / row["output"]
    for key, value in row.items():
        if key not in options:
            raise InputError(
                f"{where}: {key} is no option of tune; choose from run, {', '.join(options)}"
            )
        words = _arguments(key, value, options[key], folder, where)
        arguments += words
        if options[key].name in FREE_TO_CHANGE:
            free += words
    # What follows -- is no option, whatever a file is called.
    arguments += ["--", run if is_address(run) else str(folder / run)]
    try:
        command.make_context(command.name, [*arguments]).close()
    except click.UsageError as error:
        raise InputError(f"{where}: {error.format_message()}") from None
    named = {name: str(row[name]) for name in ("geometry", "cell") if name in row} | {"data": run}
    inputs = {
        name: value if is_address(value) else str((folder / value).resolve())
        for name, value in named.items()
    }
    return Sample(output, tuple(arguments), tuple(free), inputs)


def _arguments(key: str, value: Any, option: click.Option, folder: Path, where: str) -> list[str]:
    """Return an option as on the command line."""
    if isinstance(value, bool):
        if not option.is_flag:
            raise InputError(f"{where}: {key} is {str(value).lower()}, but takes a value")
        # A key may be the flag that says no.
        flags = option.opts if value == (f"--{key}" in option.opts) else option.secondary_opts
        return flags[:1]
    if option.is_flag:
        raise InputError(f"{where}: {key} is {value!r}, but must be true or false")
    if isinstance(value, dict):
        pairs = (f"{name}={_text(one, ':')}" for name, one in value.items())
        return [f"--{key}", ",".join(pairs)]
    text = _text(value, ",")
    named = isinstance(option.type, click.Path) or (key == "start" and "=" not in text)
    return [f"--{key}", str(folder / text) if named else text]


def _text(value: Any, between: str) -> str:
    return between.join(map(str, value)) if isinstance(value, list) else str(value)


def tune_night(
    path: Path,
    samples: Sequence[Sample],
    command: click.Command,
    further: Sequence[str],
    as_json: bool,
) -> int:
    """Run each sample's session, or what is left of it; return the exit code of the worst.

    A sample that cannot be tuned is told, and the next one is begun.

    Parameters
    ----------
    path : Path
        The night's file.
    samples : sequence of Sample
    command : click.Command
    further : sequence of str
        Options for every sample, as on the command line.
    as_json : bool
        Print one document in the end, of what became of each.
    """
    # Only now: whoever asks for help should not wait for its import.
    from wrappers.workers.worker_processes import kept_workers

    results: list[dict[str, Any]] = []
    with kept_workers():
        for number, sample in enumerate(samples, start=1):
            stderr.print(
                f"sample {number} of {len(samples)}: {sample.output}",
                style="bold",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            try:
                code, why = _tune_sample(sample, command, further, as_json)
            except (KeyboardInterrupt, click.Abort):
                stderr.print(f"sfx-tuner tune {path} goes on with the night", markup=False)
                raise
            if why:
                stderr.print(f"sfx-tuner: {why}", markup=False, highlight=False, soft_wrap=True)
            results.append({"session": str(sample.output), "exit_code": code, "why": why})
    failed = [each for each in results if each["exit_code"]]
    if as_json:
        print_json(results)
    else:
        stderr.print(f"{len(results) - len(failed)} of {len(results)} samples tuned", style="bold")
        for each in failed:
            stderr.print(
                f"{each['session']}: {each['why']}", markup=False, highlight=False, soft_wrap=True
            )
    return max((each["exit_code"] for each in results), default=0)


def _tune_sample(
    sample: Sample, command: click.Command, further: Sequence[str], as_json: bool
) -> tuple[int, str]:
    """Run a sample's session, or what is left of it; return the exit code, and why it is not 0."""
    with ExitStack() as stack:
        if as_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        try:
            if (ended := _end(sample)) is not None:
                stderr.print("has been tuned before", style="dim")
                return ended
            arguments = [*further, *_still_to_do(sample)]
            command.main(arguments, "sfx-tuner tune", standalone_mode=False)
        except (InputError, ProgramError) as error:
            return error.exit_code, str(error)
        except click.UsageError as error:
            return 2, error.format_message()
        except OSError as error:
            if not is_of_the_disk(error):
                raise
            return 2, f"{error.filename or 'a file'}: {error.strerror}; {mend(error)}"
    return 0, ""


def _end(sample: Sample) -> tuple[int, str] | None:
    """Return how a session ended that was confirmed, as the exit code and why; None for others.

    Raises
    ------
    InputError
        If the session is of other files than the sample.
    """
    from tuner.recommendation import read_recommendation

    session = sample.output
    if (session / "session.json").exists():
        config = SessionConfig.read(session / "session.json")
        for name, value in sample.inputs.items():
            if getattr(config, name) != value:
                raise InputError(
                    f"{session} is a session with {getattr(config, name)}, not with {value}: give "
                    "the sample another output"
                )
    if not (session / "recommended.toml").exists():
        return None
    found = read_recommendation(session)
    if found.unconfirmed or "ended_by" in found.provenance:
        return None
    if found.evidence.get("cell_check") == "contradicted":
        return ContradictedError.exit_code, str(found.evidence.get("cell_check_reason", ""))
    return 0, ""


def _still_to_do(sample: Sample) -> list[str]:
    """Return what begins a sample's session, or goes on with it."""
    if (sample.output / "session.json").exists():
        return ["--resume", str(sample.output), *sample.free]
    return [*sample.arguments]
