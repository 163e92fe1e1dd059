"""The best so far of a session that has not ended: always in its directory, marked unconfirmed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from envs.geometry_rule import GEOMETRY
from tuner.recommendation import (
    CONFIRMED,
    Recommendation,
    read_recommendation,
    recommend,
    write_recommendation,
)
from tuner.session.nothing import write_nothing
from tuner.session.outcome import Outcome, outcome_so_far
from tuner.session.store import SessionStore
from wrappers.errors import InputError

__all__ = ["keep_unconfirmed"]


def keep_unconfirmed(store: SessionStore, provenance: Callable[[Outcome], dict[str, Any]]) -> None:
    """Have the best so far in a session's directory, whatever ends the session.

    What a resumed session has confirmed stays until another set is better, and so does all once
    the winner is being confirmed.

    Parameters
    ----------
    store : SessionStore
        After a new trial.
    provenance : callable
        Returns that of an outcome.
    """
    so_far = outcome_so_far(store.trials)
    if so_far is None or store.trials[-1].stage in ("confirm", "fresh"):
        return
    path = store.directory / "recommended.toml"
    found = recommend(
        so_far.best, so_far.baseline, {**provenance(so_far), CONFIRMED: False}, start=so_far.start
    )
    with suppress(InputError):  # there is none, or it is damaged: in the end it is written anew
        before = read_recommendation(path)
        if not before.unconfirmed and _peaks(before) == _peaks(found):
            return
    write_nothing(store.directory, "")
    write_recommendation(found, path)


def _peaks(recommendation: Recommendation) -> dict[str, Any]:
    """Return the settings but for the geometry, which the confirmation may correct."""
    values = recommendation.settings.as_dict()
    return {name: value for name, value in values.items() if name not in GEOMETRY}
