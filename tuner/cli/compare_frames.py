"""``sfx-tuner compare`` without DATA: the frozen frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.cli.options import print_json, progress_bar, stderr
from tuner.display.terminal import echo
from wrappers.errors import InputError
from wrappers.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from tuner.comparison.store import ComparisonStore
    from tuner.map_agent.policy import MapPolicy

__all__ = ["compare_on_frames_benchmark", "frames_question", "print_recorded"]


def print_recorded(as_json: bool) -> None:
    """Print the result that the repository holds."""
    from tuner.comparison.frames_retired import read_recorded
    from tuner.comparison.frames_words import print_frames

    found = read_recorded()
    if as_json:
        print_json({name: values for name, values in found.items() if name != "about"})
        return
    for name, value in found["about"].items():
        echo(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    print_frames(found)


def frames_question(
    methods: str | None, families: str | None, n_seeds: int, learnt: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return all that the figures depend on, plain values.

    Raises
    ------
    InputError
        If a method or family is not known, or there are no records.
    """
    from tuner.comparison.frames_benchmark import METHODS, RETIRED, fingerprint, frames_tasks

    tasks = frames_tasks()
    every = [*METHODS, *RETIRED]
    chosen = every if methods is None else [each.strip() for each in methods.split(",")]
    for method in chosen:
        if method not in every:
            raise InputError(f"--methods has {method!r}; choose from {', '.join(every)}")
    if not set(chosen) & METHODS.keys():
        raise InputError(
            f"--methods has {', '.join(chosen)} alone, which is retired: name another one as well, "
            "or have what was recorded of it printed with --recorded"
        )
    known = list(dict.fromkeys(task.family for task in tasks))
    wanted = known if families is None else [each.strip() for each in families.split(",")]
    for family in wanted:
        if family not in known:
            raise InputError(f"--families has {family!r}; choose from {', '.join(known)}")
    return {
        "benchmark": "frames",
        "families": wanted,
        "methods": list(dict.fromkeys(chosen)),
        "seeds": n_seeds,
        "records": fingerprint(tasks),
        **learnt,
    }


def compare_on_frames_benchmark(
    asked: Mapping[str, Any],
    policy: MapPolicy,
    store: ComparisonStore,
    jobs: int,
    output: Path | None,
) -> dict[str, Any]:
    """Run what was asked; return the figures of the families, and of several together."""
    from tuner.comparison.frames_benchmark import (
        METHODS,
        RETIRED,
        compare_frames,
        frames_figures,
        frames_tasks,
        minutes,
        write_recorded,
    )
    from tuner.comparison.frames_retired import with_retired
    from tuner.comparison.frames_together import together

    tasks = [task for task in frames_tasks() if task.family in asked["families"]]
    methods: Sequence[str] = [each for each in asked["methods"] if each in METHODS]
    n_seeds: int = asked["seeds"]
    stderr.print(
        f"{len(tasks)} experiments × {n_seeds} seeds × 2 halves × {len(methods)} methods: about "
        f"{math.ceil(minutes(len(tasks), n_seeds, methods, 2))} min on two cores (-j 2)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    with progress_bar("comparing", 2 * n_seeds * len(tasks)) as show:

        def on_progress(done: int) -> None:
            show(done)
            store.keep()

        results = compare_frames(
            tasks, policy, methods, n_seeds=n_seeds, jobs=jobs, results=store.results,
            on_progress=on_progress,
        )  # fmt: skip
    own = {"families": frames_figures(results, n_seeds), "together": together(results)}
    figures = with_retired(own, asked["methods"], asked["records"])
    if figures is None:
        stderr.print(
            f"{', '.join(RETIRED)} is left out: it is retired, and what was recorded of it is of "
            "other experiments", highlight=False,
        )  # fmt: skip
        figures = own
    if output is not None:
        from tuner.comparison.frames_pictures import draw_frames
        from tuner.comparison.frames_words import frames_markdown
        from tuner.comparison.results import write_results

        write_results(output / "results.npz", results)
        write_whole(output / "comparison.md", frames_markdown(figures))
        draw_frames(results, output / "anytime.png")
        # Last of all: it marks the end.
        write_recorded(output / "comparison.json", figures, asked)
    return figures
