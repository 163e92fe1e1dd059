"""``sfx-tuner mask``: a bad-pixel mask from the frames themselves."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from tuner.cli.options import (
    data_argument,
    force_option,
    geometry_option,
    jobs_option,
    json_option,
    open_run,
    print_json,
    progress_bar,
    stderr,
)
from tuner.display.terminal import echo
from wrappers.frames.address import Address, is_address
from wrappers.frames.linked import files_of_run
from wrappers.outputs import check_outputs
from wrappers.settings import ABOUT, Settings
from wrappers.text import to_utf8

__all__ = ["command"]

MANY_CLUSTERED = 0.5
"""Share of hot and noisy pixels with a neighbour of that kind: true ones are mostly alone."""


def _threshold(kind: str, meaning: str):  # type: ignore[no-untyped-def]
    return click.option(
        f"--{kind}-sigma",
        type=click.FloatRange(min=0),
        default=ABOUT[f"mask_{kind}_sigma"].start,
        show_default=True,
        help=f"Mask pixels that are so many robust σ {meaning} (0: none).",
    )


@click.command()
@data_argument
@geometry_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="HDF5 file to write: /mask, 0 good.",
)
@_threshold("hot", "brighter than their neighbours")
@_threshold("noisy", "more restless than their neighbours")
@_threshold("dead", "fainter, stiller or less responsive than their neighbours")
@click.option(
    "--edge",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Mask so many pixels along each panel's rim.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=10),
    default=200,
    show_default=True,
    help="Frames to look at, evenly spread over the run.",
)
@click.option(
    "--geometry-out",
    type=click.Path(path_type=Path),
    help="Write a copy of the geometry that uses the mask, too.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the mask (.png, .pdf …).")
@jobs_option
@force_option
@json_option
def command(
    data: Address,
    geometry: Path,
    output: Path,
    hot_sigma: float,
    noisy_sigma: float,
    dead_sigma: float,
    edge: int,
    frames: int,
    geometry_out: Path | None,
    picture: Path | None,
    jobs: int,
    force: bool,
    as_json: bool,
) -> None:
    """Find the bad pixels of a run: hot, noisy and dead ones.

    No settings need be known. The mask holds the geometry's own masks too, and the file the
    map of robust σ from which --mask of other commands takes a mask at any thresholds.

    \b
    Example:
      sfx-tuner mask run.h5 -g run.geom -o mask.h5 --geometry-out masked.geom --picture mask.png
    """
    from tuner.display.mask_picture import draw_mask
    from wrappers.detector.geom_file import write_geometry
    from wrappers.masks.bad_pixels import find_bad_pixels, spread_frames
    from wrappers.masks.mask_file import geometry_lines, write_mask
    from wrappers.masks.settings_mask import BITS, SettingsMask

    settings = Settings(
        mask_hot_sigma=hot_sigma,
        mask_noisy_sigma=noisy_sigma,
        mask_dead_sigma=dead_sigma,
        mask_edge=edge,
    )
    run = open_run(data, geometry)
    read = run.geometry
    check_outputs(
        *(output, geometry_out, picture),
        inputs=[data, geometry, *files_of_run(run)],
        force=force,
    )
    top, bottom = geometry_lines(output, read)
    chosen = spread_frames(len(run), frames)
    with progress_bar("looking at pixels", 2 * len(chosen)) as show:
        bad_pixels = find_bad_pixels(run, chosen, jobs=jobs, progress=show)
    bits = SettingsMask(read, bad_pixels).bits(settings)
    bits[~run.static_mask(0)] |= BITS["geometry"]
    attributes = {
        "data": to_utf8(str(data if is_address(data) else Path(data).absolute())),
        "n_frames": bad_pixels.n_frames,
        **dict(
            zip(("hot_sigma", "noisy_sigma", "dead_sigma", "edge"), settings.mask_key, strict=True)
        ),
    }
    write_mask(output, read, bits, bad_pixels, attributes)
    if geometry_out is not None:
        write_geometry(geometry, geometry_out, top=top, bottom=bottom)
    if picture is not None:
        draw_mask(picture, read, bits, bad_pixels, settings)

    clustered = _clustered(bits & (BITS["hot"] | BITS["noisy"]) != 0)
    if clustered > MANY_CLUSTERED:
        stderr.print(
            f"note: {clustered:.0%} of the hot and noisy pixels touch each other, as Bragg spots "
            "do: the frames must not be of one crystal, or of one orientation"
        )
    on_panels = sum(panel.width * panel.height for panel in read.panels)
    counts = {kind: int(np.count_nonzero(bits & bit)) for kind, bit in BITS.items()}
    counts["geometry"] -= bits.size - on_panels
    new = int(np.count_nonzero((bits != 0) & (bits & BITS["geometry"] == 0)))
    written = [path for path in (output, geometry_out, picture) if path is not None]
    if as_json:
        print_json(
            {
                "n_frames": bad_pixels.n_frames,
                "n_pixels": on_panels,
                "masked": counts,
                "newly_masked": new,
                "geometry_lines": [*top, *bottom],
                "written": written,
            }
        )
        return
    thresholds = {"hot": hot_sigma, "noisy": noisy_sigma, "dead": dead_sigma}
    echo(f"{'kind':10}{'bit':>4}{'threshold':>11}{'pixels':>9}{'share':>9}")
    for kind, bit in BITS.items():
        threshold = f"{thresholds[kind]:g} σ" if kind in thresholds else ""
        threshold = f"{edge} px" if kind == "edge" else threshold
        echo(f"{kind:10}{bit:4d}{threshold:>11}{counts[kind]:9d}{counts[kind] / on_panels:9.3%}")
    echo(
        f"{new} pixels more than the geometry masks, from {bad_pixels.n_frames} frames\n"
        f"written: {', '.join(map(str, written))}"
    )
    if geometry_out is None:
        echo("CrystFEL takes it with these lines, before the first panel of the geometry:")
        echo("\n".join(f"  {line}" for line in [*top, *bottom]))


def _clustered(bad: NDArray[np.bool_]) -> float:
    """Return the share of bad pixels (ss, fs) that touch another."""
    padded = np.pad(bad, 1)
    around = np.zeros(bad.shape, bool)
    for ss, fs in ((ss, fs) for ss in range(3) for fs in range(3) if (ss, fs) != (1, 1)):
        around |= padded[ss : ss + bad.shape[0], fs : fs + bad.shape[1]]
    return float((bad & around).sum() / max(bad.sum(), 1))
