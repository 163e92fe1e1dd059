"""``sfx-tuner export``: the recommended set for another program."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.options import RegistryChoice, force_option, json_option, print_json
from tuner.display.terminal import echo
from tuner.export.exporters import TARGETS, write_export
from tuner.recommendation import read_recommendation
from wrappers.crystfel.options import search_arguments

__all__ = ["command"]


@click.command()
@click.argument("recommended", type=click.Path(path_type=Path), metavar="RECOMMENDED")
@click.option(
    "--to",
    "target",
    type=RegistryChoice(TARGETS),
    required=True,
    help="; ".join(f"{name}: {each.words}" for name, each in TARGETS.items()) + ".",
)
@click.option(
    "--format-version",
    type=click.Choice(["new", "old"]),
    default="new",
    show_default=True,
    help="old: xwiz before September 2023 (block proc_coarse), om up to 23.x.",
)
@click.option(
    "-g",
    "--geometry",
    type=click.Path(path_type=Path),
    help="Geometry file to change.  [default: the session's]",
)
@click.option(
    "-p", "--cell", type=click.Path(path_type=Path), help="Unit cell.  [default: the session's]"
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write; a geometry goes beside it.  [default: recommended.*]",
)
@force_option
@json_option
def command(
    recommended: Path,
    target: str,
    format_version: str,
    geometry: Path | None,
    cell: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the recommended settings for another program.

    RECOMMENDED is a recommended.toml or the directory of a session. What the other program
    cannot hold is said on stderr and in the file.

    \b
    Example:
      sfx-tuner export session --to crystfel -o index.sh
    """
    recommendation = read_recommendation(recommended)
    chosen = TARGETS.get(target)
    path = output or Path(chosen.file)
    files, notes = write_export(
        recommendation,
        chosen,
        path,
        geometry=geometry,
        cell=cell,
        old=format_version == "old",
        inputs=[recommended],
        replace=force,
    )
    for note in notes:
        echo(f"note: {note}", err=True)
    if as_json:
        print_json({"target": target, "files": files, "notes": notes})
        return
    if chosen.prints_options:
        echo(" ".join(search_arguments(recommendation.settings)))
    echo(f"written: {' and '.join(map(str, files))}")
