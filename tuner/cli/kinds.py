"""``sfx-tuner kinds``: what kinds of frames a run has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import (
    data_argument,
    force_option,
    geometry_option,
    jobs_option,
    json_option,
    memory_option,
    open_run,
    print_json,
    progress_bar,
    stderr,
    within_memory,
)
from tuner.display.terminal import echo
from wrappers.frames.address import Address
from wrappers.frames.linked import files_of_run
from wrappers.outputs import check_outputs

if TYPE_CHECKING:
    from wrappers.frame_kinds import KindsOfFrames

__all__ = ["command"]

EXAMPLES = 5
"""Frames that are named of each kind."""


@click.command()
@data_argument
@geometry_option
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Look at so many frames, evenly spread over the run.  [default: all]",
)
@click.option(
    "--kinds",
    "known",
    type=click.Path(path_type=Path),
    help="The kinds of earlier runs, of -o; what is new in this run is said, and -o has both.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="JSON file for the kinds, for --kinds."
)
@force_option
@jobs_option
@memory_option
@json_option
def command(
    data: Address,
    geometry: Path,
    frames: int | None,
    known: Path | None,
    output: Path | None,
    force: bool,
    jobs: int,
    memory: int | None,
    as_json: bool,
) -> None:
    """Tell the frames of a run by kind: blank, crystals, rings, salt, streaks, faults.

    Nothing is indexed, and no settings need be known. Kinds are parts of a Gaussian mixture that
    are named by what is measured of their frames.

    \b
    Example:
      sfx-tuner kinds run.h5 -g run.geom -o kinds.json
      sfx-tuner kinds run2.h5 -g run.geom --kinds kinds.json -o kinds2.json
    """
    from tuner.apply.kind_drift import changes
    from wrappers.frame_kinds import FrameKinds, run_digest, tell_kinds
    from wrappers.masks.bad_pixels import spread_frames

    earlier = None if known is None else FrameKinds.read(known)
    run = open_run(data, geometry)
    if output is not None:
        check_outputs(
            output,
            inputs=[data, geometry, *files_of_run(run)],
            force=force or (known is not None and output.resolve() == known.resolve()),
        )
    is_known = earlier is not None and run_digest(run) in earlier.runs
    jobs = within_memory(run, jobs, memory)
    chosen = spread_frames(len(run), len(run) if frames is None else frames)
    with progress_bar("measuring frames", len(chosen)) as show:
        found = tell_kinds(run, chosen, earlier, jobs=jobs, progress=show)
    for failure in found.failures.values():
        stderr.print(f"left out: {failure}", markup=False, highlight=False)
    if output is not None:
        found.kinds.write(output)
    rows = kind_rows(found)
    changed = [str(each) for each in changes(found.frames, found.names)]
    if as_json:
        print_json(
            {
                "n_frames": len(found.frames),
                "n_unreadable": len(found.failures),
                "kinds": rows,
                "new": list(found.new),
                "learnt_before": is_known,
                "changes": changed,
                "frames": [
                    {"frame": frame, "kind": name}
                    for frame, name in zip(found.frames, found.names, strict=True)
                ],
                "output": None if output is None else str(output),
            }
        )
        return
    for row in rows:
        low, high = row["ci95"]
        some = ", ".join(map(str, row["examples"]))
        echo(
            f"{row['kind']:18} {row['n_frames']:6d}  {row['share']:6.1%} [{low:.1%}, {high:.1%}]  "
            f"{row['meaning']}; such as {some}"
        )
    for sentence in changed:
        echo(sentence)
    for name in found.new:
        echo(f"new: {name}, which the earlier frames did not have")
    if is_known:
        echo(f"{data} was learnt before, and is not learnt again")
    if output is not None:
        echo(f"written: {output}")


def kind_rows(found: KindsOfFrames) -> list[dict[str, Any]]:
    """Return a row a kind: frames, share with its 95 % interval, what it is named by, examples."""
    from tuner.apply.kind_shares import kind_shares
    from wrappers.frame_kinds import KINDS

    return [
        {
            "kind": name,
            "n_frames": counted.k,
            "share": counted.share,
            "ci95": list(counted.ci95),
            "meaning": KINDS[name],
            "examples": found.of(name)[:EXAMPLES],
        }
        for name, counted in kind_shares(found.counts).items()
    ]
