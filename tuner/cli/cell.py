"""``sfx-tuner cell``: the unit cell on which the frames of a run agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cells.words import cell_words, with_errors
from tuner.cli.options import (
    data_argument,
    force_option,
    geometry_option,
    jobs_option,
    json_option,
    mask_option,
    open_run,
    print_json,
    progress_bar,
    seed_option,
    settings_from,
    settings_options,
    with_bad_pixels,
)
from tuner.display.terminal import echo
from wrappers.frames.address import Address
from wrappers.frames.linked import files_of_run
from wrappers.frames.sampling import sample_frames
from wrappers.outputs import check_outputs
from wrappers.settings import ABOUT

if TYPE_CHECKING:
    from tuner.cells.search import ClearFrames, FoundCell
    from wrappers.lattices.cell_consensus import CellConsensus

__all__ = ["command"]


@click.command()
@data_argument
@geometry_option
@settings_options
@mask_option
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Frames to find peaks in, drawn at random; those with the most are used.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="CrystFEL cell file to write, to tune or index with.",
)
@force_option
@seed_option
@jobs_option
@json_option
def command(
    data: Address,
    geometry: Path,
    mask: Path | None,
    frames: int,
    output: Path | None,
    force: bool,
    seed: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the unit cell from the frames of a run, without knowing it.

    The lattices of the frames with the most peaks are sought blindly; a cell counts where frames
    agree on it beyond chance. Settings that are not given are those that a session starts from.
    Without an agreement nothing is printed but what to check, and the exit code is 2.

    \b
    Example:
      sfx-tuner cell run.h5 -g run.geom -o found.cell
    """
    from tuner.cells.search import cell_of, clear_frames, usual_settings

    run = open_run(data, geometry)
    if output is not None:
        inputs = [data, geometry, mask, options["settings"], *files_of_run(run)]
        check_outputs(output, inputs=inputs, force=force)
    if options["settings"] is None:
        usual = usual_settings(run, range(len(run))).as_dict()
        # As if the usual values had been given: what is given replaces them.
        if options["peak_finder"] in (None, usual["peak_finder"]):
            for name in ABOUT:
                options[name] = usual.get(name) if options[name] is None else options[name]
    settings = settings_from(options, run)
    run = with_bad_pixels(run, settings, mask)
    sample, _ = sample_frames(run, frames, seed)
    with progress_bar("finding peaks", len(sample)) as show:
        clear = clear_frames(
            run, settings, sample, jobs=jobs, progress=lambda done, total: show(done)
        )
    with progress_bar("seeking lattices", 100) as show:
        answer = cell_of(
            clear,
            pixel_size=1 / run.geometry.panels[0].res,
            jobs=jobs,
            progress=lambda done, total: show(round(100 * done / total)),
        )
    found = answer.consensus
    if output is not None:
        found.cell.write(output)
    if as_json:
        frames_that_agree = [clear.frames[place] for place in found.frames]
        print_json(_document(found, frames_that_agree) | _geometry(answer, clear))
        return
    echo(_report(found, answer.geometry_words))
    if output is not None:
        echo(f"written: {output}")


def _document(found: CellConsensus, frames: list[int]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "cell": list(found.cell.parameters),
        "cell_se": found.standard_error.tolist(),
        "lattice_type": found.cell.lattice_type,
        "centering": found.cell.centering,
        "unique_axis": found.cell.unique_axis,
        "n_frames": found.n_frames,
        "n_agree": len(found.frames),
        "frames": frames,
        "false_consensus_probability": found.chance,
        "choices": [
            {
                "cell": list(choice.cell.parameters),
                "lattice_type": choice.cell.lattice_type,
                "centering": choice.cell.centering,
                "deviation": choice.deviation,
                "n_agree": choice.n_agree,
                "evidence": choice.evidence,
            }
            for choice in found.choices
        ],
    }


def _geometry(answer: FoundCell, clear: ClearFrames) -> dict[str, Any]:
    """Return where the frames put the detector, for ``--json``; null where too few tell."""
    if answer.geometry is None:
        return {"geometry": None}
    length = clear.patterns[0].camera_length
    x, y = answer.geometry.shift(length)
    return {
        "geometry": {
            "clen": answer.geometry.camera_length(length),
            "clen_se": length * answer.geometry.stretch_error,
            "shift_x": clear.settings.shift_x + x,
            "shift_y": clear.settings.shift_y + y,
            "given_is_right": answer.geometry.given_is_right,
        }
    }


def _report(found: CellConsensus, geometry: str) -> str:
    lines = [
        with_errors(found.cell, found.standard_error),
        f"{len(found.frames)} of {found.n_frames} frames agree on it; by accident so many would "
        f"with a probability below {found.chance:.1g}",
        "",
        "what the lattice may be seen as  agree  evidence  off by  cell",
    ]
    lines += [
        f"{choice.cell.lattice_type + ' ' + choice.cell.centering:31s}  {choice.n_agree:5d}  "
        f"{choice.evidence:8.0f}  {choice.deviation:6.2%}  {cell_words(choice.cell)}"
        for choice in found.choices
    ]
    if geometry:
        lines += [
            "",
            f"The frames fit a lattice best with {geometry}:\ncorrect the geometry. A wrong camera "
            "length would scale the cell, as a wrong photon energy does; with\nthe geometry as it "
            "is given, frames make cells of their own, or the cell is as much too large or small.",
        ]
    lines += [
        "",
        "The errors are from the scatter over the frames. Below 2 %, an error of the camera length "
        "cannot be\ntold from one of the cell's size; an error of the photon energy never can: "
        "where it is off by 1 %, so\nis the cell.",
    ]
    return "\n".join(lines)
