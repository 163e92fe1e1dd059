"""``sfx-tuner compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from envs.objective import Merit
from tuner.cli.compare_frames import (
    compare_on_frames_benchmark,
    frames_question,
    print_recorded,
)
from tuner.cli.compare_status import going_on, status
from tuner.cli.options import (
    existing,
    indexer_choice,
    indexer_options,
    jobs_option,
    json_option,
    open_run,
    print_json,
    retired_option,
    seed_option,
)
from tuner.cli.tune_request import others_given
from tuner.display.terminal import echo
from tuner.fingerprint import fingerprint, policy_fingerprint
from wrappers.cell import Cell
from wrappers.errors import InputError
from wrappers.files import write_whole

if TYPE_CHECKING:
    from tuner.comparison.results import Results
    from tuner.map_agent.policy import MapPolicy
    from wrappers.indexers import IndexerChoice

OF_A_RUN = (
    *("geometry", "cell", "frames", "evaluations", "splits", "seed"),
    *("indexer", "method", "effort", "timeout"),
)
OF_THE_BENCHMARK = ("families", "frames_benchmark", "recorded", "seeds")


@click.command("compare")
@click.argument("data", type=existing, metavar="[DATA]", required=False)
@click.option("-g", "--geometry", type=existing, help="CrystFEL geometry file of DATA.")
@click.option("-p", "--cell", type=existing, help="Unit cell of DATA: CrystFEL .cell or PDB.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="New directory for tables, pictures and every regret.  [default: none are written]",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted comparison.")
@click.option(
    "--methods",
    help="Only these, comma-separated: with DATA searchers, such as map-agent,warm-gp,random; "
    "without, methods of the benchmark, such as agent,map,warm_gp_locked.  [default: all]",
)
@click.option(
    "--policy",
    type=existing,
    help="Directory of another policy of the agent (sfx-tuner train).  [default: the shipped one]",
)
@click.option(
    "--frames-benchmark",
    is_flag=True,
    help="Without DATA: the frozen experiments of which every frame was recorded, as without it.",
)
@click.option(
    "--families", help="Without DATA: only these of the benchmark, comma-separated.  [default: all]"
)
@click.option(
    "--recorded", is_flag=True, help="Without DATA: print the result that the program comes with."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Without DATA: searches on each half of the frames.",
)
@retired_option("--full", "--shared", why="was of a benchmark that was retired: leave it out")
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Frames of DATA to search on, and as many to score on; at most half of them each.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Budget of every method on DATA.",
)
@click.option(
    "--splits",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Searches of every method on DATA; in the second, the frames change places.",
)
@indexer_options
@seed_option
@jobs_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    data: Path | None,
    geometry: Path | None,
    cell: Path | None,
    output: Path | None,
    resume: bool,
    methods: str | None,
    policy: Path | None,
    families: str | None,
    frames_benchmark: bool,
    recorded: bool,
    seeds: int,
    frames: int,
    evaluations: int,
    splits: int,
    seed: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the agent with Bayesian search and simpler methods.

    Without DATA on the benchmark: frozen experiments, of which every frame was recorded with every
    parameter set of a design (minutes). With DATA on that run, of which one part of the frames is
    searched on and another one scores.

    \b
    Example:
      sfx-tuner compare -o comparison
      sfx-tuner compare --recorded
      sfx-tuner compare run.h5 -g run.geom -p protein.cell -o comparison
    """
    from envs.response_map.model import SHIPPED_MODEL
    from tuner.map_agent.policy import SHIPPED_POLICY, MapPolicy
    from tuner.search.warm_start import SHIPPED, WARM_START

    if data is None:
        _refuse(ctx, OF_A_RUN, "is for a run: name its DATA file as well")
        if recorded:
            if others := others_given({"recorded", "frames_benchmark", "as_json"}):
                raise InputError(f"--recorded prints what was found once: leave {others} out")
            print_recorded(as_json)
            return
    else:
        _refuse(ctx, OF_THE_BENCHMARK, f"is for the benchmark: leave it out, or {data}")
        files = _run_files(data, geometry, cell)
    agent = MapPolicy.load(policy or SHIPPED_POLICY)
    learnt = {
        "policy": policy_fingerprint(policy or SHIPPED_POLICY),
        "response_map": fingerprint(SHIPPED_MODEL),
        "warm_start": fingerprint(SHIPPED / WARM_START),
    }
    if data is None:
        asked = frames_question(methods, families, seeds, learnt)
        _on_frames(asked, agent, output, resume, jobs, as_json)
        return
    chosen, choice = _searchers(methods), indexer_choice(options)
    amounts = {"frames": frames, "evaluations": evaluations, "splits": splits, "seed": seed}
    asked = {
        **amounts,
        **dict(zip(("DATA", "geometry", "cell"), map(str, files), strict=True)),
        "methods": chosen,
        **learnt,
        "merit": Merit().as_dict(),
        "indexer": {
            "name": choice.own_name,
            **{key: getattr(choice, key) for key in ("method", "effort", "timeout")},
        },
    }
    _on_run(files, choice, agent, asked, output, resume, jobs, as_json)


def _on_frames(
    asked: dict[str, Any],
    policy: MapPolicy,
    output: Path | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Compare on the recorded frames."""
    from tuner.comparison.frames_words import print_frames
    from tuner.comparison.store import ComparisonStore

    store = ComparisonStore.open(output, asked, resume=resume)
    with going_on(store):
        figures = compare_on_frames_benchmark(asked, policy, store, jobs, output)
        store.finish()
    if as_json:
        print_json(figures)
        return
    print_frames(figures)
    if output is not None:
        echo(f"written: {output}")


def _on_run(
    files: tuple[Path, Path, Path],
    indexer: IndexerChoice,
    policy: MapPolicy,
    asked: dict[str, Any],
    output: Path | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Compare on a user's run."""
    from tuner.comparison.console import print_figures
    from tuner.comparison.runs import compare_run
    from tuner.comparison.store import ComparisonStore

    store = ComparisonStore.open(output, asked, resume=resume)
    with going_on(store):
        with status(store) as (show, within):
            found, results = compare_run(
                *files, indexer, policy, asked["methods"], n_frames=asked["frames"],
                budget=asked["evaluations"], splits=asked["splits"], seed=asked["seed"], jobs=jobs,
                store=store, on_progress=show, on_frames=within,
            )  # fmt: skip
        figures = {"run": found}
        if output is not None:
            _write(output, figures, {"run": results})
            store.finish()
    if as_json:
        print_json({"families": figures})
        return
    print_figures(figures)
    if output is not None:
        echo(f"written: {output}")


def _searchers(methods: str | None) -> list[str]:
    """Return the searchers that are named, each once; all of them where none is."""
    from tuner.searchers import SEARCHERS

    names = SEARCHERS.names() if methods is None else methods.split(",")
    return list(dict.fromkeys(SEARCHERS.name_of(name.strip()) for name in names))


def _run_files(data: Path, geometry: Path | None, cell: Path | None) -> tuple[Path, Path, Path]:
    """Return the files of a run, or raise InputError for the first that is not there or unfit."""
    if not data.exists():
        raise InputError(f"{data} does not exist: check its name")
    if geometry is None or cell is None:
        lacking = [
            name
            for name, path in (("geometry (-g)", geometry), ("cell (-p)", cell))
            if path is None
        ]
        raise InputError(f"{data} needs its {' and its '.join(lacking)} to be compared on")
    open_run(data, geometry)
    Cell.read(cell)
    return data.absolute(), geometry.absolute(), cell.absolute()


def _refuse(ctx: click.Context, names: Sequence[str], why: str) -> None:
    """Raise InputError where one of these options was given, which would have no effect."""
    for option in ctx.command.params:
        given = ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if option.name in names and given:
            raise InputError(f"{option.opts[0]} {why}")


def _write(output: Path, figures: dict[str, dict[str, Any]], results: dict[str, Results]) -> None:
    """Write tables, pictures and every regret; last of all the file that marks the end."""
    from tuner.comparison.pictures import draw_run_pictures
    from tuner.comparison.results import write_results
    from tuner.comparison.words import markdown

    write_results(output / "results.npz", results)
    write_whole(output / "comparison.md", markdown(figures))
    draw_run_pictures(results, figures, output)
    write_whole(output / "comparison.json", json.dumps({"families": figures}, indent=1) + "\n")
