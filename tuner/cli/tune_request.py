"""What the options of ``sfx-tuner tune`` ask for, alone or beside an earlier session's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from envs.parameter_space import usually_tuned
from tuner.cli.box import parse_ranges, parse_start, parse_values
from tuner.cli.options import indexer_choice
from tuner.session.budget import Budget
from tuner.session.config import SessionConfig
from tuner.session.request import Request, begun_with
from wrappers.errors import InputError

__all__ = ["FREE_TO_CHANGE", "asked", "asked_like", "given", "others_given", "resumed"]

FREE_TO_CHANGE = {
    *("resume", "evaluations", "minutes", "jobs", "memory", "cluster", "dashboard", "as_json"),
    *("cell_check", "stop_early"),
}
"""Options that may differ when a session is resumed."""

OF_INDEXER = ("indexer", "method", "effort", "timeout")


def given(name: str) -> bool:
    """Whether the option of a parameter of the command stands on its command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not click.core.ParameterSource.DEFAULT


def others_given(free: set[str]) -> str:
    """Return the options that are given beside those of some parameters, to be named."""
    command = click.get_current_context().command
    options = [p for p in command.params if isinstance(p, click.Option)]
    return ", ".join(p.opts[0] for p in options if p.name and p.name not in free and given(p.name))


def resumed(session: Path, options: Mapping[str, Any]) -> tuple[Request, Budget]:
    """Return what a session was begun with, and the budget that it goes on with.

    Raises
    ------
    InputError
        If options say what the session says already.
    """
    others = others_given(FREE_TO_CHANGE)
    if others:
        raise InputError(
            f"--resume {session} goes on as the session was begun: leave out {others}, or begin "
            "another session"
        )
    request, budget = begun_with(SessionConfig.read(session / "session.json"))
    if given("stop_early"):
        request = replace(request, stop_early=options["stop_early"])
    return request, _budget(options) or budget


def asked(options: Mapping[str, Any]) -> tuple[Request, Budget]:
    """Return what the options ask for."""
    return Request(**_fields(options)), _budget(options) or Budget.of(None, None)


def asked_like(earlier: Path, options: Mapping[str, Any]) -> tuple[Request, Budget]:
    """Return what an earlier session was asked for, but with another run and the options given.

    What it recommends is the start.

    Parameters
    ----------
    earlier : Path
        Its directory.
    options : mapping
    """
    request, budget = begun_with(SessionConfig.read(earlier / "session.json"))
    fields = _fields(options)
    names = {"frames": "n_frames"}
    changes = {
        names.get(name, name): fields[names.get(name, name)]
        for name in options
        if names.get(name, name) in fields and given(name)
    }
    fixed, bounds = fields["fixed"], fields["bounds"]
    if "tuned" not in changes:
        other = changes.get("peak_finder", request.peak_finder) != request.peak_finder
        tuned = usually_tuned(peak_finder=changes["peak_finder"]) if other else request.tuned
        kept = [name for name in tuned if name not in fixed]
        changes["tuned"] = (*kept, *(name for name in bounds if name not in kept))
    tuned = changes["tuned"]
    changes["fixed"] = {
        name: value for name, value in {**request.fixed, **fixed}.items() if name not in tuned
    }
    changes["bounds"] = {
        name: ends for name, ends in {**request.bounds, **bounds}.items() if name in tuned
    } | bounds
    indexer = {name: options[name] for name in OF_INDEXER if given(name)}
    if "indexer" in indexer:
        indexer["name"] = indexer.pop("indexer")
    changes["indexer"] = replace(request.indexer, **indexer)
    if "start" not in changes:
        changes["start"] = parse_start(str(earlier))
    return replace(request, **changes), _budget(options) or budget


def _budget(options: Mapping[str, Any]) -> Budget | None:
    """Return the budget that is given, or None."""
    if options["evaluations"] is None and options["minutes"] is None:
        return None
    return Budget(options["evaluations"], options["minutes"])


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Request`."""
    fixed, bounds = parse_values(options["fixed"]), parse_ranges(options["bounds"])
    tuned = tuple(name.strip() for name in options["tuned"].split(","))
    if not given("tuned"):
        tuned = usually_tuned(fixed, bounds, options["peak_finder"])
    same = ("data", "geometry", "cell", "searcher", "peak_finder", "clen_range", "seed")
    return {
        **{name: options[name] for name in (*same, "stop_early", "policy", "sampling")},
        "n_frames": options["frames"],
        "tuned": tuned,
        "fixed": fixed,
        "bounds": bounds,
        "start": None if options["start"] is None else parse_start(options["start"]),
        "indexer": indexer_choice({name: options[name] for name in OF_INDEXER}),
    }
