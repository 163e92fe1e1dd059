"""``sfx-tuner train``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import jobs_option, json_option, print_json, stderr
from tuner.cli.train_spots import RENDERED, train_spots_command
from tuner.cli.tune_request import others_given
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.extras import require

LOOKS = Path("experiments/data/looks")
"""Where a checkout has the recorded looks."""

OF_PPO = ("seeds", "experiments", "selector_steps")
OF_MAP_AGENT = ("looks", "sessions")
OF_A_TRAINING = ("looks", "steps", "checkpoints", "resume")


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
    type=click.Choice(["map-agent", "ppo"]),
    default="map-agent",
    show_default=True,
    help="Whose policy.",
)
@click.option(
    "--looks",
    type=click.Path(path_type=Path),
    default=LOOKS,
    show_default=True,
    help="Of map-agent: recorded looks at experiments to train on, FOLDER/train_000.npz …; a "
    "checkout has 110. python -m experiments.record_looks FOLDER records more.",
)
@click.option(
    "--sessions",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Of map-agent, instead of a training: a directory of a finished session, or several of "
    "them (--sessions A --sessions B), of at least three runs. The response map's model is refined "
    "on what they measured.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=None,
    help="Evaluations in training.  [default: 30 thousand; of ppo 1.5 million each actor, and a "
    "third as many before, of imitation]",
)
@click.option(
    "--checkpoints",
    type=click.IntRange(1),
    default=None,
    help="Checkpoints, of which the best is taken.  [default: 6; of ppo 15 of each actor]",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Of ppo: actors to train, seeded 0, 1, 2 …; they take turns.",
)
@click.option(
    "--experiments",
    type=click.IntRange(1),
    default=None,
    help="Of ppo and --spots: simulated experiments to train on.  [default: 4096, of --spots 160]",
)
@click.option(
    "--selector-steps",
    type=click.IntRange(8),
    default=None,
    help="Of ppo: gradient steps of the selector.  [default: 4000]",
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
@click.pass_context
def command(
    ctx: click.Context,
    output: Path,
    searcher: str,
    looks: Path,
    sessions: tuple[Path, ...],
    steps: int | None,
    checkpoints: int | None,
    seeds: int,
    experiments: int | None,
    selector_steps: int | None,
    spots: str | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Train an agent's policy; with the default options it is the one that sfx-tuner comes with.

    map-agent, which goes by the response map, learns on recorded looks at rendered experiments:
    first to do what the map's own rule does, then by PPO. Four of five experiments are trained on;
    the checkpoint is chosen by sessions on the others. It takes four minutes of one core.

    ppo, the first agent, learns on the response model's simulated experiments: several actors,
    which take turns, and a selector, which says which of the parameter sets that they tried is the
    best. It takes two cores an hour and a half.

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
    _refuse(ctx, searcher)
    if sessions:
        _refine(output, sessions, as_json)
        return
    require("train", "sfx-tuner train")
    asked = {"steps": steps, "checkpoints": checkpoints}
    if searcher == "map-agent":
        _train_map_agent(output, looks, asked, resume, as_json)
        return
    _train_ppo(
        output,
        asked | {"n_experiments": experiments, "selector_steps": selector_steps},
        seeds,
        resume,
        jobs,
        as_json,
    )


def _refuse(ctx: click.Context, searcher: str) -> None:
    """Raise InputError where an option is of the other agent."""

    def given(name: str) -> bool:
        return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE

    for name in OF_PPO if searcher == "map-agent" else OF_MAP_AGENT:
        if given(name):
            raise InputError(
                f"--{name.replace('_', '-')} is not of {searcher}: leave it out, or choose the "
                "other --searcher"
            )
    for name in OF_A_TRAINING if given("sessions") else ():
        if given(name):
            raise InputError(f"--{name} is of a training, which --sessions is not: leave it out")


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
        echo("nothing is written: the shipped model foretells your runs better")
    else:
        echo(f"written: {output}; sfx-tuner tune --policy {output}")


def _train_map_agent(
    output: Path, looks: Path, asked: dict[str, int | None], resume: bool, as_json: bool
) -> None:
    from tuner.map_agent.training import MapTraining, train_map_agent

    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
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

    policy = train_map_agent(MapTraining(**given), looks, output, resume=resume, on_checkpoint=show)
    if as_json:
        print_json({"directory": output, **policy.provenance})
        return
    rule, found = policy.provenance["rule"], policy.provenance["chosen"]
    echo(
        f"on held-out experiments the map's own rule comes to {rule['score']:.4f}, the agent to "
        f"{found['score']:.4f} (mean merit over the budget, less the price)"
    )
    echo(f"written: {output / 'map_agent.safetensors'}, curve.csv")


def _train_ppo(
    output: Path,
    asked: dict[str, int | None],
    seeds: int,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    from tuner.agent.training import Training, train

    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if "steps" in given:
        given["imitation_steps"] = given["steps"] // 3
    training = dataclasses.replace(Training(seeds=tuple(range(seeds))), **given)
    stderr.print(
        "         checkpoint     steps  reward  regret on validation after 5, 10, 20", style="bold"
    )

    def show(what: str, row: dict[str, float]) -> None:
        stderr.print(
            f"{what:8} {row['checkpoint']:10.0f} {row['steps']:9.0f} {row['reward']:7.3f}  "
            f"{row['regret_5']:.3f} {row['regret_10']:.3f} {row['regret_20']:.3f}",
            highlight=False,
        )

    def note(text: str) -> None:
        stderr.print(f"{text} ...", style="dim", highlight=False)

    policy = train(training, output, jobs=jobs, resume=resume, on_checkpoint=show, on_note=note)
    if as_json:
        print_json({"directory": output, **policy.provenance})
        return
    found = policy.provenance["validation"]
    actors = "1 actor" if seeds == 1 else f"{seeds} actors"
    echo(
        f"{actors} and a selector; regret on validation {found['regret_5']:.3f}, "
        f"{found['regret_10']:.3f}, {found['regret_20']:.3f} after 5, 10, 20"
    )
    echo(f"written: {output / 'policy.json'}, policy.safetensors, curves.csv, curves.png")
