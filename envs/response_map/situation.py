"""What a session that goes by a response map stands before: a few sets worth measuring, and why.

The numbers are of merits, errors and costs, not of parameters: they mean the same in another box,
for other tuned parameters and for any number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.response_map.gains import ENOUGH, UNINDEXED_COST, gains_of
from envs.response_map.session import MapSession
from envs.response_map.session_map import Forecast

__all__ = [
    "CANDIDATES",
    "CANDIDATE_FEATURES",
    "N_ACTIONS",
    "PORTIONS",
    "SESSION_FEATURES",
    "STOP",
    "Situation",
    "chosen",
    "leader_of",
    "situation",
]

Floats = NDArray[np.float64]

CANDIDATES = 16
"""Sets that are put up for choice."""

PORTIONS = (0.125, 0.25, 0.5, 1.0)
"""Of the sample's frames, that a set can be measured on."""

STOP = CANDIDATES * len(PORTIONS)
"""The action that ends the session."""

N_ACTIONS = STOP + 1

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
    "gain",
    "first",
    "possible",
)
"""Of a set: expected merit less the leader's, its error, their difference; expected improvement
and the chance of one; expected rate, hits, luck with the sample, cost in the leader's; the portion
of the frames that it was measured on; distance to the nearest measured set; whether it leads; what
the map's own rule thinks of it, and whether it would take it; whether there is a set at this
place."""

SESSION_FEATURES = (
    "budget",
    "has_leader",
    "leader_rate",
    "leader_hits",
    "leader_sd",
    "leader_portion",
    "n_tried",
    "strangeness",
    "crystfel",
    "best_mean",
    "best_improvement",
    "best_possible",
    "best_gain",
)
"""Of the session: budget left in whole evaluations; of the set that leads, whether there is one,
its rate, hits, error, portion measured; sets tried; how unlike the fitted runs this one is; whether
CrystFEL indexes; most that any set is expected to gain, the greatest expected improvement, what
knowing every set would gain, and the greatest gain for its cost by the map's own rule."""

SURE_SHARE = 0.7

Place = CANDIDATE_FEATURES.index
MOST = 2.0
"""No feature is larger."""


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
    forecast : Forecast
        Of all the map's sets.
    gain, enough : float
        The greatest gain by the map's own rule, and below which there is nothing to gain.
    """

    columns: NDArray[np.int64]
    candidates: NDArray[np.float32]
    session: NDArray[np.float32]
    leader: int | None
    forecast: Forecast
    gain: float
    enough: float

    @property
    def leader_is_whole(self) -> bool:
        """Whether the leader was measured on all frames."""
        return bool(self.session[SESSION_FEATURES.index("leader_portion")] >= 1)

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Which actions (N_ACTIONS,) there are; the last is to stop."""
        portion = self.candidates[:, Place("portion")]
        more = np.array(PORTIONS) > portion[:, None] + 1e-6
        there = (self.columns >= 0)[:, None] & more
        return np.append(there.ravel(), self.leader is not None or not there.any())

    def rule(self) -> int:
        """Return the action of the map's own rule: the greatest gain, on an eighth of the frames.

        It is what an agent is begun with.
        """
        if self.leader is not None and self.gain < self.enough:
            return STOP
        first = np.flatnonzero(self.allowed)
        return int(first[0])


def chosen(action: int) -> tuple[int, float]:
    """Return the place of the candidate that an action measures, and on which portion of frames."""
    place, portion = divmod(int(action), len(PORTIONS))
    return place, PORTIONS[portion]


def leader_of(forecast: Forecast, portion: Floats, penalty: float) -> int | None:
    """Return which of the measured sets is to be recommended, or None if none was measured.

    It is the one whose merit is highest with `SURE_SHARE` of what the map holds possible: of a set
    measured on few frames only the map speaks for the others. Mean and standard deviation would
    hang on a draw or two in which next to nothing is indexed.
    """
    tried = np.flatnonzero(portion > 0)
    if not len(tried):
        return None
    sure = np.quantile(forecast.merits(penalty)[:, tried], 1 - SURE_SHARE, axis=0)
    return int(tried[np.argmax(sure)])


def situation(session: MapSession, budget: float, indexer: str = "") -> Situation:
    """Return what is up for choice in a session.

    Parameters
    ----------
    session : MapSession
    budget : float
        What is left, in evaluations on all frames.
    indexer : {"", "fast", "crystfel"}
        Whose costs are reckoned with; the session's own by default.
    """
    indexer = indexer or session.indexer
    penalty = session.penalty
    forecast, measured = session.survey()
    portion = _portions(measured, len(session.map.look.frames))
    tried = portion > 0
    possible = session.possible(np.flatnonzero(measured >= 1)) & (portion < 1)
    points = session.points()
    merits = forecast.merits(penalty)
    mean, sd = merits.mean(axis=0), merits.std(axis=0)
    leader = leader_of(forecast, portion, penalty)
    lead = merits - (0.0 if leader is None else merits[:, [leader]])
    improvement = np.maximum(lead, 0).mean(axis=0)
    level = 0.0 if leader is None else mean[leader]
    rate = forecast.mean
    cost = forecast.hits + UNINDEXED_COST[indexer] * np.maximum(forecast.hits - rate, 0)
    reference = max(rate.max() if leader is None else rate[leader], 0.05)
    gains = gains_of(forecast, np.flatnonzero(tried), possible & ~tried, penalty, indexer)
    # What was measured on a part of the frames and may be better yet is worth some more of them.
    again = possible & tried
    gains[again] = (improvement / np.maximum(cost / reference, 0.5))[again]
    columns = _put_up(gains, mean, sd, possible, leader)
    there = columns >= 0
    shown = np.maximum(columns, 0)
    features = np.stack(
        [
            4 * (mean - level)[shown],
            4 * sd[shown],
            4 * (mean - sd - level)[shown],
            _of_small(improvement[shown]),
            (lead > 0).mean(axis=0)[shown],
            rate[shown],
            forecast.hits[shown],
            4 * np.sqrt(forecast.chance[shown]),
            cost[shown] / reference / 3,
            portion[shown],
            _distances(points[shown], points[tried]),
            shown == (-1 if leader is None else leader),
            _of_small(gains[shown]),
            (shown == np.argmax(gains)) & (gains[shown] > -np.inf),
            np.ones(CANDIDATES),
        ],
        axis=-1,
    )
    candidates = np.where(there[:, None], features, 0.0)
    seen = (0.0, 0.0, 0.0, 0.0) if leader is None else (
        rate[leader], forecast.hits[leader], 4 * sd[leader], portion[leader]
    )  # fmt: skip
    gain = float(gains.max(initial=-1.0))
    of_session = np.array(
        [
            budget / 8,
            leader is not None,
            *seen,
            tried.sum() / 10,
            session.map.strangeness / 2,
            indexer == "crystfel",
            4 * (mean.max() - level),
            float(_of_small(improvement.max())),
            4 * (merits.max(axis=1).mean() - level),
            float(_of_small(gain)),
        ]
    )
    return Situation(
        columns, _clipped(candidates), _clipped(of_session), leader, forecast, gain, ENOUGH[indexer]
    )


def _portions(measured: Floats, n_frames: int) -> Floats:
    """Return the least of `PORTIONS` that is no fewer frames than were measured; 0 for none.

    It is 1 where all were, only.
    """
    frames = np.maximum(np.rint(np.array(PORTIONS) * n_frames), 1)
    place = np.searchsorted(frames, np.rint(measured * n_frames))
    found = np.array(PORTIONS)[np.minimum(place, len(PORTIONS) - 2)]
    return np.where(measured >= 1, 1.0, np.where(measured > 0, found, 0.0))


def _put_up(
    gains: Floats, mean: Floats, sd: Floats, possible: NDArray[np.bool_], leader: int | None
) -> NDArray[np.int64]:
    """Return the sets (CANDIDATES,) that are best in one of several ways; -1 where there are few.

    Half of them are those of the greatest gain, then comes the leader, where it was measured on a
    part of the frames, and in turn the surest, the best expected and the most promising ones.
    """
    orders = [
        np.argsort(-np.where(possible, each, -np.inf), kind="stable")
        for each in (mean - sd, mean, mean + 2 * sd)
    ]
    first = np.argsort(-gains, kind="stable")[: CANDIDATES // 2]
    wanted = [int(place) for place in first if gains[place] > -np.inf]
    if leader is not None:
        wanted.append(leader)
    wanted += np.stack(orders, axis=1)[: 2 * CANDIDATES].ravel().tolist()
    put_up = [place for place in dict.fromkeys(wanted) if possible[place]][:CANDIDATES]
    return np.array(put_up + [-1] * (CANDIDATES - len(put_up)), np.int64)


def _distances(points: Floats, measured: Floats) -> Floats:
    if not len(measured):
        return np.ones(len(points))
    away = np.linalg.norm(points[:, None] - measured[None], axis=-1).min(axis=1)
    return np.asarray(away / np.sqrt(max(points.shape[1], 1)))


def _of_small(gain: Floats | float) -> Floats:
    """Return merits on a log scale: 0 for a tenth of a point, 1 for three points."""
    return np.asarray(np.log10(np.maximum(gain, 1e-4) / 1e-3) / 1.5)


def _clipped(values: Floats) -> NDArray[np.float32]:
    return np.clip(values, -MOST, MOST).astype(np.float32)
