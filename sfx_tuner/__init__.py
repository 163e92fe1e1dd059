"""Tuning of serial crystallography, from Python: the one name to import.

========================= ===================================================================
`tune`, `Session`         run a session; open one, look at its trials, resume it
`open_run`, `Geometry`,   what a session reads: frames, a detector, a unit cell
`Cell`
`Settings`                a parameter set
`find_peaks`, `index`     the peaks of frames; the lattices of a run
`tell_kinds`              the kinds of frames: blank, crystals, rings, streaks, faults
`apply`                   the recommended set fed to the reduction core
`TuningEnv`, `ENV_ID`     the Gymnasium environment, and its name for `gymnasium.make`
`SEARCHERS`,              where a searcher of one's own is registered, and what it keeps to
`SearcherKind`
========================= ===================================================================

Names are imported when they are first used, so importing this is quick. ``docs/python.md`` has
examples.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from envs import ENV_ID  # makes `gymnasium.make` know it

if TYPE_CHECKING:
    from envs.environments.tuning_env import TuningEnv
    from sfx_tuner.calls import apply, find_peaks, index, open_run, tune
    from sfx_tuner.session import Session
    from tuner.search.contract import SearcherKind
    from tuner.searchers import SEARCHERS
    from wrappers.cell import Cell
    from wrappers.detector.geometry import Geometry
    from wrappers.errors import InputError, ProgramError
    from wrappers.frame_kinds import tell_kinds
    from wrappers.settings import Settings

_HOMES = {
    "TuningEnv": "envs.environments.tuning_env",
    "apply": "sfx_tuner.calls",
    "find_peaks": "sfx_tuner.calls",
    "index": "sfx_tuner.calls",
    "open_run": "sfx_tuner.calls",
    "tune": "sfx_tuner.calls",
    "Session": "sfx_tuner.session",
    "SearcherKind": "tuner.search.contract",
    "SEARCHERS": "tuner.searchers",
    "Cell": "wrappers.cell",
    "Geometry": "wrappers.detector.geometry",
    "InputError": "wrappers.errors",
    "ProgramError": "wrappers.errors",
    "Settings": "wrappers.settings",
    "tell_kinds": "wrappers.frame_kinds",
}

__all__ = [
    "ENV_ID",
    "SEARCHERS",
    "Cell",
    "Geometry",
    "InputError",
    "ProgramError",
    "SearcherKind",
    "Session",
    "Settings",
    "TuningEnv",
    "__version__",
    "apply",
    "find_peaks",
    "index",
    "open_run",
    "tell_kinds",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("sfx-tuner")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'sfx_tuner' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
