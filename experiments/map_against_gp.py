"""The response map, alone and before a Gaussian process, against that: sessions on many runs.

    python -m experiments.map_against_gp [--work FOLDER] [--json]

Each run's frames are halved. On one half a session of each searcher (the product's own loop, the
embedded indexer) spends its budget; what it would recommend after each evaluation is measured on
the other half, which it never saw. Evaluations are counted from the first after CrystFEL's
defaults, with which all sessions begin. The runs are experiments of the test family, other ones
than those that the map was judged by before, and the shared runs that are there, each half in turn.
What is done is kept in ``--work`` and used again; after a change of the code take another folder.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from envs.evaluation import Evaluation
from envs.evaluators.live import LiveEvaluator
from envs.objective import USUAL_MERIT
from envs.simulation.families import draw_experiments
from envs.simulation.simulator import simulate_run
from experiments.record_looks import MOST_PIXELS, run_space
from experiments.shared_runs import SHARED_RUNS
from tuner.cli.options import print_json, stderr
from tuner.comparison.searching import run_method
from tuner.comparison.statistics import bootstrap
from tuner.session.request import usual_searcher
from wrappers.cell import Cell
from wrappers.detector.geometry import Geometry
from wrappers.files import write_whole
from wrappers.frames.opening import open_source
from wrappers.frames.source import FrameSource
from wrappers.lattices.fast_indexer import FastIndexer
from wrappers.settings import Settings

SEED = 4_000_037
SHARED = Path(__file__).parents[2] / "shared" / "data"
SEARCHERS = ("map", "map-gp", "gp")
RIVAL = "gp"
BUDGET = 10
AFTER = (1, 2, 3, 5, 10)
Found = dict[str, Any]
"""By searcher, after each evaluation: merit and rate on the scoring frames, and core-seconds; and
the frames of a session."""


@click.command()
@click.option("--experiments", "n_experiments", default=14, show_default=True)
@click.option("--frames", default=120, show_default=True, help="Of a session, and to score it.")
@click.option(
    "--work", type=click.Path(path_type=Path), help="Folder to keep.  [default: a temporary one]"
)
@click.option("--json", "as_json", is_flag=True)
def main(n_experiments: int, frames: int, work: Path | None, as_json: bool) -> None:
    """Print what each searcher comes to, run by run, and the paired differences."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs = dict([*_shared(folder), *_simulated(folder, n_experiments, frames)])
    for found in runs.values():
        # What a session goes by where nobody names a searcher.
        found["usual"] = found[usual_searcher(Settings.peak_finder, found["n_frames"])]
    names = [*SEARCHERS, "usual"]
    differences = {
        name: {f"after_{n}": _difference(runs, name, n) for n in AFTER}
        for name in names
        if name != RIVAL
    }
    if as_json:
        print_json({"runs": runs, "less_gp": differences})
        return
    said = ", ".join(SEARCHERS)
    click.echo("| run | " + " | ".join(f"after {n}: {said}" for n in AFTER) + " | core-seconds |")
    click.echo("|" + "---|" * (2 + len(AFTER)))
    for name, found in runs.items():
        merits = [" ".join(f"{found[s]['merit'][n]:.3f}" for s in SEARCHERS) for n in AFTER]
        cores = " ".join(f"{found[s]['core_seconds'][-1]:.0f}" for s in SEARCHERS)
        click.echo(f"| {name} | {' | '.join(merits)} | {cores} |")
    for name, each in differences.items():
        for n, less in each.items():
            click.echo(
                f"- {name} less {RIVAL} {n}: merit {less['mean']:+.3f} [{less['ci95'][0]:+.3f}, "
                f"{less['ci95'][1]:+.3f}], better on {less['better']} runs, worse on "
                f"{less['worse']}; rate {less['rate']:+.3f}"
            )


def _difference(runs: dict[str, Found], searcher: str, after: int) -> dict[str, Any]:
    """Return a searcher less the rival over all runs, each of them one task."""
    merit, rate = (
        np.array(
            [found[searcher][what][after] - found[RIVAL][what][after] for found in runs.values()]
        )
        for what in ("merit", "rate")
    )
    return {
        "mean": float(merit.mean()),
        "ci95": list(bootstrap(merit[:, None])),
        "better": int((merit > 1e-9).sum()),
        "worse": int((merit < -1e-9).sum()),
        "rate": float(rate.mean()),
    }


def _simulated(folder: Path, n_experiments: int, frames: int) -> Iterator[tuple[str, Found]]:
    draws = draw_experiments("test", n_experiments, SEED, most_pixels=MOST_PIXELS)
    for number, draw in enumerate(draws):
        name = f"{number:02d} {draw.kind}"
        kept = folder / f"simulated_{number:02d}.json"
        if not kept.exists():
            stderr.print(name, highlight=False)
            with tempfile.TemporaryDirectory() as work:
                paths = simulate_run(draw.experiment, Path(work) / "run", 2 * frames)
                run = open_source(paths.data, Geometry.read(paths.geometry))
                halves = [(range(frames), range(frames, 2 * frames))]
                _keep(kept, _sessions(run, Cell.read(paths.cell), halves))
        yield name, json.loads(kept.read_text())


def _shared(folder: Path) -> Iterator[tuple[str, Found]]:
    for name, files in SHARED_RUNS.items():
        data, geometry, cell = (SHARED / file for file in files)
        kept = folder / f"shared_{name}.json"
        if not kept.exists():
            if not data.exists():
                continue
            stderr.print(name, highlight=False)
            run = open_source(data, Geometry.read(geometry))
            odd, even = range(1, len(run), 2), range(0, len(run), 2)
            _keep(kept, _sessions(run, Cell.read(cell), [(even, odd), (odd, even)]))
        yield name, json.loads(kept.read_text())


def _keep(path: Path, found: Found) -> None:
    write_whole(path, json.dumps(found) + "\n")


def _sessions(
    run: FrameSource, cell: Cell, halves: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Found:
    """Return what the searchers come to, the mean over the halves."""
    space = run_space(run, len(run) // 2)
    found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in SEARCHERS}
    for tuned, scored in halves:
        with LiveEvaluator(run, cell, FastIndexer(run.geometry, cell), scored) as scoring:
            for name in SEARCHERS:
                # Neither is given what the other has found.
                with LiveEvaluator(run, cell, FastIndexer(run.geometry, cell), tuned) as tuning:
                    searched = run_method(name, tuning, space, budget=BUDGET + 1, seed=0)
                spent = np.cumsum([each.evaluation.core_seconds for each in searched.trials])
                scores = [scoring.evaluate(settings) for settings in searched.recommended]
                spent = np.append(spent, np.full(len(scores) - len(spent), spent[-1]))
                found[name].append(_figures(scores, spent.tolist()))
    figures = {
        name: {what: np.mean([one[what] for one in each], axis=0).tolist() for what in each[0]}
        for name, each in found.items()
    }
    return {**figures, "n_frames": min(len(tuned) for tuned, _ in halves)}


def _figures(scores: Sequence[Evaluation], spent: list[float]) -> dict[str, list[float]]:
    merit = [USUAL_MERIT(each) for each in scores]
    return {"merit": merit, "rate": [each.rate for each in scores], "core_seconds": spent}


if __name__ == "__main__":
    main()
