"""What a search maximises: one rule for a session on frames and for thousands of simulated ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from envs.evaluation import Evaluation
from wrappers.errors import InputError
from wrappers.schema import made_by

__all__ = ["UNINDEXED_HIT_PENALTY", "USUAL_MERIT", "Merit", "merit"]

UNINDEXED_HIT_PENALTY = 0.2
"""In indexed frames: five hits that are not indexed outweigh one more indexed frame."""


@dataclass(frozen=True)
class Merit:
    """What a session maximises: the net indexing rate, less a penalty for hits not indexed.

    Sessions, policies and recommendations record it by `as_dict`.

    Attributes
    ----------
    unindexed_hit_penalty : float
        See `merit`.
    """

    name: ClassVar[str] = "net_rate"

    unindexed_hit_penalty: float = UNINDEXED_HIT_PENALTY

    def __post_init__(self) -> None:
        penalty = self.unindexed_hit_penalty
        if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not penalty >= 0:
            raise InputError(
                f"the merit's unindexed_hit_penalty is {penalty!r}, but must be a number of at "
                "least 0"
            )

    def __call__(self, evaluation: Evaluation) -> float:
        """Return the merit of an evaluation, for the whole run; see `merit`."""
        return float(
            merit(
                evaluation.n_frames,
                evaluation.weighted_hits,
                evaluation.weighted_indexed,
                evaluation.n_decoys,
                evaluation.n_decoys_indexed,
                unindexed_hit_penalty=self.unindexed_hit_penalty,
            )
        )

    def as_dict(self) -> dict[str, str | float]:
        """Return plain values, for JSON and TOML."""
        return {"name": self.name, "unindexed_hit_penalty": self.unindexed_hit_penalty}

    @classmethod
    def from_dict(cls, fields: object) -> Self:
        """Return the merit that `as_dict` described.

        Raises
        ------
        InputError
            If this version knows no such merit.
        """
        known = isinstance(fields, Mapping) and set(fields) == {"name", "unindexed_hit_penalty"}
        if not isinstance(fields, Mapping) or not known or fields["name"] != cls.name:
            raise InputError(f"this version knows no merit {fields!r}, but only {cls.name}")
        return cls(fields["unindexed_hit_penalty"])

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return made_by(cls.from_dict)


USUAL_MERIT = Merit()
"""What every session maximises unless it says otherwise."""


def merit(
    n_frames: ArrayLike,
    n_hits: ArrayLike,
    n_indexed: ArrayLike,
    n_decoys: ArrayLike,
    n_decoys_indexed: ArrayLike,
    *,
    unindexed_hit_penalty: ArrayLike = UNINDEXED_HIT_PENALTY,
) -> Any:
    """Return the indexing rate, less what chance alone would index, less a penalty.

    The decoys tell what chance indexes: the share of them that were indexed, times the share of
    frames that are hits. The penalty is for hits that are not indexed: they fill the disk and take
    the indexer's time, 10 to 30 times as much as others with CrystFEL.

    Parameters
    ----------
    n_frames, n_hits, n_indexed, n_decoys, n_decoys_indexed : array_like
        Counts, weighted or not, broadcast against each other.
    unindexed_hit_penalty : array_like of float
        In indexed frames; 0 gives the net indexing rate.
    """
    frames = np.maximum(n_frames, 1)
    hits, indexed = np.asarray(n_hits), np.asarray(n_indexed)
    by_chance = np.asarray(n_decoys_indexed) / np.maximum(n_decoys, 1) * hits
    return (indexed - by_chance - np.asarray(unindexed_hit_penalty) * (hits - indexed)) / frames
