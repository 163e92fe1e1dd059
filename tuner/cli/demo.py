"""``sfx-tuner demo``: a small run simulated and tuned with the embedded parts."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.options import (
    jobs_option,
    json_option,
    print_json,
    progress_bar,
    seed_option,
    stderr,
)
from tuner.display.terminal import echo
from wrappers.errors import NothingFoundError

__all__ = ["command"]

FRAMES = 80
EVALUATIONS = 16


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="New directory for the run and the session.",
)
@seed_option
@jobs_option
@json_option
def command(output: Path, seed: int, jobs: int, as_json: bool) -> None:
    """Simulate a small run whose camera length is 1.5 % off, and tune it.

    \b
    Example:
      sfx-tuner demo -o demo
    """
    from envs.parameter_space import DEFAULT_TUNED
    from envs.simulation.simulator import demo_experiment, simulate_run
    from tuner.cli.recommendation_display import print_recommendation
    from tuner.cli.session_display import display
    from tuner.session.budget import Budget
    from tuner.session.nothing import read_nothing
    from tuner.session.request import Request
    from tuner.tuning import tune
    from wrappers.indexers import IndexerChoice

    experiment = demo_experiment(seed)
    stderr.print(f"simulating {FRAMES} frames in {output / 'run'}", highlight=False)
    with progress_bar("simulating", FRAMES) as show:
        paths = simulate_run(
            experiment, output / "run", FRAMES, progress=lambda done, total: show(done)
        )
    session = output / "session"
    budget = Budget(evaluations=EVALUATIONS)
    with display(DEFAULT_TUNED, budget, session) as (on_trial, on_progress, on_look):
        recommendation = tune(
            Request(
                data=paths.data,
                geometry=paths.geometry,
                cell=paths.cell,
                seed=seed,
                indexer=IndexerChoice("fast"),
            ),
            session,
            budget=budget,
            jobs=jobs,
            on_trial=on_trial,
            on_progress=on_progress,
            on_look=on_look,
        )
    if recommendation is None:
        raise NothingFoundError(
            f"nothing to recommend with seed {seed}, try another: {read_nothing(session)}"
        )
    clen = recommendation.settings.clen
    if as_json:
        print_json({**recommendation.as_dict(), "true_clen": experiment.clen})
        return
    print_recommendation(recommendation, session)
    echo(
        f"camera length: geometry {1e3 * experiment.written_clen:.3f} mm, recommended "
        f"{1e3 * (clen or 0):.3f} mm, true {1e3 * experiment.clen:.3f} mm\n"
        f"report:  {session / 'report.html'}"
    )
