"""``sfx-tuner compare``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from tuner.cli.options import (
    existing,
    indexer_choice,
    indexer_options,
    jobs_option,
    json_option,
    print_json,
    progress_bar,
    seed_option,
    stderr,
)
from wrappers.errors import InputError
from wrappers.files import write_whole


@click.command("compare")
@click.argument("data", type=existing, metavar="[DATA]", required=False)
@click.option("-g", "--geometry", type=existing, help="CrystFEL geometry file of DATA.")
@click.option("-p", "--cell", type=existing, help="Unit cell of DATA.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Directory for the table, the pictures and every regret.  [default: none are written]",
)
@click.option("--full", is_flag=True, help="Add rendered, recorded and shared runs (hours).")
@click.option(
    "--shared",
    type=existing,
    default=Path("../shared/data"),
    show_default=True,
    help="Where --full looks for real and CrystFEL-simulated runs.",
)
@click.option("--methods", help="Only these, comma-separated.  [default: all]")
@click.option("--families", help="Only these of the benchmark, comma-separated.  [default: all]")
@click.option(
    "--policy",
    type=existing,
    help="Directory of another policy (sfx-tuner train).  [default: the shipped one]",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Frames of DATA to search on; at most half of them.",
)
@click.option(
    "--evaluations",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Budget of every method on DATA.",
)
@indexer_options
@seed_option
@jobs_option
@json_option
def command(
    data: Path | None,
    geometry: Path | None,
    cell: Path | None,
    output: Path | None,
    full: bool,
    shared: Path,
    methods: str | None,
    families: str | None,
    policy: Path | None,
    frames: int,
    evaluations: int,
    seed: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the agent with Bayesian search and simpler methods.

    Without DATA on the frozen benchmark of simulated experiments; with DATA on that run, of
    which one part of the frames is searched on and another one judges. Regret is the share of
    the reachable indexing rate that a method's recommendation misses.

    \b
    Example:
      sfx-tuner compare -o comparison
      sfx-tuner compare run.h5 -g run.geom -p protein.cell --frames 200
    """
    from tuner.comparison import Benchmark, compare_simulated
    from tuner.comparison_methods import METHODS, Kit
    from tuner.comparison_statistics import compare_family
    from tuner.policy import Policy
    from tuner.warm_start import WarmStart

    if data is None and (geometry is not None or cell is not None):
        raise InputError("-g and -p belong to a run: name its DATA file as well")
    chosen = _chosen(methods, list(METHODS), "--methods")
    kit = Kit(Policy.load() if policy is None else Policy.load(policy), WarmStart.load())
    choice = indexer_choice(options)
    if data is not None:
        from tuner.comparison_runs import compare_run

        if geometry is None or cell is None:
            raise InputError(f"{data} needs its geometry (-g) and cell (-p) to be compared on")
        with _status() as show:
            found = compare_run(
                data, geometry, cell, choice, kit, chosen,
                n_frames=frames, budget=evaluations, seed=seed, jobs=jobs, on_progress=show,
            )  # fmt: skip
        _report({"run": found}, output, as_json)
        return
    benchmark = Benchmark.load()
    benchmark = benchmark.only(_chosen(families, list(benchmark.families), "--families"))
    with progress_bar("comparing", benchmark.n_units) as show:
        results = compare_simulated(benchmark, kit, chosen, jobs=jobs, on_progress=show)
    figures: dict[str, dict[str, Any]] = {}
    for family, by_method in results.items():
        figures[family] = compare_family({m: r["regret"] for m, r in by_method.items()})
        _add_costs(figures[family], by_method)
    if full:
        from tuner.comparison_runs import compare_everything
        from tuner.comparison_tables import compare_tables

        with _status() as show:
            tables = compare_tables(kit, chosen, on_progress=show)
            results["tables"] = tables
            figures["tables"] = compare_family({m: r["regret"] for m, r in tables.items()})
            _add_costs(figures["tables"], tables)
            figures |= compare_everything(shared, choice, kit, chosen, jobs=jobs, on_progress=show)
    _report(figures, output, as_json)
    if output is not None:
        from tuner.comparison_pictures import draw_pictures

        regrets = {f: {m: r["regret"] for m, r in rows.items()} for f, rows in results.items()}
        _write_regrets(output / "regrets.npz", regrets)
        draw_pictures(regrets, figures, output)


@contextmanager
def _status() -> Iterator[Callable[[str, int, int], None]]:
    """Show on stderr what is being done; yields a function that takes what, done and total."""
    with stderr.status("comparing") as status:
        yield lambda what, done, total: status.update(f"{what}: {done} of {total}")


def _write_regrets(path: Path, regrets: dict[str, dict[str, Any]]) -> None:
    """Write every regret, arrays (tasks, seeds, evaluations) by family and method."""
    content = io.BytesIO()
    np.savez_compressed(
        content, **{f"{f}/{m}": values for f, rows in regrets.items() for m, values in rows.items()}
    )
    write_whole(path, content.getvalue())


def _chosen(given: str | None, known: list[str], option: str) -> list[str]:
    if given is None:
        return known
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"{option} has {name!r}; choose from {', '.join(known)}")
    return names


def _add_costs(figures: dict[str, Any], by_method: dict[str, dict[str, Any]]) -> None:
    for method, arrays in by_method.items():
        figures[method]["suggestion_seconds"] = float(arrays["seconds"].mean())
        for n in (5, 10):
            if "clen_error" in arrays and arrays["clen_error"].shape[2] >= n:
                near = abs(arrays["clen_error"][:, :, n - 1]) <= 1e-3
                figures[method][f"clen_within_0.1_percent_{n}"] = float(near.mean())


def _report(figures: dict[str, dict[str, Any]], output: Path | None, as_json: bool) -> None:
    document = {"families": figures}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "comparison.json", json.dumps(document, indent=1) + "\n")
    if as_json:
        print_json(document)
        return
    console = Console(width=100, highlight=False)
    for family, found in figures.items():
        console.print(_table(family, found))
        ci95 = found.get("warm_gp_minus_agent_10_ci95")
        if ci95:
            console.print(
                f"regret after 10 evaluations, warm_gp less agent: 95 % interval "
                f"[{ci95[0]:+.4f}, {ci95[1]:+.4f}]"
            )
    if output is not None:
        console.print(f"written: {output}")


def _table(family: str, found: dict[str, Any]) -> Table:
    title = f"{family}: {found['n_tasks']} tasks × {found['n_seeds']} seeds, regret after"
    table = Table(title=title)
    table.add_column("method")
    for heading in ("5", "10", "20", "AUC", "agent less, p (Holm)"):
        table.add_column(heading, justify="right")
    paired = found.get("paired", {})
    for method, row in found.items():
        if not isinstance(row, dict) or "auc" not in row:
            continue
        pair = paired.get(method, {})
        p_value = pair.get("p_wilcoxon_holm", pair.get("p_mcnemar_holm"))
        table.add_row(
            method,
            *(f"{row[key]:.3f}" if key in row else "" for key in ("regret_5", "regret_10")),
            f"{row['regret_20']:.3f}" if "regret_20" in row else "",
            f"{row['auc']:.3f}",
            "" if p_value is None else f"{pair['difference']:+.3f}, {p_value:.1e}",
        )
    return table
