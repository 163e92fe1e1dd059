"""``sfx-tuner compare``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from envs.objective import Merit
from tuner.cli.compare_status import going_on, status
from tuner.cli.options import (
    existing,
    indexer_choice,
    indexer_options,
    jobs_option,
    json_option,
    open_run,
    print_json,
    progress_bar,
    seed_option,
    stderr,
)
from tuner.display.terminal import echo
from wrappers.cell import Cell
from wrappers.errors import InputError
from wrappers.files import write_whole

if TYPE_CHECKING:
    from tuner.agent.policy import Policy
    from tuner.comparison.benchmark import Benchmark
    from tuner.comparison.results import Results
    from tuner.comparison.store import ComparisonStore
    from wrappers.indexers import IndexerChoice

Found = tuple[dict[str, dict[str, Any]], dict[str, "Results"]]

OF_A_RUN = ("geometry", "cell", "frames", "evaluations", "splits", "seed")
OF_THE_BENCHMARK = ("families", "full", "shared", "frames_benchmark")
OF_RECORDED_FRAMES = ("recorded", "seeds")
OF_RESPONSES = ("full", "shared")


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
    "--methods", help="Only these, comma-separated, such as ppo,warm-gp,random.  [default: all]"
)
@click.option(
    "--policy",
    type=existing,
    help="Directory of another policy (sfx-tuner train).  [default: the shipped one]",
)
@click.option(
    "--families", help="Without DATA: only these of the benchmark, comma-separated.  [default: all]"
)
@click.option("--full", is_flag=True, help="Without DATA: recorded, rendered and shared runs too.")
@click.option(
    "--frames-benchmark",
    is_flag=True,
    help="Without DATA: the frozen experiments of which every frame was recorded.",
)
@click.option(
    "--recorded",
    is_flag=True,
    help="With --frames-benchmark: print the result that the program comes with.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="With --frames-benchmark: searches on each half of the frames.",
)
@click.option(
    "--shared",
    type=existing,
    default=Path("../shared/data"),
    show_default=True,
    help="Where --full looks for real and CrystFEL-simulated runs.",
)
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
    full: bool,
    frames_benchmark: bool,
    recorded: bool,
    seeds: int,
    shared: Path,
    frames: int,
    evaluations: int,
    splits: int,
    seed: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the agent with Bayesian search and simpler methods.

    Without DATA on the frozen benchmark of simulated experiments (minutes); with DATA on that
    run, of which one part of the frames is searched on and another one scores. Regret is the
    share of the reachable indexing rate that a method's recommendation misses.

    \b
    Example:
      sfx-tuner compare -o comparison
      sfx-tuner compare --frames-benchmark -o frames
      sfx-tuner compare run.h5 -g run.geom -p protein.cell -o comparison
    """
    from tuner.agent.policy import SHIPPED, Policy
    from tuner.comparison.benchmark import Benchmark
    from tuner.comparison.console import print_figures
    from tuner.comparison.store import ComparisonStore
    from tuner.searchers import SEARCHERS

    work: Callable[..., Found]
    asked: dict[str, Any]
    if not frames_benchmark:
        _refuse(ctx, OF_RECORDED_FRAMES, "is for the recorded frames: add --frames-benchmark")
    elif data is None:
        _refuse(ctx, (*OF_A_RUN, *OF_RESPONSES), "is for another benchmark: leave it out")
        _on_frames(recorded, methods, families, seeds, policy, output, resume, jobs, as_json)
        return
    if data is None:
        _refuse(ctx, OF_A_RUN, "is for a run: name its DATA file as well")
        benchmark = Benchmark.load()
        benchmark = benchmark.only(_chosen(families, list(benchmark.families), "--families"))
        work = partial(_compare_benchmark, benchmark, shared if full else None)
        asked = {"families": {name: vars(each) for name, each in benchmark.families.items()}}
        asked["full"] = str(shared.absolute()) if full else None
    else:
        _refuse(ctx, OF_THE_BENCHMARK, f"is for the benchmark: leave it out, or {data}")
        files = _run_files(data, geometry, cell)
        asked = {"frames": frames, "evaluations": evaluations, "splits": splits, "seed": seed}
        work = partial(_compare_run, files, **asked)
        asked |= dict(zip(("DATA", "geometry", "cell"), map(str, files), strict=True))
    # A searcher that looks at frames has none in the benchmark.
    able = [n for n in SEARCHERS.names() if data is not None or not SEARCHERS.get(n).looks]
    names = able if methods is None else methods.split(",")
    chosen = list(dict.fromkeys(SEARCHERS.name_of(name.strip()) for name in names))
    agent, choice = Policy.load(policy or SHIPPED), indexer_choice(options)
    asked |= {"methods": chosen, "policy": _digest(policy or SHIPPED, "*.safetensors")}
    asked["warm_start"] = _digest(SHIPPED, "warm_start.json")
    asked["merit"] = Merit().as_dict()
    asked["indexer"] = {
        "name": choice.own_name,
        **{key: getattr(choice, key) for key in ("method", "effort", "timeout")},
    }

    store = ComparisonStore.open(output, asked, resume=resume)
    with going_on(store):
        figures, results = work(choice, agent, chosen, store, jobs)
        if output is not None:
            _write(output, figures, results)
            store.finish()
    if as_json:
        print_json({"families": figures})
    else:
        print_figures(figures)
        if output is not None:
            echo(f"written: {output}")


def _on_frames(
    recorded: bool,
    methods: str | None,
    families: str | None,
    seeds: int,
    policy: Path | None,
    output: Path | None,
    resume: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Compare on the recorded frames, or print what was."""
    from tuner.agent.policy import SHIPPED, Policy
    from tuner.cli.compare_frames import (
        compare_on_frames_benchmark,
        frames_question,
        print_recorded,
    )
    from tuner.comparison.frames_words import print_frames
    from tuner.comparison.store import ComparisonStore

    if recorded:
        print_recorded(as_json)
        return
    agent = Policy.load(policy or SHIPPED)
    learnt = {
        "policy": _digest(policy or SHIPPED, "*.safetensors"),
        "warm_start": _digest(SHIPPED, "warm_start.json"),
    }
    asked = frames_question(methods, families, seeds, learnt)
    store = ComparisonStore.open(output, asked, resume=resume)
    with going_on(store):
        figures = compare_on_frames_benchmark(asked, agent, store, jobs, output)
        store.finish()
    if as_json:
        print_json(figures)
    else:
        print_frames(figures)


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


def _chosen(given: str | None, known: list[str], option: str) -> list[str]:
    if given is None:
        return known
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"{option} has {name!r}; choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _digest(directory: Path, files: str) -> str:
    """Return a number that tells what some files of a directory hold from other contents."""
    contents = (path.read_bytes() for path in sorted(directory.glob(files)))
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def _compare_benchmark(
    benchmark: Benchmark,
    shared: Path | None,
    indexer: IndexerChoice,
    policy: Policy,
    methods: Sequence[str],
    store: ComparisonStore,
    jobs: int,
) -> Found:
    """Compare on the frozen families, and with the folder of shared runs on frames as well."""
    from tuner.comparison.benchmark import compare_simulated
    from tuner.comparison.runs import SHARED_RUNS, compare_everything
    from tuner.comparison.statistics import add_costs, compare_family
    from tuner.comparison.tables import compare_tables

    if shared is not None:
        for name, (file, *_) in SHARED_RUNS.items():
            if not (shared / file).exists():
                stderr.print(f"{name} is left out: {shared / file} does not exist", highlight=False)
    results = store.results
    with progress_bar("comparing", benchmark.n_units) as show:

        def on_progress(done: int) -> None:
            show(done)
            store.keep()

        compare_simulated(
            benchmark, policy, methods, jobs=jobs, results=results, on_progress=on_progress
        )
    runs: Found = ({}, {})
    if shared is not None:
        with status(store) as (show_stage, _):
            tables = results.setdefault("tables", {})
            compare_tables(policy, methods, results=tables, on_progress=show_stage)
            runs = compare_everything(
                shared, indexer, policy, methods, jobs=jobs, store=store, on_progress=show_stage
            )
    figures = {}
    for family, by_method in results.items():
        figures[family] = compare_family({m: what["regret"] for m, what in by_method.items()})
        add_costs(figures[family], by_method)
    return figures | runs[0], results | runs[1]


def _compare_run(
    files: tuple[Path, Path, Path],
    indexer: IndexerChoice,
    policy: Policy,
    methods: Sequence[str],
    store: ComparisonStore,
    jobs: int,
    *,
    frames: int,
    evaluations: int,
    splits: int,
    seed: int,
) -> Found:
    """Compare on a user's run."""
    from tuner.comparison.runs import compare_run

    with status(store) as (show, within):
        figures, results = compare_run(
            *files, indexer, policy, methods, n_frames=frames, budget=evaluations, splits=splits,
            seed=seed, jobs=jobs, store=store, on_progress=show, on_frames=within,
        )  # fmt: skip
    return {"run": figures}, {"run": results}


def _write(output: Path, figures: dict[str, dict[str, Any]], results: dict[str, Results]) -> None:
    """Write tables, pictures and every regret; last of all the file that marks the end."""
    from tuner.comparison.pictures import draw_pictures, draw_run_pictures
    from tuner.comparison.results import write_results
    from tuner.comparison.words import is_run, markdown

    write_results(output / "results.npz", results)
    write_whole(output / "comparison.md", markdown(figures))
    runs = {name: rows for name, rows in results.items() if is_run(figures[name])}
    regrets = {
        name: {method: what["regret"] for method, what in rows.items()}
        for name, rows in results.items()
        if name not in runs
    }
    if regrets:
        draw_pictures(regrets, figures, output)
    if runs:
        draw_run_pictures(runs, figures, output)
    write_whole(output / "comparison.json", json.dumps({"families": figures}, indent=1) + "\n")
