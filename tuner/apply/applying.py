"""A recommended set applied to further runs, and whether its veto loses anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.evaluation import wilson_interval
from envs.evaluators.live import LiveEvaluator
from tuner.apply.drift import Alarm, RateWatch
from tuner.fingerprint import fingerprint, spots_fingerprint
from tuner.recommendation import (
    EDITED,
    Recommendation,
    applied_settings,
    files_of_session,
    read_recommendation,
)
from wrappers.cell import Cell
from wrappers.errors import InputError
from wrappers.frames.address import Address
from wrappers.frames.linked import files_of_run
from wrappers.frames.source import FrameSource
from wrappers.indexers import IndexerChoice, recorded_choice
from wrappers.indexing import Indexer
from wrappers.masks.bad_pixels import with_needed_map
from wrappers.outputs import check_outputs, companion
from wrappers.reduction import SettingsSet
from wrappers.settings import Settings

__all__ = [
    "FEWEST_PEAKS",
    "CurrentSet",
    "VetoCheck",
    "changed_model",
    "check_outputs_of",
    "check_veto",
    "named_set",
    "rate_alarms",
    "rate_intervals",
    "session_cell",
    "session_indexer",
]

FEWEST_PEAKS = 5
"""A frame that the veto drops is still given to the indexer with so many peaks."""


@dataclass(frozen=True)
class VetoCheck:
    """What the indexer says of a sample of all frames, hits and others.

    Attributes
    ----------
    n_frames : int
    n_kept, n_lost : int
        Frames that index, with as many peaks as a hit needs, and with fewer.
    indexer : str
    """

    n_frames: int
    n_kept: int
    n_lost: int
    indexer: str


def check_veto(
    run: FrameSource,
    settings: Settings,
    cell: Cell,
    indexer: Indexer,
    frames: Sequence[int],
    *,
    jobs: int,
) -> VetoCheck:
    """Index a sample of frames, whether they are hits or not.

    Parameters
    ----------
    run : FrameSource
    settings : Settings
    cell : Cell
    indexer : Indexer
    frames : sequence of int
    jobs : int
        Processes.
    """
    run = with_needed_map(run, settings, jobs=jobs)
    asked = settings.replace(min_peaks=min(settings.min_peaks, FEWEST_PEAKS))
    finder = settings.peak_finder
    with LiveEvaluator(
        run, cell, indexer, frames, jobs=jobs, max_decoys=0, memory=0, finder=finder
    ) as evaluator:
        outcomes = evaluator.evaluate(asked).outcomes
    indexed = [outcome.n_peaks for outcome in outcomes if outcome.indexed]
    n_kept = sum(n >= settings.min_peaks for n in indexed)
    return VetoCheck(len(outcomes), n_kept, len(indexed) - n_kept, indexer.name)


def check_outputs_of(
    output: Path,
    recommendation: Recommendation,
    run: FrameSource,
    *inputs: Address | None,
    kinds: Path | None = None,
) -> None:
    """Refuse to write the hits of a run over anything that the session or the reduction reads.

    Parameters
    ----------
    output : Path
        The file of the hits; its geometry stands beside it.
    recommendation : Recommendation
    run : FrameSource
    inputs : path, address or None
        Further files that are read.
    kinds : Path, optional
        The file of the kinds of frames, which is carried on.
    """
    check_outputs(
        *(output, companion(output, ".geom"), kinds),
        inputs=[*inputs, *files_of_run(run), *files_of_session(recommendation)],
        force=True,  # the reduction itself says what of its own may be replaced
    )


def changed_model(recommendation: Recommendation) -> str:
    """Return a sentence where a set's peaks would be found with another spot model, or "".

    Raises
    ------
    InputError
        If the model cannot be read.
    """
    known = recommendation.provenance.get("spots_sha256")
    name = recommendation.settings.peak_finder
    if known is None or spots_fingerprint(name) == known:
        return ""
    return (
        f"the model of --peaks {name} is no longer the one that the session was measured with: "
        "other peaks are found, and the rates may differ; put the old one back, or tune again"
    )


def session_indexer(recommendation: Recommendation) -> IndexerChoice:
    """Return the indexer that a session used, so that rates can be compared with its own."""
    return recorded_choice(recommendation.provenance)


def session_cell(recommendation: Recommendation) -> Path | None:
    """Return the session's cell file, or None where it is gone or has changed."""
    path = Path(str(recommendation.provenance.get("cell", "")))
    known = recommendation.provenance.get("cell_sha256")
    return path if path.is_file() and fingerprint(path) == known else None


def rate_intervals(recommendation: Recommendation) -> dict[str, tuple[float, float]]:
    """Return the 95 % intervals of the hit and indexing rates, as far as they are recorded.

    Settings that were edited by hand have none.
    """
    evidence = {} if recommendation.edited else recommendation.evidence
    try:
        n_frames = float(evidence["n_frames"])
        counts = {"hit rate": evidence["n_hits"], "indexing rate": evidence["n_indexed"]}
        if "n_equivalent" in evidence:  # drawn by their promise: the counts are not the run's
            n_frames = float(evidence["n_equivalent"])
            rates = {"hit rate": "hit_rate", "indexing rate": "indexing_rate"}
            counts = {name: evidence[field] * n_frames for name, field in rates.items()}
        return {name: wilson_interval(float(count), n_frames) for name, count in counts.items()}
    except (KeyError, TypeError, ValueError):
        return {}


def rate_alarms(
    recommendation: Recommendation, n_hits: int, n_frames: int, check: VetoCheck | None
) -> list[Alarm]:
    """Return which rates of one run lie outside the session's intervals; see `drift`.

    Parameters
    ----------
    recommendation : Recommendation
    n_hits, n_frames : int
        Of the run.
    check : VetoCheck or None
        Of a sample of its frames, indexed with the session's indexer.
    """
    watch = RateWatch(rate_intervals(recommendation))
    watch.begin_run()
    counts = [("hit rate", n_hits, n_frames)]
    if check is not None:
        counts.append(("indexing rate", check.n_kept, check.n_frames))
    alarms = [watch.count(*each) for each in counts]
    return [alarm for alarm in alarms if alarm is not None]


def named_set(recommendation: Recommendation, run: FrameSource) -> SettingsSet:
    """Return the set that a recommendation comes to for a run, named after its content."""
    digest = hashlib.sha256(json.dumps(recommendation.settings.as_dict()).encode()).hexdigest()
    date = recommendation.provenance.get("date", "")
    name = f"{date} sha256:{digest[:16]}".strip()
    return SettingsSet(applied_settings(recommendation, run.nominal_clen), name)


class CurrentSet:
    """What a ``recommended.toml`` recommends for a run at the moment of asking.

    The file is read again when it has changed: whole, or not at all. While it cannot be read,
    the set before it stays in force.

    Parameters
    ----------
    path : Path
        A ``recommended.toml`` or a session's directory.
    run : FrameSource
    on_problem : callable
        Called with a sentence when a changed file cannot be read, or was edited by hand.

    Attributes
    ----------
    recommendations : dict
        Those taken up so far, by the name of the set.
    """

    def __init__(self, path: Path, run: FrameSource, on_problem: Callable[[str], None]) -> None:
        self._path = path / "recommended.toml" if path.is_dir() else path
        self._run, self._on_problem = run, on_problem
        self._seen = self._signature()
        self.recommendations: dict[str, Recommendation] = {}
        self._current = self._taken_up(read_recommendation(self._path))

    def _taken_up(self, recommendation: Recommendation) -> SettingsSet:
        named = named_set(recommendation, self._run)
        self.recommendations[named.name] = recommendation
        return named

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def __call__(self) -> SettingsSet:
        """Return the set."""
        signature = self._signature()
        if signature is not None and signature != self._seen:
            self._seen = signature
            try:
                recommendation = read_recommendation(self._path)
                self._current = self._taken_up(recommendation)
                if recommendation.edited:
                    self._on_problem(f"{self._path}: {EDITED}, so no rate is held against them")
            except InputError as error:
                self._on_problem(f"{error}; the set before it stays in force")
        return self._current
