"""One simulated experiment behind the interface that live and recorded ones have."""

from __future__ import annotations

import math

from envs.box import POLICY_PARAMETERS
from envs.evaluation import Evaluation, FrameOutcome
from envs.response.model import ResponseModel
from wrappers.settings import Settings

__all__ = ["ResponseEvaluator"]


class ResponseEvaluator:
    """Evaluates parameter sets on one experiment of the response model.

    Parameters
    ----------
    model : ResponseModel
        Of this one experiment.
    n_frames : int
        Size of the sample.
    draw : int
        Number of the realisation: another one is another sample of the run's frames.
    """

    def __init__(self, model: ResponseModel, *, n_frames: int = 100, draw: int = 0) -> None:
        if len(model) != 1:
            raise ValueError(f"an evaluator is of one experiment, not of {len(model)}")
        self._model, self._n_frames, self._draw = model, n_frames, draw
        self._nominal = float(model.known["clen0"][0])

    @property
    def n_frames(self) -> int:
        """Size of the sample."""
        return self._n_frames

    def evaluate(self, settings: Settings, n_frames: int | None = None) -> Evaluation:
        """Return what the settings give on the first `n_frames` frames, or on all.

        Of the settings only those in `envs.box.POLICY_PARAMETERS` have an effect.
        """
        n = self._n_frames if n_frames is None else min(n_frames, self._n_frames)
        response, frames = self._model.outcomes(self._values(settings), n, self._draw)
        refined = float(response.refined_clen[0])
        return Evaluation(
            settings=settings,
            outcomes=tuple(
                FrameOutcome(i, int(n_peaks), bool(hit), int(indexed))
                for i, (n_peaks, hit, indexed, _) in enumerate(frames[0])
            ),
            n_decoys=int(response.n_decoys[0]),
            n_decoys_indexed=int(response.n_decoys_indexed[0]),
            explained=float(response.explained[0]),
            residual=float(response.residual[0]),
            scale_deviation=float(response.scale_deviation[0]),
            refined={}
            if math.isnan(refined)
            else {"clen": (refined, float(response.refined_clen_se[0]))},
            seconds=float(response.seconds[0]),
            core_seconds=float(response.seconds[0]),
        )

    def truth(self, settings: Settings) -> float:
        """Return the true rate, for those who score a searcher."""
        return float(self._model.evaluate(self._values(settings), 0).true_rate[0])

    def _values(self, settings: Settings) -> dict[str, float]:
        values = {name: getattr(settings, name) for name in POLICY_PARAMETERS}
        return values | {"clen": self._nominal if settings.clen is None else settings.clen}
