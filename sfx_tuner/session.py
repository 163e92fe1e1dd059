"""A session, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tuner.recommendation import Recommendation, read_recommendation
from tuner.session.config import SessionConfig
from tuner.session.store import SessionStore
from tuner.session.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Session"]


class Session:
    """A session on disk: what was asked, what was measured, what is recommended.

    It shows the session as it was when it was opened, or when `resume` ended.

    Parameters
    ----------
    store : SessionStore

    Examples
    --------
    >>> session = Session.open("session")  # doctest: +SKIP
    >>> session.trials[["min_snr", "indexing_rate"]]  # doctest: +SKIP
    """

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Open a session's directory.

        Raises
        ------
        InputError
            If it holds no session, or a damaged one.
        """
        return cls(SessionStore.open(Path(directory)))

    @property
    def directory(self) -> Path:
        """Where the session is."""
        return self._store.directory

    @property
    def config(self) -> SessionConfig:
        """What the session was asked to do."""
        return self._store.config

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: parameter set, counts, rates and diagnostics, as in ``trials.csv``."""
        return self._store.table()

    @property
    def recommendation(self) -> Recommendation | None:
        """What is recommended; None as long as there is no recommended.toml.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        file = self.directory / "recommended.toml"
        return read_recommendation(file) if file.exists() else None

    def resume(
        self,
        *,
        evaluations: int | None = None,
        minutes: float | None = None,
        jobs: int = 1,
        on_trial: Callable[[Trial], None] = lambda trial: None,
    ) -> Recommendation | None:
        """Go on with the session, and return what it recommends then.

        Parameters
        ----------
        evaluations, minutes : optional
            The budget of the whole session; by default the one that it was begun with.
        jobs : int
            Worker processes.
        on_trial : callable
            Called with each new trial.

        Raises
        ------
        InputError
            If the inputs are no longer those that it was begun with, or another process is
            writing it.
        ProgramError
            If the indexer cannot be run.
        """
        from tuner.session.budget import Budget
        from tuner.session.request import begun_with
        from tuner.tuning import tune

        request, budget = begun_with(self.config)
        if evaluations is not None or minutes is not None:
            budget = Budget(evaluations, minutes)
        recommendation = tune(
            request, self.directory, budget=budget, jobs=jobs, resume=True, on_trial=on_trial
        )
        self._store = SessionStore.open(self.directory)
        return recommendation
