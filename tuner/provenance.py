"""Where a recommendation comes from: program, inputs, what was tuned, and what it cost."""

from __future__ import annotations

import datetime
import importlib.metadata
from typing import Any

from envs.geometry_rule import GEOMETRY
from envs.parameter_space import ParameterSpace
from tuner.session.found_geometry import moved_geometry
from tuner.session.outcome import Outcome
from tuner.session.store import BAD_PIXELS, SessionStore
from wrappers.frames.source import FrameSource

__all__ = ["provenance_of"]


def provenance_of(
    store: SessionStore, run: FrameSource, space: ParameterSpace, outcome: Outcome
) -> dict[str, Any]:
    """Return a finished session's provenance, plain values."""
    evaluations = [trial.evaluation for trial in store.trials]
    return {
        "program": f"sfx-tuner {importlib.metadata.version('sfx-tuner')}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "searcher": store.config.searcher,
        "merit": store.config.merit.as_dict(),
        "tuned": [
            *store.config.tuned,
            *moved_geometry(store.config.found_geometry, space, outcome.best.settings),
        ],
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
        **{
            f"{p.name}_bounds": [p.low, p.high]
            for p in (*space.parameters, *space.joining)
            if p.name in GEOMETRY
        },
        "pixel_size": 1 / run.geometry.panels[0].res,
        **({"bad_pixels": str((store.directory / BAD_PIXELS).resolve())} if run.bad_pixels else {}),
        **({"cell_origin": store.config.cell_origin} if store.config.cell_origin else {}),
        **{
            key: value
            for name in ("data", "geometry", "cell", "policy", "spots")
            for key in (name, f"{name}_sha256")
            if (value := getattr(store.config, key, None)) is not None
        },
    }
