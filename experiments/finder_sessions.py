r"""Tune one run with either peak finder: same frames, same indexer, same budget.

    python -m experiments.finder_sessions ../shared/data/simulated/jf1m_lyso_60.h5 \
        -g ../shared/data/simulated/jf1m.geom -p ../shared/data/simulated/lyso.cell

Prints what each session recommends and what that indexes, on fresh frames where the run has
them, and how the two recommendations of a seed compare frame by frame.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from envs.evaluation import Evaluation
from tuner.cli.options import cell_option, data_argument, geometry_option, jobs_option
from tuner.session.budget import Budget
from tuner.session.request import Request
from tuner.session.store import SessionStore
from tuner.statistics import paired_difference
from tuner.tuning import tune
from wrappers.indexers import INDEXERS, IndexerChoice
from wrappers.peak_finders import PEAK_FINDERS


@click.command()
@data_argument
@geometry_option
@cell_option
@click.option("--frames", type=int, help="Size of the tuning sample.  [default: all]")
@click.option("--evaluations", default=30, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--indexer", type=click.Choice(INDEXERS.names()), default="fast")
@jobs_option
def main(
    data: Path,
    geometry: Path,
    cell: Path,
    frames: int | None,
    evaluations: int,
    seeds: int,
    indexer: str,
    jobs: int,
) -> None:
    """Print the comparison for a run."""
    print("| seed | finder | min_snr / threshold / px | hits | indexed | rate | decoys | core s |")
    print("|---|---|---|---|---|---|---|---|")
    compared = []
    for seed in range(seeds):
        found = {}
        for peaks in PEAK_FINDERS:
            request = Request(
                data,
                geometry,
                cell,
                searcher="gp",
                n_frames=frames,
                peak_finder=peaks,
                seed=seed,
                indexer=IndexerChoice(indexer),
            )
            found[peaks], seconds = _recommended(request, evaluations, jobs)
            print(f"| {seed} | {peaks} | {_row(found[peaks])} | {seconds:.0f} |", flush=True)
        difference = paired_difference(found["robust"], found["peakfinder8"])
        low, high = difference.ci95
        compared.append(
            f"seed {seed}: robust indexes {difference.gained} frames that peakfinder8 does not, "
            f"{difference.lost} the other way round: {difference.difference:+.1%} "
            f"[{low:+.1%}, {high:+.1%}], p = {difference.p_value:.2g}"
        )
    print("\n" + "\n".join(compared))


def _recommended(request: Request, evaluations: int, jobs: int) -> tuple[Evaluation, float]:
    """Return the last evaluation of what a session recommends, and its processor time."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "session"
        recommendation = tune(request, directory, budget=Budget(evaluations), jobs=jobs)
        if recommendation is None:
            raise SystemExit(f"the {request.peak_finder} session indexed nothing")
        measured = [trial.evaluation for trial in SessionStore.open(directory).trials]
    best = [each for each in measured if each.settings == recommendation.settings][-1]
    return best, sum(each.core_seconds for each in measured)


def _row(evaluation: Evaluation) -> str:
    settings, (low, high) = evaluation.settings, evaluation.ci95
    return (
        f"{settings.min_snr:g} / {settings.threshold:g} / {settings.min_pix_count} | "
        f"{evaluation.n_hits} | {evaluation.n_indexed} of {evaluation.n_frames} | "
        f"{evaluation.rate:.1%} [{low:.1%}, {high:.1%}] | "
        f"{evaluation.n_decoys_indexed} of {evaluation.n_decoys}"
    )


if __name__ == "__main__":
    main()
