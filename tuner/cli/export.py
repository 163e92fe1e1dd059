"""``sfx-tuner export``: the recommended set for another program."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.exporters import crystfel_script, export_geometry, write_script
from tuner.recommendation import read_recommendation

__all__ = ["command"]


@click.command(short_help="Write the recommended set for another program.")
@click.argument("recommended", type=click.Path(path_type=Path), metavar="RECOMMENDED")
@click.option(
    "--to",
    "target",
    type=click.Choice(["crystfel", "geom"]),
    required=True,
    help="crystfel: a script and its geometry; geom: the geometry alone.",
)
@click.option(
    "-g",
    "--geometry",
    type=click.Path(path_type=Path),
    help="Geometry file to change.  [default: the session's]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write.  [default: recommended.sh or recommended.geom]",
)
def command(recommended: Path, target: str, geometry: Path | None, output: Path | None) -> None:
    """Write the recommended settings for another program.

    RECOMMENDED is a recommended.toml or the directory of a session.

    \b
    Example:
      sfx-tuner export session --to geom -o tuned.geom
    """
    recommendation = read_recommendation(recommended)
    if target == "geom":
        path = output or Path("recommended.geom")
        export_geometry(recommendation, path, geometry)
        click.echo(f"written: {path}")
        return
    path = output or Path("recommended.sh")
    tuned = path.with_suffix(".geom")
    export_geometry(recommendation, tuned, geometry)
    write_script(crystfel_script(recommendation, tuned.resolve()), path)
    click.echo(f"written: {path} and {tuned}")
