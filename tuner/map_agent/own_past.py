"""The response map's model, refined on a facility's own finished sessions.

What a session measured is the truth there: for every set that it tried, which frames were indexed.
With that the distribution over runs, fitted to simulated experiments, is fitted on. How much the
sessions count against the simulation is chosen by what sessions say that were left out, an
experiment at a time; where none of it predicts those better than the shipped model does, nothing
is written.

The policy is not trained on: a session tells of the sets that it tried only, and the network goes
by merits and errors, which the model gives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from envs.response_map.model import MapModel, Priors
from envs.response_map.regression import Outcomes, Prior, fit_prior
from envs.response_map.session_map import ResponseMap
from envs.response_map.stored import MAP_FILE, read_map
from tuner.map_agent.policy import POLICY_FILE, MapPolicy
from tuner.session.config import SessionConfig
from wrappers.cell import Cell
from wrappers.errors import InputError, Note
from wrappers.outputs import require_new_folder

__all__ = ["Refinement", "Run", "log_likelihood", "refine", "refine_on_sessions", "run_of"]

FEWEST = 3
"""Experiments, so that each can be predicted from others."""

WEIGHTS = (2.0, 5.0, 15.0, 50.0)
"""Runs that the simulated experiments count as."""

ROUNDS = 8
DRAWS = 256
"""Of coefficients and levels, to predict outcomes with."""


@dataclass(frozen=True)
class Refinement:
    """What came of it.

    Attributes
    ----------
    model : MapModel or None
        None where no refined model is better than the one before.
    before, after : float
        Mean log-likelihood of an outcome of an experiment that was left out, by the model before
        and by the best refined one.
    weight : float
        Runs that the simulated experiments count as in the best.
    n_experiments, n_outcomes : int
    """

    model: MapModel | None
    before: float
    after: float
    weight: float
    n_experiments: int
    n_outcomes: int


@dataclass(frozen=True)
class Run:
    """What a session has measured.

    Attributes
    ----------
    experiment : str
        What tells its run from others.
    indexer : str
        Of `envs.response_map.model.INDEXERS`.
    outcomes : (Outcomes, Outcomes)
        By counts, and by lattices.
    """

    experiment: str
    indexer: str
    outcomes: tuple[Outcomes, Outcomes]


def refine_on_sessions(sessions: Sequence[Path], output: Path) -> Refinement:
    """Refine the shipped model on finished sessions, and write it with the policy.

    Parameters
    ----------
    sessions : sequence of Path
        Directories of sessions; what an interrupted one has measured counts as well.
    output : Path
        New or empty: a directory for ``tune --policy``. Nothing is written
        where the refined model is worse.

    Raises
    ------
    InputError
        If a directory holds no session with a map that has measured anything, or its cell file is
        gone, or too few experiments are told of.
    """
    require_new_folder(output, POLICY_FILE)
    shipped = MapPolicy.shipped()
    found = refine([_read(each) for each in sessions], MapModel.shipped())
    if found.model is not None:
        provenance = {**shipped.provenance, "refined": dict(found.model.provenance)["refined"]}
        MapPolicy(shipped.parts, provenance, found.model).save(output / POLICY_FILE)
    return found


def _read(session: Path) -> Run:
    config = SessionConfig.read(session / "session.json")
    if not (session / MAP_FILE).exists():
        raise InputError(
            f"the session {session} has no response map, as its searcher looked at no frames: name "
            "sessions of the searchers map-agent or map"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # of another version of the model
        known = read_map(session / MAP_FILE, volume=Cell.read(config.cell).primitive_volume)
    run = run_of(known, config.data_sha256 or config.data)
    if not any(len(each.x) for each in run.outcomes):
        raise InputError(f"the session {session} has measured nothing: leave it out")
    return run


def run_of(known: ResponseMap, experiment: str) -> Run:
    """Return what a map has learnt, and of which experiment."""
    return Run(experiment, known.indexer, known.outcomes())


def refine(runs: Sequence[Run], model: MapModel) -> Refinement:
    """Return the refined model; see the module.

    Parameters
    ----------
    runs : sequence of Run
    model : MapModel
        Before.
    """
    experiments = sorted({run.experiment for run in runs})
    if len(experiments) < FEWEST:
        raise InputError(
            f"the sessions are of {len(experiments)} different run"
            f"{'s' * (len(experiments) > 1)}, but it takes {FEWEST} so that each can be predicted "
            "from others: name sessions of more runs"
        )
    kept_out = [
        ([run for run in runs if run.experiment != name],
         [run for run in runs if run.experiment == name])
        for name in experiments
    ]  # fmt: skip
    before = float(np.mean([log_likelihood(model, held) for _, held in kept_out]))
    scores = {
        weight: float(
            np.mean([log_likelihood(_fitted(model, rest, weight), held) for rest, held in kept_out])
        )
        for weight in WEIGHTS
    }
    weight = max(scores, key=lambda each: scores[each])
    n_outcomes = sum(len(run.outcomes[0].x) for run in runs)
    refined: dict[str, Any] = {
        "experiments": len(experiments),
        "outcomes": n_outcomes,
        "weight": weight,
        "log_likelihood_before": before,
        "log_likelihood": scores[weight],
    }
    better = None
    if scores[weight] > before:
        fitted = _fitted(model, runs, weight)
        better = replace(fitted, provenance={**model.provenance, "refined": refined})
    return Refinement(better, before, scores[weight], weight, len(experiments), n_outcomes)


def _fitted(model: MapModel, runs: Sequence[Run], weight: float) -> MapModel:
    priors = dict(model.priors)
    for indexer in {run.indexer for run in runs}:
        told = [run.outcomes for run in runs if run.indexer == indexer]
        fitted: list[Prior] = []
        for kind, start in enumerate(priors[indexer]):
            seen = [outcomes[kind] for outcomes in told if len(outcomes[kind].x)]
            fitted.append(
                fit_prior(seen, start=start, weight=weight, rounds=ROUNDS) if seen else start
            )
        priors[indexer] = Priors(*fitted)
    return replace(model, priors=priors)


def log_likelihood(model: MapModel, runs: Sequence[Run]) -> float:
    """Return the mean log-likelihood of outcomes, as predicted before any was measured."""
    rng = np.random.default_rng(0)
    found = []
    for run in runs:
        for prior, seen in zip(model.priors[run.indexer], run.outcomes, strict=True):
            if not len(seen.x):
                continue
            drawn = rng.multivariate_normal(prior.mean, prior.covariance, DRAWS)
            levels = prior.frame_sd * rng.standard_normal((DRAWS, 1))
            chance = expit(drawn @ seen.x.T + levels).mean(axis=0).clip(1e-6, 1 - 1e-6)
            found.append(np.where(seen.indexed, np.log(chance), np.log(1 - chance)).mean())
    return float(np.mean(found)) if found else 0.0
