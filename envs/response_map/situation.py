"""What a session that goes by a response map stands before: a few sets worth measuring, and why.

The numbers are of merits, errors and costs, not of parameters: they mean the same in another box,
for other tuned parameters and for any number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.response_map.gains import UNINDEXED_COST, best_gains, merit_lead
from envs.response_map.response_map import Forecast

__all__ = [
    "CANDIDATES",
    "CANDIDATE_FEATURES",
    "PORTIONS",
    "SESSION_FEATURES",
    "Progress",
    "Situation",
    "leader_of",
    "situation",
]

Floats = NDArray[np.float64]

CANDIDATES = 16
"""Sets that are put up for choice."""

PORTIONS = (0.25, 0.5, 1.0)
"""Of the sample's frames, that a set can be measured on."""

CANDIDATE_FEATURES = (
    "mean",
    "sd",
    "cautious",
    "improvement",
    "chance_of_improvement",
    "rate",
    "hits",
    "luck",
    "cost",
    "portion",
    "distance",
    "leads",
    "possible",
)
"""Of a set: expected merit less the leader's, its error, their difference; expected improvement
and the chance of one; expected rate, hits, luck with the sample, cost in the leader's; the portion
of the frames that it was measured on; distance to the nearest measured set; whether it leads;
whether there is a set at this place."""

SESSION_FEATURES = (
    "budget",
    "has_leader",
    "leader_rate",
    "leader_hits",
    "leader_sd",
    "leader_portion",
    "n_tried",
    "n_frames",
    "strangeness",
    "crystfel",
    "best_mean",
    "best_improvement",
    "best_possible",
    "last_lead",
    "penalty",
)
"""Of the session: budget left in whole evaluations; of the set that leads, whether there is one,
its rate, hits, error, portion measured; sets tried; frames; how unlike the fitted runs this one is;
whether CrystFEL indexes; most that any set is expected to gain, the greatest expected improvement,
and what knowing every set would gain; what the last evaluation gained; the merit's penalty."""


@dataclass(frozen=True, eq=False)
class Progress:
    """What was spent and measured so far.

    Attributes
    ----------
    portion : float array (S,)
        Of the sample's frames, that each of the map's sets was measured on.
    points : float array (S, D)
        The sets in the unit cube.
    budget : float
        What is left, in evaluations on all frames.
    last_lead : float
        What the last evaluation gained.
    """

    portion: Floats
    points: Floats
    budget: float
    last_lead: float


@dataclass(frozen=True, eq=False)
class Situation:
    """What is up for choice.

    Attributes
    ----------
    columns : int array (CANDIDATES,)
        Which of the map's sets is at each place; -1 where none is. The first is what the map's own
        rule takes.
    candidates : float32 array (CANDIDATES, len(CANDIDATE_FEATURES))
    session : float32 array (len(SESSION_FEATURES),)
    leader : int or None
        The set that would be recommended now.
    """

    columns: NDArray[np.int64]
    candidates: NDArray[np.float32]
    session: NDArray[np.float32]
    leader: int | None

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which actions (CANDIDATES * len(PORTIONS) + 1,) there are; the last is to stop."""
        portion = self.candidates[:, CANDIDATE_FEATURES.index("portion")]
        there = self.columns >= 0
        more = there[:, None] & (np.array(PORTIONS) > portion[:, None] + 1e-6)
        return np.append(more.ravel(), self.leader is not None)


def leader_of(forecast: Forecast, portion: Floats, penalty: float) -> int | None:
    """Return which of the measured sets is to be recommended, or None if none was measured.

    It is the one whose expected merit, less its error, is highest: of a set measured on few frames
    only the map speaks for the others.
    """
    tried = np.flatnonzero(portion > 0)
    if not len(tried):
        return None
    return int(tried[np.argmax(forecast.cautious_merits(penalty)[tried])])


def situation(
    forecast: Forecast,
    progress: Progress,
    *,
    penalty: float,
    indexer: str,
    n_frames: int,
    strangeness: float,
) -> Situation:
    """Return what is up for choice.

    Parameters
    ----------
    forecast : Forecast
        Of all S sets of the map.
    progress : Progress
    penalty : float
        For a hit that is not indexed, in indexed frames.
    indexer : {"fast", "crystfel"}
    n_frames : int
        Of the sample.
    strangeness : float
        See `MapModel.strangeness`.
    """
    merits = forecast.merits(penalty)
    mean, sd = merits.mean(axis=0), merits.std(axis=0)
    leader = leader_of(forecast, progress.portion, penalty)
    whole = progress.portion >= 1
    lead = merit_lead(merits, leader)
    improvement = np.maximum(lead, 0).mean(axis=0)
    level = mean[leader] if leader is not None else 0.0
    gains = best_gains(forecast, np.flatnonzero(whole), ~whole, penalty, indexer)
    columns = _put_up(gains, mean, sd, whole)
    rate = forecast.mean
    cost = forecast.hits + UNINDEXED_COST[indexer] * np.maximum(forecast.hits - rate, 0)
    reference = max(rate[leader] if leader is not None else rate.max(), 0.05)
    tried = progress.portion > 0
    away = _distances(progress.points, progress.points[tried])
    features = np.stack(
        [
            4 * (mean - level),
            4 * sd,
            4 * (mean - sd - level),
            10 * improvement,
            (lead > 0).mean(axis=0),
            rate,
            forecast.hits,
            4 * np.sqrt(forecast.chance),
            cost / reference / 3,
            progress.portion,
            away,
            np.arange(len(mean)) == leader,
            np.ones(len(mean)),
        ],
        axis=-1,
    )
    there = columns >= 0
    candidates = np.where(there[:, None], features[np.maximum(columns, 0)], 0.0)
    seen = (0.0, 0.0, 0.0, 0.0) if leader is None else (
        rate[leader], forecast.hits[leader], 4 * sd[leader], progress.portion[leader]
    )  # fmt: skip
    session = np.array(
        [
            progress.budget / 8,
            leader is not None,
            *seen,
            tried.sum() / 10,
            np.log10(n_frames) / 3,
            strangeness / 2,
            indexer == "crystfel",
            4 * (mean.max() - level),
            10 * improvement.max(),
            4 * (merits.max(axis=1).mean() - level),
            4 * progress.last_lead,
            penalty / 0.4,
        ]
    )
    return Situation(columns, _clipped(candidates), _clipped(session), leader)


def _put_up(gains: Floats, mean: Floats, sd: Floats, whole: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the sets (CANDIDATES,) that are best in one of several ways; -1 where there are few.

    Half of them are those of the greatest gain, then come in turn the surest, the best expected and
    the most promising ones.
    """
    orders = [np.argsort(-np.where(whole, -np.inf, each), kind="stable")
              for each in (gains, mean - sd, mean, mean + 2 * sd)]  # fmt: skip
    chosen = orders[0][: CANDIDATES // 2].tolist()
    turns = (place for place in np.stack(orders[1:], axis=1).ravel())
    for place in turns:
        if len(chosen) == CANDIDATES:
            break
        if place not in chosen:
            chosen.append(int(place))
    chosen = [place for place in chosen if not whole[place]]
    return np.array(chosen + [-1] * (CANDIDATES - len(chosen)), np.int64)


def _distances(points: Floats, measured: Floats) -> Floats:
    if not len(measured):
        return np.ones(len(points))
    away = np.linalg.norm(points[:, None] - measured[None], axis=-1).min(axis=1)
    return np.asarray(away / np.sqrt(max(points.shape[1], 1)))


def _clipped(values: Floats) -> NDArray[np.float32]:
    return np.clip(values, -2, 2).astype(np.float32)
