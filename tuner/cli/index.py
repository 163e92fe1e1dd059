"""``sfx-tuner index``: peak finding and indexing of a run with given settings."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from envs.evaluation import wilson_interval
from tuner.cli.options import (
    cell_option,
    data_argument,
    geometry_option,
    indexer_choice,
    indexer_options,
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
from wrappers.cell import Cell
from wrappers.errors import UnreadableError
from wrappers.frames.address import Address
from wrappers.indexers import make_indexer
from wrappers.workers.pool import batches

__all__ = ["command"]

MAX_DECOYS = 50


@click.command()
@data_argument
@geometry_option
@cell_option
@settings_options
@mask_option
@indexer_options
@jobs_option
@memory_option
@json_option
def command(
    data: Address,
    geometry: Path,
    cell: Path,
    mask: Path | None,
    jobs: int,
    memory: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Find peaks in every frame of a run and index the hits.

    \b
    Example:
      sfx-tuner index run.h5 -g run.geom -p protein.cell --min-snr 4.5 --threshold 30
    """
    from envs.evaluators.live import LiveEvaluator

    choice = indexer_choice(options)
    run = open_run(data, geometry)
    jobs = within_memory(run, jobs, memory)
    settings = settings_from(options, run)
    run = with_bad_pixels(run, settings, mask, jobs)
    unit = Cell.read(cell)
    stderr.print(f"cell: {unit.summary}", highlight=False, markup=False)
    chosen = make_indexer(choice, run.geometry, unit, jobs=jobs)
    stderr.print(f"indexer: {chosen.name}", highlight=False)
    rows: list[dict[str, Any]] = []
    decoys = decoys_indexed = 0
    with (
        closing(chosen),
        LiveEvaluator(
            run,
            unit,
            chosen,
            range(len(run)),
            jobs=jobs,
            memory=0,
            finder=settings.peak_finder,
        ) as evaluator,
        progress_bar("indexing", len(run)) as show,
    ):
        for frames in batches(len(run), jobs):
            evaluation, _, answers = evaluator.inspect(settings, frames, MAX_DECOYS - decoys)
            evaluator.forget()
            decoys += evaluation.n_decoys
            decoys_indexed += evaluation.n_decoys_indexed
            for outcome in evaluation.outcomes:
                file, event = run.name(outcome.frame)
                answer = answers.get(outcome.frame)
                rows.append(
                    {
                        "frame": outcome.frame,
                        "file": str(file),
                        "event": event,
                        "n_peaks": outcome.n_peaks,
                        "hit": outcome.hit,
                        "indexed": outcome.indexed,
                        "reciprocal_axes_per_angstrom": [
                            lattice.reciprocal.tolist()
                            for lattice in (answer.lattices if answer else ())
                        ],
                        "failure": outcome.failure,
                    }
                )
            show(frames[-1] + 1)
    n_hits = sum(row["hit"] for row in rows)
    n_indexed = sum(row["indexed"] for row in rows)
    # A frame without an answer may be either.
    n_failed = sum(bool(row["failure"]) for row in rows)
    low, high = (wilson_interval(n_indexed + k, len(rows))[i] for i, k in enumerate((0, n_failed)))
    unreadable = [row["failure"] for row in rows if row["failure"] and not row["hit"]]
    false_rate = decoys_indexed / decoys * n_hits / len(rows) if decoys else None
    if as_json:
        print_json(
            {
                "settings": settings.as_dict(),
                "indexer": chosen.name,
                "n_frames": len(rows),
                "n_failed": n_failed,
                "n_hits": n_hits,
                "n_indexed": n_indexed,
                "indexing_rate": n_indexed / len(rows),
                "ci95": [low, high],
                "n_decoys": decoys,
                "n_decoys_indexed": decoys_indexed,
                "false_rate": false_rate,
                "frames": rows,
            }
        )
        _require_one(unreadable, len(rows))
        return
    echo(f"{'frame':>6} {'event':>10} {'peaks':>6}  indexed")
    for row in rows:
        mark = "yes" if row["indexed"] else row["failure"] or ("no" if row["hit"] else "no hit")
        echo(f"{row['frame']:6d} {row['event']:>10} {row['n_peaks']:6d}  {mark}")
    echo(
        f"indexing rate {n_indexed / len(rows):.1%} [{low:.1%}, {high:.1%}]: {n_indexed} of "
        f"{len(rows)} frames, {n_hits} hits" + (f", {n_failed} failed" if n_failed else "")
    )
    if decoys:
        echo(f"decoys: {decoys_indexed} of {decoys} scrambled peak lists indexed")
    _require_one(unreadable, len(rows))


def _require_one(unreadable: list[str], n_frames: int) -> None:
    if len(unreadable) == n_frames:
        raise UnreadableError(f"none of the {n_frames} frames can be read: {unreadable[0]}")
