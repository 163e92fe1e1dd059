"""What is observed of an evaluation, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.evaluation import Evaluation
from envs.objective import UNINDEXED_HIT_PENALTY, merit

__all__ = ["Reading"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What is observed of an evaluation of each of B tasks; every field an array (B,).

    The names are those of `envs.evaluation.Evaluation`.
    `median_peaks` is of the hits; with `refined_clen`, its standard error and the three
    diagnostics it is NaN where it was not observed.
    """

    n_frames: Array
    n_hits: Array
    n_indexed: Array
    n_decoys: Array
    n_decoys_indexed: Array
    median_peaks: Array
    explained: Array
    residual: Array
    scale_deviation: Array
    refined_clen: Array
    refined_clen_se: Array

    @classmethod
    def of_evaluation(cls, evaluation: Evaluation) -> Reading:
        """Return one evaluation as a batch of one."""
        peaks = [outcome.n_peaks for outcome in evaluation.outcomes if outcome.hit]
        refined, error = evaluation.refined.get("clen", (np.nan, np.nan))
        values = {
            "median_peaks": float(np.median(peaks)) if peaks else np.nan,
            "refined_clen": refined,
            "refined_clen_se": error,
        }
        names = (f.name for f in fields(cls))
        return cls(
            **{
                name: np.array([values.get(name, getattr(evaluation, name, np.nan))], float)
                for name in names
            }
        )

    def merit(self, unindexed_hit_penalty: ArrayLike = UNINDEXED_HIT_PENALTY) -> Array:
        """Return what a search maximises; see `envs.objective.merit`."""
        return np.asarray(
            merit(
                self.n_frames,
                self.n_hits,
                self.n_indexed,
                self.n_decoys,
                self.n_decoys_indexed,
                unindexed_hit_penalty=unindexed_hit_penalty,
            )
        )
