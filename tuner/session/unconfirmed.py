"""The best so far of a session that has not ended: always in its directory, marked unconfirmed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.geometry_rule import GEOMETRY
from tuner.recommendation import CONFIRMED, read_recommendation, recommend, write_recommendation
from tuner.session.nothing import write_nothing
from tuner.session.outcome import Outcome

__all__ = ["keep_unconfirmed"]


def keep_unconfirmed(so_far: Outcome, provenance: Mapping[str, Any], directory: Path) -> None:
    """Write the best so far as what would be recommended now, unless that stands there already."""
    path = directory / "recommended.toml"
    found = recommend(
        so_far.best, so_far.baseline, {**provenance, CONFIRMED: False}, start=so_far.start
    )
    if path.exists():
        before = read_recommendation(path)
        same = {**before.settings.as_dict(), **dict.fromkeys(GEOMETRY)} == {
            **found.settings.as_dict(),
            **dict.fromkeys(GEOMETRY),
        }
        if same and not before.unconfirmed:
            return  # a resumed session that has confirmed it
    write_nothing(directory, "")
    write_recommendation(found, path)
