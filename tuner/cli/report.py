"""``sfx-tuner report``: a session's report, made anew."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tuner.cli.options import force_option, json_option, print_json
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.frames.linked import files_named, masks_named
from wrappers.outputs import check_outputs

__all__ = ["command"]


@click.command()
@click.argument("session", type=click.Path(path_type=Path), metavar="SESSION")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="HTML file to write.  [default: report.html of the session]",
)
@force_option
@json_option
def command(session: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Make the report of a finished or interrupted session anew.

    The report is one file that needs no network. Its pictures of frames need the run's files
    where the session found them.

    \b
    Example:
      sfx-tuner report session -o report.html
    """
    from tuner.recommendation import read_recommendation
    from tuner.report import write_report
    from tuner.session.store import SessionStore

    store = SessionStore.open(session)
    if not store.trials:
        raise InputError(f"{session} has measured nothing yet: run or resume it first")
    recommended = session / "recommended.toml"
    recommendation = read_recommendation(recommended) if recommended.exists() else None
    own = session / "report.html"
    path = output or own
    # Its own report is made anew, by whatever name.
    if os.path.realpath(path) != os.path.realpath(own):
        data, geometry, cell = (
            Path(getattr(store.config, key)) for key in ("data", "geometry", "cell")
        )
        read = [session, *files_named(data), geometry, *masks_named(geometry), cell]
        check_outputs(path, inputs=read, force=force)
    write_report(store, recommendation, path)
    if as_json:
        print_json({"report": path, "bytes": path.stat().st_size, "trials": len(store.trials)})
        return
    echo(f"written: {path}")
