"""How much a session may spend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.session.trial import Trial, frames_spent
from wrappers.errors import InputError

__all__ = ["USUAL_EVALUATIONS", "Budget"]

USUAL_EVALUATIONS = 30
"""The budget of a session where nobody says another."""


@dataclass(frozen=True)
class Budget:
    """When a session has spent enough.

    Attributes
    ----------
    evaluations : int or None
        Evaluations on the tuning sample, the initial design included.
    minutes : float or None
        Wall time, over all resumptions.
    frames : int or None
        Frames indexed, on the tuning sample; see `trial.frames_spent`.

    Raises
    ------
    InputError
        If it is none.
    """

    evaluations: int | None = None
    minutes: float | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "minutes", "frames"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"a budget of {value} {name} is none: give a number above 0")

    @classmethod
    def of(cls, evaluations: int | None, minutes: float | None) -> Budget:
        """Return the budget that was asked for; the usual one where none was."""
        none = evaluations is None and minutes is None
        return cls(USUAL_EVALUATIONS if none else evaluations, minutes)

    def left(self, trials: Sequence[Trial], seconds: float) -> bool:
        """Whether there is any left after these trials and so much wall time."""
        if self.evaluations is not None and len(trials) >= self.evaluations:
            return False
        if self.frames is not None and trials and frames_spent(trials)[-1] >= self.frames:
            return False
        return self.minutes is None or seconds < 60 * self.minutes
