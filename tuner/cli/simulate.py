"""``sfx-tuner simulate``: a run as a beamline would write it, with the truth beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from tuner.cli.options import json_option, print_json, progress_bar, seed_option
from tuner.display.terminal import echo

__all__ = ["command"]


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="New directory."
)
@click.option("--frames", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--format", type=click.Choice(["hdf5", "cxi"]), default="hdf5", show_default=True)
@click.option(
    "--small", is_flag=True, help="The demonstration's small detector, with its clen 1.5 % off."
)
@click.option("--clen-error", type=float, help="Relative error of the geometry's camera length.")
@click.option("--hit-fraction", type=click.FloatRange(0, 1), help="Share of frames with a crystal.")
@seed_option
@json_option
def command(
    output: Path,
    frames: int,
    format: str,
    small: bool,
    clen_error: float | None,
    hit_fraction: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Simulate a run of a lysozyme-like crystal on a JUNGFRAU-like detector.

    \b
    Example:
      sfx-tuner simulate -o simulated --frames 100 --clen-error 0.01
    """
    from envs.simulation.simulator import Experiment, demo_experiment, simulate_run

    experiment = demo_experiment(seed) if small else Experiment(seed=seed)
    if clen_error is not None:
        experiment = dataclasses.replace(experiment, clen_error=clen_error)
    if hit_fraction is not None:
        crystals = dataclasses.replace(experiment.crystals, hit_fraction=hit_fraction)
        experiment = dataclasses.replace(experiment, crystals=crystals)
    with progress_bar("simulating", frames) as show:
        paths = simulate_run(
            experiment, output, frames, format, progress=lambda done, total: show(done)
        )
    if as_json:
        print_json({"n_frames": frames, "seed": seed, **dataclasses.asdict(paths)})
        return
    for name, path in dataclasses.asdict(paths).items():
        echo(f"{name:9} {path}")
    echo(f"tune it:  sfx-tuner tune {paths.data} -g {paths.geometry} -p {paths.cell} -o session")
