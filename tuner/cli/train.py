"""``sfx-tuner train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import jobs_option, json_option, print_json, retired_option, stderr
from tuner.cli.train_spots import RENDERED, train_spots_command
from tuner.cli.tune_request import given, others_given
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.extras import require

LOOKS = Path("experiments/data/looks")
"""Where a checkout has the recorded looks."""

OF_A_TRAINING = ("looks", "steps", "checkpoints", "resume")


def _only_map_agent(ctx: click.Context, param: click.Parameter, searcher: str | None) -> None:
    """Refuse another searcher than the one whose policy is trained."""
    from tuner.searchers import SEARCHERS
    from tuner.session.request import USUAL

    if searcher is not None and SEARCHERS.name_of(searcher) != USUAL:
        raise InputError(f"there is nothing to train for the searcher {searcher}: leave it out")


@click.command("train")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory for the policy, its curves and checkpoints.",
)
@click.option(
    "--searcher",
    hidden=True,  # there was another one to choose once
    expose_value=False,
    callback=_only_map_agent,
)
@click.option(
    "--looks",
    type=click.Path(path_type=Path),
    default=LOOKS,
    show_default=True,
    help="Recorded looks at experiments to train on, FOLDER/train_000.npz …; a "
    "checkout has 110. python -m experiments.record_looks FOLDER records more.",
)
@click.option(
    "--sessions",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Instead of a training: a directory of a finished session, or several of "
    "them (--sessions A --sessions B), of at least three runs. The response map's model is refined "
    "on what they measured.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=None,
    help="Evaluations in training.  [default: 30 thousand]",
)
@click.option(
    "--checkpoints",
    type=click.IntRange(1),
    default=None,
    help="Checkpoints, of which the best is taken.  [default: 6]",
)
@click.option(
    "--experiments",
    type=click.IntRange(1),
    default=None,
    help="Of --spots: simulated experiments to train on.  [default: 160]",
)
@retired_option(
    "--seeds",
    "--selector-steps",
    why="was of the first agent, which was retired: leave it out, and the policy of map-agent, "
    "which replaces it, is trained",
)
@click.option(
    "--spots",
    is_flag=False,
    flag_value=RENDERED,
    metavar="[SESSION]",
    help="Train the model of --peaks learned instead: on rendered frames, or on a session's, from "
    "the one that the session used or else the shipped one.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in the directory.")
@jobs_option
@json_option
def command(
    output: Path,
    looks: Path,
    sessions: tuple[Path, ...],
    steps: int | None,
    checkpoints: int | None,
    experiments: int | None,
    spots: str | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Train the agent's policy; with the default options it is the one that sfx-tuner comes with.

    It learns on recorded looks at rendered experiments: first to do what the map's own rule does,
    then by PPO. Four of five experiments are trained on; the checkpoint is chosen by sessions on
    the others. It takes four minutes of one core.

    \b
    Example:
      sfx-tuner train -o training
      sfx-tuner tune run.h5 -g run.geom -p protein.cell -o session --policy training
      sfx-tuner train --spots session -o refined
    """
    if spots is not None:
        free = {"spots", "output", "experiments", "as_json"}
        if others := others_given(free if spots == RENDERED else {*free, "jobs"}):
            raise InputError(f"train --spots has no {others}: leave that out")
        train_spots_command(spots, output, experiments, jobs, as_json)
        return
    if experiments is not None:
        raise InputError("--experiments is of --spots: leave it out, or add --spots")
    if sessions:
        for name in OF_A_TRAINING:
            if given(name):
                raise InputError(
                    f"--{name} is of a training, which --sessions is not: leave it out"
                )
        _refine(output, sessions, as_json)
        return
    require("train", "sfx-tuner train")
    _train_map_agent(output, looks, {"steps": steps, "checkpoints": checkpoints}, resume, as_json)


def _refine(output: Path, sessions: Sequence[Path], as_json: bool) -> None:
    from tuner.map_agent.own_past import refine_on_sessions

    found = refine_on_sessions(sessions, output)
    if as_json:
        told = {name: value for name, value in vars(found).items() if name != "model"}
        print_json({"directory": output, "written": found.model is not None, **told})
        return
    echo(
        f"{found.n_outcomes} lists of {found.n_experiments} runs; the mean log-likelihood of those "
        f"of a run that was left out is {found.after:.3f} by a model refined on the others, "
        f"{found.before:.3f} by the shipped one"
    )
    if found.model is None:
        echo("nothing is written: the shipped model predicts your runs better")
    else:
        echo(f"written: {output}; sfx-tuner tune --policy {output}")


def _train_map_agent(
    output: Path, looks: Path, asked: dict[str, int | None], resume: bool, as_json: bool
) -> None:
    from tuner.map_agent.training import MapTraining, train_map_agent

    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    stderr.print(
        "             steps  seconds   score   merit after 0.5, 1, 2 evaluations, at end",
        style="bold",
    )

    def show(what: str, row: dict[str, float]) -> None:
        merits = (row[f"merit_{name}"] for name in ("0.5", "1", "2", "end"))
        stderr.print(
            f"{what:10} {row['steps']:7.0f} {row['seconds']:8.0f}  {row['score']:.4f}   "
            + ", ".join(f"{merit:.4f}" for merit in merits),
            highlight=False,
        )

    policy = train_map_agent(
        MapTraining(**options), looks, output, resume=resume, on_checkpoint=show
    )
    if as_json:
        print_json({"directory": output, **policy.provenance})
        return
    rule, found = policy.provenance["rule"], policy.provenance["chosen"]
    echo(
        f"on held-out experiments the map's own rule comes to {rule['score']:.4f}, the agent to "
        f"{found['score']:.4f} (mean merit over the budget, less the price)"
    )
    echo(f"written: {output / 'map_agent.safetensors'}, curve.csv")
