"""What ``sfx-tuner compare`` shows while it runs, and says when it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tuner.cli.options import stderr

if TYPE_CHECKING:
    from tuner.comparison.store import ComparisonStore

__all__ = ["going_on", "status"]


@contextmanager
def going_on(store: ComparisonStore) -> Iterator[None]:
    """Keep what was measured where something ends the comparison, and say how to go on."""
    try:
        yield
    except BaseException:
        store.keep(now=store.begun)
        if store.begun:
            stderr.print(
                f"nothing measured is lost: the same command with --resume goes on with "
                f"{store.directory}", highlight=False, soft_wrap=True,
            )  # fmt: skip
        raise


@contextmanager
def status(
    store: ComparisonStore,
) -> Iterator[tuple[Callable[[str, int, int], None], Callable[[int, int], None]]]:
    """Show on stderr what is being done.

    Yields a function that takes what, done and total, and one that takes the frames done and
    all frames of the evaluation under way. Where stderr is no terminal, every method and stage
    is told on a line of its own.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[within]}"),
        TimeElapsedColumn(),
    )
    last = ""
    with Progress(*columns, console=stderr, transient=True, expand=True) as progress:
        task = progress.add_task("comparing", total=None, within="")

        def show(what: str, done: int, total: int) -> None:
            nonlocal last
            progress.update(task, description=what, completed=done, total=total, within="")
            if not stderr.is_terminal and what != last:
                stderr.print(what, highlight=False)
            last = what
            store.keep()

        def show_frames(done: int, total: int) -> None:
            progress.update(task, within=f"{done}/{total} frames")

        yield show, show_frames
