"""``sfx-tuner apply``: the recommended set, fed back to the reduction core."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tuner.cli.options import (
    data_argument,
    jobs_option,
    json_option,
    open_run,
    print_json,
    progress_bar,
    require_directory_for,
    stderr,
)
from tuner.recommendation import applied_settings, read_recommendation, session_geometry

__all__ = ["command"]


@click.command(short_help="Write the hits of a run, found with the recommended set.")
@click.argument("recommended", type=click.Path(path_type=Path), metavar="RECOMMENDED")
@data_argument
@click.option(
    "-g",
    "--geometry",
    type=click.Path(path_type=Path),
    help="Geometry file.  [default: the session's]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="CXI file to write."
)
@jobs_option
@json_option
def command(
    recommended: Path, data: Path, geometry: Path | None, output: Path, jobs: int, as_json: bool
) -> None:
    """Find peaks with the recommended set, drop the non-hits, write the hits.

    RECOMMENDED is a recommended.toml or the directory of a session. The hits go to a CXI file
    with their peak lists, and a geometry file for it beside it.

    \b
    Example:
      sfx-tuner apply session run.h5 -o hits.cxi
    """
    import hdf5plugin

    from wrappers.peakfinding.peakfinder8 import PeakFinder
    from wrappers.reduction import reduce_run

    recommendation = read_recommendation(recommended)
    require_directory_for(output)
    run, read = open_run(data, session_geometry(recommendation, geometry))
    settings = applied_settings(recommendation, run.nominal_clen)
    started = time.perf_counter()
    with progress_bar("reducing", len(run)) as show:
        reduction = reduce_run(
            run,
            PeakFinder(read),
            settings,
            output,
            jobs=jobs,
            progress=lambda done, hits: show(done),
        )
    seconds = time.perf_counter() - started
    for sentence in reduction.unreadable:
        stderr.print(f"left out: {sentence}", markup=False, highlight=False)
    if as_json:
        print_json(
            {
                "settings": settings.as_dict(),
                "n_frames": reduction.n_frames,
                "n_unreadable": len(reduction.unreadable),
                "n_hits": reduction.n_hits,
                "seconds": seconds,
                "output": str(reduction.hits),
                "geometry": str(reduction.geometry),
            }
        )
        return
    factor = f", 1 in {reduction.n_frames / reduction.n_hits:.1f}" if reduction.n_hits else ""
    click.echo(
        f"{reduction.n_hits} hits in {reduction.n_frames} frames{factor}; "
        f"{reduction.n_frames / seconds:.0f} frames/s\n"
        f"written: {reduction.hits} and {reduction.geometry}\n"
        "CrystFEL reads them with\n"
        f"  HDF5_PLUGIN_PATH={hdf5plugin.PLUGIN_PATH} \\\n"
        f"  indexamajig --peaks=cxi --no-revalidate -g {reduction.geometry} …"
    )
