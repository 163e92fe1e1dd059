"""``sfx-tuner peaks``: a CXI list of the peaks in every frame."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from tuner.cli.options import (
    data_argument,
    force_option,
    geometry_option,
    jobs_option,
    json_option,
    mask_option,
    memory_option,
    open_run,
    print_json,
    progress_bar,
    settings_from,
    settings_options,
    stderr,
    with_bad_pixels,
    within_memory,
)
from tuner.display.terminal import echo
from wrappers.detector.geom_file import slab_geometry_text
from wrappers.errors import UnreadableError
from wrappers.files import write_whole
from wrappers.frames.address import Address
from wrappers.frames.cxi import (
    GEOMETRY_MARK,
    CxiWriter,
    geometry_mark,
    is_geometry_of,
    is_peak_list,
)
from wrappers.frames.linked import files_of_run
from wrappers.outputs import check_outputs, companion
from wrappers.workers.opening import open_pool
from wrappers.workers.pool import batches

__all__ = ["command"]


@click.command()
@data_argument
@geometry_option
@settings_options
@mask_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="CXI file to write; CrystFEL reads it with --peaks=cxi.",
)
@force_option
@jobs_option
@memory_option
@json_option
def command(
    data: Address,
    geometry: Path,
    mask: Path | None,
    output: Path,
    force: bool,
    jobs: int,
    memory: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the peaks in every frame of a run.

    A geometry to read the list with is written beside it. A list of an earlier call is replaced,
    with its geometry if nobody has edited that; anything else only with --force.

    \b
    Example:
      sfx-tuner peaks run.h5 -g run.geom --min-snr 4.5 --threshold 30 -o peaks.cxi
    """
    run = open_run(data, geometry)
    jobs = within_memory(run, jobs, memory)
    written = companion(output, ".geom")
    check_outputs(
        *(output, written),
        inputs=[data, geometry, mask, options["settings"], *files_of_run(run)],
        force=force,
        ours=lambda path: (
            is_peak_list(output) and (path == output or is_geometry_of(written, output))
        ),
    )
    settings = settings_from(options, run)
    run = with_bad_pixels(run, settings, mask, jobs)
    clen_change = settings.clen_change(run.nominal_clen)
    shifts = {f"shift_{axis}": f"{getattr(settings, f'shift_{axis}'):.9f} m" for axis in "xy"}
    geometry_text = slab_geometry_text(run.geometry, **shifts)
    noted = {**settings.as_dict(), GEOMETRY_MARK: geometry_mark(geometry_text)}
    counts, unreadable = [], 0
    with (
        closing(
            open_pool(run, None, range(len(run)), jobs, memory=0, finder=settings.peak_finder)
        ) as pool,
        CxiWriter(output, attributes=noted, sources=True) as writer,
        progress_bar("finding peaks", len(run)) as show,
    ):
        for frames in batches(len(run), jobs):
            for index, found in pool.search(frames, [settings]).items():
                if found.failure:
                    stderr.print(f"left out: {found.failure}", markup=False, highlight=False)
                    unreadable += 1
                    continue
                file, event = run.name(index)
                source = (os.path.abspath(file), event)
                (pattern,) = found.patterns
                length = pattern.camera_length + clen_change
                writer.append(pattern.peaks, pattern.photon_energy, length, source=source)
                counts.append(len(pattern.peaks))
            show(frames[-1] + 1)
        if not counts:
            raise UnreadableError(f"none of the {len(run)} frames can be read: {found.failure}")
    write_whole(written, geometry_text)
    hits = sum(count >= settings.min_peaks for count in counts)
    median = float(np.median(counts)) if counts else 0.0
    if as_json:
        print_json(
            {
                "settings": settings.as_dict(),
                "n_frames": len(run),
                "n_unreadable": unreadable,
                "n_hits": hits,
                "n_peaks": sum(counts),
                "median_peaks": median,
                "output": str(output),
                "geometry": str(written),
            }
        )
        return
    echo(
        f"{sum(counts)} peaks in {len(counts)} frames, {median:g} in the median frame; "
        f"{hits} frames with at least {settings.min_peaks}"
        + (f"; {unreadable} frames cannot be read" if unreadable else "")
        + "\n"
        f"written: {output}, and {written} to read it with"
    )
