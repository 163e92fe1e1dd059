"""``sfx-tuner simulate``: a run as a beamline would write it, with the truth beside it."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.live import play
from tuner.cli.options import json_option, print_json, progress_bar, seed_option
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.streams.faults import parse_faults
from wrappers.streams.protocols import parse_address

if TYPE_CHECKING:
    from envs.simulation.experiment import OddFrames

__all__ = ["command"]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="New directory.")
@click.option("--frames", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--format", type=click.Choice(["hdf5", "cxi"]), default="hdf5", show_default=True)
@click.option(
    "--small", is_flag=True, help="The demonstration's small detector, with its clen 1.5 % off."
)
@click.option("--clen-error", type=float, help="Relative error of the geometry's camera length.")
@click.option("--hit-fraction", type=click.FloatRange(0, 1), help="Share of frames with a crystal.")
@click.option(
    "--odd",
    multiple=True,
    metavar="KIND=SHARE",
    help="Frames that are no ordinary ones, such as 'jet streak=0.1'; any number. Kinds: powder or "
    "ice ring, salt, jet streak, beam off, detector fault.",
)
@click.option(
    "--odd-since",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The first frame that may be an odd one.",
)
@click.option(
    "--stream",
    metavar="URL",
    help="Then play the run there, such as at dectris+tcp://127.0.0.1:31001.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Frames that are played in a second.",
)
@click.option(
    "--loops",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How often the run is played; 0: until Ctrl-C.",
)
@click.option(
    "--compression",
    type=click.Choice(["bslz4", "bszstd", "lz4", "none"]),
    default="bslz4",
    show_default=True,
    help="Of the frames that are played in CBOR.",
)
@click.option(
    "--play",
    "played",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="DATA GEOMETRY",
    help="Play this run and simulate none; leave out -o.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND=VALUE",
    help="Something that goes wrong with what is played, such as drop=0.1 or corrupt=0.1 of the "
    "messages, restart=50 or other=50 (another detector) after so many frames; any number.",
)
@seed_option
@json_option
def command(
    output: Path | None,
    frames: int,
    format: str,
    small: bool,
    clen_error: float | None,
    hit_fraction: float | None,
    odd: tuple[str, ...],
    odd_since: int,
    stream: str | None,
    rate: float,
    loops: int,
    compression: str,
    played: tuple[Path, Path] | None,
    faults: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Simulate a run of a lysozyme-like crystal on a JUNGFRAU-like detector.

    \b
    Example:
      sfx-tuner simulate -o simulated --frames 100 --clen-error 0.01
      sfx-tuner simulate --play run.h5 run.geom --stream dectris+tcp://127.0.0.1:31001
      sfx-tuner simulate -o simulated --stream karabo+tcp://127.0.0.1:45000 --fault corrupt=0.05
    """
    if (output is None) == (played is None):
        raise InputError("give either -o, a directory to simulate into, or --play DATA GEOMETRY")
    if played is not None and stream is None:
        raise InputError("--play lacks where to play to: add --stream URL")
    if faults and stream is None:
        raise InputError("--fault is of what is played: add --stream URL, or leave it out")
    playing = partial(
        play,
        rate=rate,
        loops=loops,
        algorithm=compression.replace("none", ""),
        faults=parse_faults(faults),
        seed=seed,
    )
    if played is not None:
        assert stream is not None
        playing(*played, stream)
        return
    assert output is not None
    if stream is not None:
        parse_address(stream)
    from envs.simulation.simulator import Experiment, demo_experiment, simulate_run

    experiment = demo_experiment(seed) if small else Experiment(seed=seed)
    if clen_error is not None:
        experiment = dataclasses.replace(experiment, clen_error=clen_error)
    if hit_fraction is not None:
        crystals = dataclasses.replace(experiment.crystals, hit_fraction=hit_fraction)
        experiment = dataclasses.replace(experiment, crystals=crystals)
    if odd:
        experiment = dataclasses.replace(experiment, odd=_odd_frames(odd, odd_since))
    with progress_bar("simulating", frames) as show:
        paths = simulate_run(
            experiment, output, frames, format, progress=lambda done, total: show(done)
        )
    if stream is not None:
        playing(paths.data, paths.geometry, stream)
    if as_json:
        print_json({"n_frames": frames, "seed": seed, **dataclasses.asdict(paths)})
        return
    for name, path in dataclasses.asdict(paths).items():
        echo(f"{name:9} {path}")
    echo(f"tune it:  sfx-tuner tune {paths.data} -g {paths.geometry} -p {paths.cell} -o session")


def _odd_frames(asked: tuple[str, ...], first: int) -> OddFrames:
    from envs.simulation.experiment import OddFrames

    shares = []
    for each in asked:
        kind, _, share = each.rpartition("=")
        try:
            shares.append((kind.strip(), float(share)))
        except ValueError:
            raise InputError(
                f"--odd {each} is no kind and share: write one such as 'jet streak=0.1'"
            ) from None
    return OddFrames(tuple(shares), first)
