"""Methods of the frames benchmark that cannot be run any more: what was recorded of them stands.

The experiments are frozen, so what a method came to on them stays true after its code is gone, as
long as the records of the experiments are the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.comparison.frames_benchmark import RECORDED, RETIRED, add_most_behind
from wrappers.schema import read_json

__all__ = ["read_recorded", "with_retired"]

Found = Mapping[str, Any]


def read_recorded() -> dict[str, Any]:
    """Return the result that the repository holds: ``about``, ``families`` and ``together``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return read_json(
        RECORDED, dict[str, Any], "the recorded comparison", "take the one of the repository"
    )


def with_retired(figures: Found, methods: Sequence[str], records: str) -> dict[str, Any] | None:
    """Return the figures with what was recorded of the retired ones of some methods.

    Parameters
    ----------
    figures : mapping
        ``families`` and ``together``, of what was run.
    methods : sequence of str
    records : str
        The fingerprint of the experiments that it was run on.

    Returns
    -------
    dict or None
        None where something was asked for that was recorded on other experiments. A row that was
        recorded has ``recorded_by``, the version, and ``n_seeds``.
    """
    retired = [method for method in methods if method in RETIRED]
    if not retired:
        return dict(figures)
    recorded = read_recorded()
    if recorded["about"].get("records") != records:
        return None
    families, groups = {}, {}
    for name, found in figures["families"].items():
        kept = recorded["families"][name]
        rows = {
            method: {"n_seeds": kept["n_seeds"], **kept[method], "recorded_by": RETIRED[method]}
            for method in retired
        }
        families[name] = {**found, **rows}
        add_most_behind(families[name])
    for name, found in figures["together"].items():
        kept = recorded["together"][name]["regret"]
        regrets = {method: kept[method] for method in retired}
        groups[name] = {**found, "regret": {**found["regret"], **regrets}}
    return {**figures, "families": families, "together": groups}
