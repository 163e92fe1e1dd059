"""``sfx-tuner train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from tuner.cli.options import jobs_option, json_option, print_json, stderr
from tuner.cli.train_spots import train_spots_command
from tuner.cli.tune_request import others_given
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.extras import require


@click.command("train")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory for the policy, its curves and checkpoints.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="Actors to train, seeded 0, 1, 2 …; they take turns.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=None,
    help="Simulated evaluations that each sees; a third as many before, of imitation.  "
    "[default: 1.5 million]",
)
@click.option(
    "--checkpoints",
    type=click.IntRange(1),
    default=None,
    help="Checkpoints of each actor.  [default: 15]",
)
@click.option(
    "--experiments",
    type=click.IntRange(1),
    default=None,
    help="Simulated experiments to train on.  [default: 4096; with --spots 160]",
)
@click.option(
    "--selector-steps",
    type=click.IntRange(8),
    default=None,
    help="Gradient steps of the selector.  [default: 4000]",
)
@click.option(
    "--spots",
    is_flag=False,
    flag_value="",
    metavar="[SESSION]",
    help="Train the model of --peaks learned instead: on rendered frames, or from the one that "
    "sfx-tuner comes with on those of a session.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in the directory.")
@jobs_option
@json_option
def command(
    output: Path,
    seeds: int,
    steps: int | None,
    checkpoints: int | None,
    experiments: int | None,
    selector_steps: int | None,
    spots: str | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Train the agent's policy on simulated experiments.

    Several actors are trained, which take turns; then a selector, which says which of the parameter
    sets that they tried is the best. The checkpoints are chosen on simulated experiments of another
    family. With its default options this makes the policy that sfx-tuner comes with.

    \b
    Example:
      sfx-tuner train -o training
      sfx-tuner compare --policy training
      sfx-tuner train --spots session -o refined
    """
    if spots is not None:
        if others := others_given({"spots", "output", "experiments", "jobs", "as_json"}):
            raise InputError(f"train --spots has no {others}: leave that out")
        if spots and experiments:
            raise InputError(
                "train --spots SESSION renders no experiments: leave --experiments out"
            )
        return train_spots_command(spots, output, experiments, jobs, as_json)
    require("train", "sfx-tuner train")
    from tuner.agent.training import Training, train

    usual = Training(seeds=tuple(range(seeds)))
    training = dataclasses.replace(
        usual,
        steps=steps or usual.steps,
        imitation_steps=steps // 3 if steps else usual.imitation_steps,
        checkpoints=checkpoints or usual.checkpoints,
        n_experiments=experiments or usual.n_experiments,
        selector_steps=selector_steps or usual.selector_steps,
    )
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
