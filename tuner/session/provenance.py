"""Where a recommendation comes from, and the best so far of a session that has not ended."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.geometry_rule import GEOMETRY
from envs.parameter_space import ParameterSpace
from tuner.recommendation import CONFIRMED, read_recommendation, recommend, write_recommendation
from tuner.session.nothing import write_nothing
from tuner.session.outcome import Outcome
from tuner.session.store import SessionStore
from wrappers.frames.source import FrameSource

__all__ = ["BAD_PIXELS", "keep_unconfirmed", "provenance_of"]

BAD_PIXELS = "bad_pixels.h5"
"""In a session's directory: the map that its settings' masks are made of."""


def provenance_of(
    store: SessionStore, run: FrameSource, space: ParameterSpace, outcome: Outcome
) -> dict[str, Any]:
    """Return how a session's recommendation came about, plain values."""
    evaluations = [trial.evaluation for trial in store.trials]
    return {
        "program": f"sfx-tuner {importlib.metadata.version('sfx-tuner')}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "searcher": store.config.searcher,
        "merit": store.config.merit.as_dict(),
        "tuned": list(store.config.tuned),
        "seed": store.config.seed,
        "indexer": store.config.indexer,
        "evaluations": len(evaluations),
        "frame_evaluations": sum(evaluation.n_frames for evaluation in evaluations),
        "core_seconds": round(sum(evaluation.core_seconds for evaluation in evaluations), 1),
        "measured_on_fresh_frames": outcome.on_fresh_frames,
        **({"ended_by": outcome.ended_by_failure} if outcome.ended_by_failure else {}),
        **({"choice": outcome.choice} if outcome.choice else {}),
        **({"stopped": outcome.stopped} if outcome.stopped else {}),
        **({"start": store.config.start["words"]} if outcome.start is not None else {}),
        "geometry_clen": run.nominal_clen,
        **{f"{p.name}_bounds": [p.low, p.high] for p in space.parameters if p.name in GEOMETRY},
        "pixel_size": 1 / run.geometry.panels[0].res,
        **({"bad_pixels": str((store.directory / BAD_PIXELS).resolve())} if run.bad_pixels else {}),
        **({"cell_origin": store.config.cell_origin} if store.config.cell_origin else {}),
        **{
            key: value
            for name in ("data", "geometry", "cell", "policy")
            for key in (name, f"{name}_sha256")
            if (value := getattr(store.config, key)) is not None
        },
    }


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
