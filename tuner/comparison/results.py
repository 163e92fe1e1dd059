"""The regrets of a comparison, by method, task and evaluation, and their file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wrappers.errors import InputError
from wrappers.files import write_whole
from wrappers.schema_arrays import read_arrays

__all__ = ["Results", "fill", "no_results", "read_results", "undone", "write_results"]

Results = dict[str, dict[str, NDArray[np.float64]]]
"""By method and what it is, arrays (tasks, seeds, budget); NaN where nothing was done yet."""


def no_results(methods: Sequence[str], whats: Sequence[str], shape: tuple[int, ...]) -> Results:
    """Return the results of a family that nothing was done for yet."""
    return {method: {what: np.full(shape, np.nan) for what in whats} for method in methods}


def undone(results: Results) -> list[tuple[int, int]]:
    """Return the tasks and seeds for which something is missing."""
    every = np.array([values for arrays in results.values() for values in arrays.values()])
    places = np.argwhere(np.isnan(every).any(axis=(0, 3))).tolist()
    return [(task, seed) for task, seed in places]


def fill(
    results: Mapping[str, Results],
    rows: Iterable[tuple[tuple[str, int, int], Results]],
    on_progress: Callable[[int], None],
) -> None:
    """Fill in what came of each family, task and seed; call back with the number that is done."""
    for done, ((family, task, seed), row) in enumerate(rows, 1):
        for method, arrays in row.items():
            for what, values in arrays.items():
                results[family][method][what][task, seed] = values
        on_progress(done)


def write_results(path: Path, results: Mapping[str, Results]) -> None:
    """Write arrays (tasks, seeds, evaluations), named ``family/method/what``."""
    content = io.BytesIO()
    arrays = {
        f"{family}/{method}/{what}": values
        for family, by_method in results.items()
        for method, by_what in by_method.items()
        for what, values in by_what.items()
    }
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_whole(path, content.getvalue())


def read_results(path: Path) -> dict[str, Results]:
    """Read what `write_results` wrote; nothing where there is no such file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    results: dict[str, Results] = {}
    if not path.exists():
        return results
    for name, values in read_arrays(path, "the comparison's", "delete it").items():
        match name.split("/"):
            case family, method, what if values.ndim == 3 and values.dtype == np.float64:
                results.setdefault(family, {}).setdefault(method, {})[what] = values
            case _:
                raise InputError(f"{path} is damaged ({name} are no regrets): delete it")
    return results
